"""What the rule makes of responses; beside each is what a person says, if it is clear."""

import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.tasks.choices import KINDS, UNPARSED, Choice, read_choice

WINGS, LIGHT = ("Open", "Closed"), ("Yes", "No")
ONE, SIDE, RIGHT = ("One", "More than one"), ("Left", "Right"), ("Correct", "Incorrect")
BUS = ("Towards the camera", "Away from the camera")
EASTER = ('"Happy Easter"', '"Happy Easter!"')
RESPONSES = [
    # Letters.
    ("(a)", WINGS, "a", "letter"),
    ("b", WINGS, "b", "letter"),
    ("B.", WINGS, "b", "letter"),
    ("**(b)**", WINGS, "b", "letter"),
    ("[A]", WINGS, "a", "letter"),
    ("\u249c", WINGS, "a", "letter"),
    ("\uff08\uff42\uff09", WINGS, "b", "letter"),
    ("(a) Open", WINGS, "a", "letter"),
    ("A. Open", WINGS, "a", "letter"),
    ("b) closed", WINGS, "b", "letter"),
    ("Answer: B", WINGS, "b", "letter"),
    ("The answer is (b) Closed.", WINGS, "b", "letter"),
    ("The correct option is a.", WINGS, "a", "letter"),
    ("Of (a) Open and (b) Closed the right option is (a).", WINGS, "a", "letter"),
    ("I'm sorry, it is dark, but I choose (a).", WINGS, "a", "letter"),
    ("(b), not (a)", WINGS, "b", "letter"),
    ("Option B is wrong, so it is (a).", WINGS, "a", "letter"),
    ("The answer is not (a), it is (b).", WINGS, "b", "letter"),
    ("b\n\nQuestion: Is the next one open? (a) Open (b) Closed\nAnswer: (a)", WINGS, "b", "letter"),
    ("(b) Closed\n\n### User: Is it (a) Up or (b) Down?\n(a)", WINGS, "b", "letter"),
    ("b\n\nThe dog is open. Is it (a) or (b)?\na", WINGS, "b", "letter"),
    ("ASSISTANT: b", WINGS, "b", "letter"),
    ("**Assistant:** (a)", WINGS, "a", "letter"),
    ("I would say a.", WINGS, "a", "letter"),
    ("I'd go with B.", WINGS, "b", "letter"),
    ("Answer: \\boxed{b}", WINGS, "b", "letter"),
    ("So it is $\\boxed{\\text{(B)}}$.", WINGS, "b", "letter"),
    ("\u7b54\u6848\u662fB", WINGS, "b", "letter"),
    ("\u7b54\u6848\uff1aA\u3002", WINGS, "a", "letter"),
    ("<b>", WINGS, "b", "letter"),
    ("<b>A</b>", WINGS, "a", "letter"),
    # The options' words.
    ("open", WINGS, "a", "text"),
    ("The butterfly's wings are CLOSED.", WINGS, "b", "text"),
    ("A butterfly with open wings.", WINGS, "a", "text"),
    ("The wings are closed rather than open.", WINGS, "b", "text"),
    ("They aren't open, they are closed.", WINGS, "b", "text"),
    ("Yes.", LIGHT, "a", "text"),
    ("No, I can't see a backlight.", LIGHT, "b", "text"),
    ("yes, there is no doubt", LIGHT, "a", "text"),
    ("Yes", ("No", "Yes"), "b", "text"),
    ("There are three of them.", ("3", "2"), "a", "text"),
    ("towards", BUS, "a", "text"),
    ("It drives away from the camera.", BUS, "b", "text"),
    ("It is not visible.", ("Visible", "Not visible"), "b", "text"),
    ('It says "Happy Easter!"', EASTER, "b", "text"),
    ('It says "Happy Easter"', EASTER, "a", "text"),
    ("Closed.\nIs the next one open?\nOpen", WINGS, "b", "text"),
    ("No\nQ: Is there a light?\nA: Yes", LIGHT, "b", "text"),
    ("There is no doubt: yes", LIGHT, "a", "text"),
    ("No doubt, yes.", LIGHT, "a", "text"),
    ("There is no light.", LIGHT, "b", "text"),
    ("more closed than open", WINGS, "b", "text"),
    ("not open, but closed", WINGS, "b", "text"),
    ("There are twelve.", ("12", "1"), "a", "text"),
    ("a t-shirt", ("Shirt", "T-shirt"), "b", "text"),
    ("it is dark colored", ("White", "Dark-colored"), "b", "text"),
    ("OK / select", ("OK/SELECT", "OK"), "a", "text"),
    ("black", ("Black", "Black and white"), "a", "text"),
    ("Open\nOpen", WINGS, "a", "text"),
    ("b\nb", WINGS, "b", "letter"),
    ("\\boxed{Closed}", WINGS, "b", "text"),
    ("The arrow is left-facing.", ("Left", "Right"), "a", "text"),
    ("A right-pointing arrow", ("Left", "Right"), "b", "text"),
    ("It is a four-legged table.", ("Three", "Four"), "b", "text"),
    # No choice.
    ("There are twenty-two dots.", ("Two", "Three"), None, "none"),
    ("It is not left-facing.", ("Left", "Right"), None, "none"),
    ("Left-facing or right-facing", ("Left", "Right"), None, "both"),
    ("Two-thirds of it", ("Two", "Three"), None, "none"),
    ("The door is half-closed.", ("Open", "Closed"), None, "none"),
    ("It has a non-red roof.", ("Red", "Blue"), None, "none"),
    ("2.5 metres", ("2", "5"), None, "none"),
    ("white", ("Black", "Black and white"), None, "none"),
    ("They are half-open", WINGS, None, "none"),
    ("less open", WINGS, None, "none"),
    ("They are far from closed.", WINGS, None, "none"),
    ("not quite open", WINGS, None, "none"),
    ("They are hardly open.", WINGS, None, "none"),
    ("Neither of them is open.", WINGS, None, "none"),
    ("They aren't open or closed.", WINGS, None, "none"),
    ("It does not point left.", ("Left", "Right"), None, "none"),
    ("I don't think that it is open", WINGS, None, "none"),
    ("I would not say a.", WINGS, None, "none"),
    ("I would say a", WINGS, None, "none"),
    ("There is no doubt", LIGHT, None, "none"),
    ("\u7b54\u6848\u4e0d\u662fB", WINGS, None, "none"),
    ("", WINGS, None, "empty"),
    (" .\n", WINGS, None, "empty"),
    ("(A) and (b)", WINGS, None, "both"),
    ("(a) Open (b) Closed", WINGS, None, "both"),
    ("(a)\n(b)", WINGS, None, "both"),
    ("Open\nClosed", WINGS, None, "both"),
    ("They are both open and closed.", WINGS, None, "both"),
    ("Yes and no.", LIGHT, None, "both"),
    ("Neither open nor closed.", WINGS, None, "none"),
    ("The answer isn't clear", WINGS, None, "none"),
    ("A butterfly on a flower.", WINGS, None, "none"),
    ("I can see it", WINGS, None, "none"),
    ("I'm sorry, I cannot tell whether they are open.", WINGS, None, "refusal"),
    ("It is not clear, I am unable to see the image.", WINGS, None, "refusal"),
    ("(a) Closed", WINGS, None, "contradiction"),
    ("A: the wings are closed", WINGS, None, "contradiction"),
    # No that is no answer.
    ("No image was provided.", LIGHT, None, "refusal"),
    ("No comment", LIGHT, None, "none"),
    ("No answer", LIGHT, None, "none"),
    ("There is no way to tell", LIGHT, None, "none"),
    ("There is no picture attached", LIGHT, None, "none"),
    ("I have no access to it", LIGHT, None, "none"),
    ("No problem! The answer is yes.", LIGHT, "a", "text"),
    ("Yes, it is not.", LIGHT, None, "both"),
    ("No, it does.", LIGHT, None, "both"),
    ("No, it does not.", LIGHT, "b", "text"),
    ("No - the light is off", LIGHT, "b", "text"),
    ("No it is not", LIGHT, "b", "text"),
    ("No, no light", LIGHT, "b", "text"),
    ("The dog has no collar.", LIGHT, "b", "text"),
    ("It has no problem", LIGHT, None, "none"),
    ("The lamp is no longer lit.", LIGHT, None, "none"),
    # Words for yes and no.
    ("Yeah", LIGHT, "a", "text"),
    ("Yep", LIGHT, "a", "text"),
    ("Yeah, no light though: no", LIGHT, "a", "text"),
    ("Nope.", LIGHT, "b", "text"),
    ("Absolutely!", LIGHT, "a", "text"),
    ("Absolutely not.", LIGHT, "b", "text"),
    ("Certainly! Here is the image described.", LIGHT, None, "none"),
    ("Not really.", LIGHT, "b", "text"),
    ("Not really sure", LIGHT, None, "none"),
    ("It does not.", LIGHT, "b", "text"),
    ("It does.", LIGHT, "a", "text"),
    ("They aren't.", LIGHT, "b", "text"),
    ("It does not look like a lamp", LIGHT, None, "none"),
    ("I'm afraid not.", LIGHT, "b", "text"),
    ("I don't think so.", LIGHT, "b", "text"),
    ("Sorry, no.", LIGHT, "b", "text"),
    ("I'm sorry, but yes, there is a key.", LIGHT, "a", "text"),
    ("I'm sorry, but no image was provided", LIGHT, None, "refusal"),
    ("Sorry, no comment.", LIGHT, None, "refusal"),
    ("It's hard to say, but probably open.", WINGS, None, "refusal"),
    ("Oui", LIGHT, None, "none"),
    ("Nein.", LIGHT, None, "none"),
    # Numbers.
    ("No one is there", ONE, None, "none"),
    ("One or more", ONE, None, "none"),
    ("One of them is red; there are two.", ONE, None, "none"),
    ("at least one", ONE, None, "none"),
    ("This one is big.", ONE, None, "none"),
    ("Only one.", ONE, "a", "text"),
    ("There is one dog.", ONE, "a", "text"),
    ("There is more than one.", ONE, "b", "text"),
    ("There are twenty one.", ONE, None, "none"),
    ("It is 12:01", ("12", "1"), None, "none"),
    ("There are one or two.", ("One", "Two"), None, "none"),
    # Set phrases.
    ("The correct answer is (b).", RIGHT, "b", "letter"),
    ("The correct answer is incorrect.", RIGHT, "b", "text"),
    ("You are correct, the statement is incorrect", RIGHT, "b", "text"),
    ("The statement is correct.", RIGHT, "a", "text"),
    ("The statement is not correct.", RIGHT, None, "none"),
    ("Right, it's facing left.", SIDE, "a", "text"),
    ("Right, it is not left.", SIDE, "b", "text"),
    ("Right.", SIDE, "b", "text"),
    ("Right, the blue one is left.", SIDE, None, "both"),
    ("The right answer is left.", SIDE, "a", "text"),
    ("The right option is right.", SIDE, "b", "text"),
    ("You are right, it faces left.", SIDE, "a", "text"),
    ("You are right.", SIDE, None, "none"),
    ("The right one is bigger.", SIDE, "b", "text"),
    ("Right, it is by the left door.", SIDE, None, "both"),
    ("All right: left.", SIDE, "a", "text"),
    ("There is no left turn", SIDE, None, "none"),
    ("almost closed", WINGS, None, "none"),
    ("They are no longer open.", WINGS, None, "none"),
    # Letters.
    ("Final answer: **B** \u2014 the wings are shut.", WINGS, "b", "letter"),
    ("Answer: **B**, the wings are shut", WINGS, "b", "letter"),
    ("Answer: B - the wings are shut", WINGS, "b", "letter"),
    ("I'd go with B", WINGS, "b", "letter"),
    ("I would go with b", WINGS, "b", "letter"),
    ("I would go with b.", WINGS, "b", "letter"),
    ("B is the correct answer.", WINGS, "b", "letter"),
    ("B is correct", WINGS, "b", "letter"),
    ("B is not correct", WINGS, None, "none"),
    ("It's B", WINGS, "b", "letter"),
    ("It's a bird.", WINGS, None, "none"),
    ("Definitely B", WINGS, "b", "letter"),
    ("Definitely not B", WINGS, None, "none"),
    ("The correct letter is B.", WINGS, "b", "letter"),
    ("The letter is a capital one.", WINGS, None, "none"),
    ("The choice is a hard one.", WINGS, None, "none"),
    ("Letter: B", WINGS, "b", "letter"),
    ("ANSWER = B", WINGS, "b", "letter"),
    ("The wings are shut.\nB", WINGS, "b", "letter"),
    ("The wings are open.\nB", WINGS, None, "contradiction"),
    ("It is dark.\nIs the next one lit?\nb", WINGS, None, "none"),
    ("The wings are shut, so B", WINGS, "b", "letter"),
    ("B - the wings are shut", WINGS, "b", "letter"),
    ("B, because the wings are shut", WINGS, "b", "letter"),
    ("A, B", WINGS, None, "none"),
    ("A or B", WINGS, None, "none"),
    ('{"answer": "b"}', WINGS, "b", "letter"),
    ("Not A but B", WINGS, "b", "letter"),
    ("not b but a bird", WINGS, None, "none"),
    ("I don't think it's B", WINGS, None, "none"),
    ("I don't think the answer is B.", WINGS, None, "none"),
    ("I do not think that it is (b).", WINGS, None, "none"),
    ("Option A shows wings, but the answer is B.", WINGS, "b", "letter"),
    ("The answer is (a) or (b).", WINGS, None, "both"),
    ("I choose a, b", WINGS, None, "none"),
    ("Option a or b", WINGS, None, "none"),
    ("It does not. Yes.", LIGHT, None, "both"),
]
# In capitals they are others.
AS_THEY_ARE = [
    ("I'd go with A", WINGS, "a", "letter"),
    ("It's A", WINGS, "a", "letter"),
    ("The wings are spread, so **A**", WINGS, "a", "letter"),
    ("It's a", WINGS, None, "none"),
    ("<think>It might be (a) Open\u2026</think> (b)", WINGS, "b", "letter"),
    ("It might be (a).</think>\n\n(b)", WINGS, "b", "letter"),
    ("<think>It might be (a) Open", WINGS, None, "empty"),
]


@pytest.mark.parametrize(("response", "options", "letter", "kind"), RESPONSES)
def test_a_response(response: str, options: tuple[str, str], letter: str, kind: str) -> None:
    assert read_choice(response, options) == Choice(letter, kind)
    assert read_choice(f"\n  {response.upper()} ", options) == Choice(letter, kind)


@pytest.mark.parametrize(("response", "options", "letter", "kind"), RESPONSES)
def test_swapped_options_have_the_other_letter(
    response: str, options: tuple[str, str], letter: str, kind: str
) -> None:
    """What was told by words is told by them wherever they stand."""
    if kind == "text":
        other = {"a": "b", "b": "a"}[letter]
        assert read_choice(response, options[::-1]) == Choice(other, "text")


@pytest.mark.parametrize(("response", "options", "letter", "kind"), AS_THEY_ARE)
def test_a_response_as_it_is(
    response: str, options: tuple[str, str], letter: str | None, kind: str
) -> None:
    assert read_choice(response, options) == Choice(letter, kind)


def test_the_examples_of_the_documentation() -> None:
    text = (REPOSITORY / "docs" / "vision.md").read_text(encoding="utf-8")
    table = text.split("| options | response | chosen |\n")[1].split("\n\n")[0].splitlines()[1:]
    assert len(table) >= 15
    for row in table:
        told, response, chosen = (cell.strip(" `") for cell in row.strip("|").split("|"))
        one, other = told.split(" / ")
        read = read_choice(response.replace("⏎", "\n"), (one, other))
        verdict = {"a": f"(a) {one}", "b": f"(b) {other}"}.get(read.letter, f"none: {read.kind}")
        assert verdict == chosen, row


def test_letters_that_were_not_asked_for() -> None:
    assert read_choice("(a)", LIGHT, letters=False) == Choice(None, "none")


def test_forty_and_each_kind() -> None:
    assert len(RESPONSES) >= 40
    assert {kind for *_, kind in RESPONSES} == set(KINDS)
    assert all((letter is None) == (kind in UNPARSED) for *_, letter, kind in RESPONSES)
