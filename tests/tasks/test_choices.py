"""What the rule makes of responses; each has its verdict beside it."""

import pytest

from verbalizer_bench.tasks.choices import KINDS, UNPARSED, Choice, read_choice

WINGS, LIGHT = ("Open", "Closed"), ("Yes", "No")
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


def test_letters_that_were_not_asked_for() -> None:
    assert read_choice("(a)", LIGHT, letters=False) == Choice(None, "none")


def test_forty_and_each_kind() -> None:
    assert len(RESPONSES) >= 40
    assert {kind for *_, kind in RESPONSES} == set(KINDS)
    assert all((letter is None) == (kind in UNPARSED) for *_, letter, kind in RESPONSES)
