"""A rendered prompt holds what was asked, whatever kind of template a checkpoint has."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from tests.helpers.asking import requests
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.chat.template import DATE, ChatTemplate, TextLostError
from verbalizer_bench.models.checkpoints.compose import extract_llm

LOOP = (
    "{% for m in messages %}{{ '[' + m['role'] + ']' }}CONTENT"
    "{{ '[/' + m['role'] + ']' }}{% endfor %}"
)


def loop(content: str) -> str:
    """Return a template that writes each turn's content so, between marks of its role."""
    return LOOP.replace("CONTENT", content)


STRINGS = loop("{{ m['content'] | trim }}")
ADDED = loop("{{ '' + m['content'] }}")
PARTS = loop(
    "{% for p in m['content'] | selectattr('type', 'equalto', 'image') %}<image>{% endfor %}"
    "{% for p in m['content'] | selectattr('type', 'equalto', 'text') %}{{ p['text'] }}{% endfor %}"
)
INDEXED = loop("{{ m['content'][0]['text'] }}")
BOTH = loop(
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{{ '<image>' if p['type'] == 'image' else p['text'] }}{% endfor %}{% endif %}"
)
NO_SYSTEM = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"
SYSTEM_RAISES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + STRINGS
)
LAST_ONLY = "{{ messages[-1]['content'] }}"
ALTERNATING = (
    "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}" + STRINGS
)
REVERSED = "{% for m in messages | reverse %}{{ m['content'] }}{% endfor %}"
REFUSES_GOOD = (
    "{% if 'good' in messages[0]['content'] %}{{ raise_exception('not good') }}{% endif %}"
    + STRINGS
)
# Mistral's: the system text stands in the last question.
SYSTEM_LAST = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% for m in messages if m['role'] != 'system' %}"
    "{{ system if loop.last else '' }}{{ m['content'] }}{% endfor %}"
)
USER = [{"role": "user", "content": " Is it good?\n\nAnswer: "}]
SYSTEM = {"role": "system", "content": "Be brief."}
SHOTS = [
    {"role": "user", "content": "Is it bad?"},
    {"role": "assistant", "content": "yes"},
    *USER,
]
IMAGE = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]


def chat(template: str, slot: str | None = None, **arguments: Any) -> ChatTemplate:
    return ChatTemplate(
        template, {"bos_token": "<s>"}, "pretrained=DIR", image_slot=slot, arguments=arguments
    )


@pytest.mark.parametrize(
    ("template", "form"),
    [(STRINGS, "strings"), (ADDED, "strings"), (BOTH, "strings")]
    + [(PARTS, "parts"), (INDEXED, "parts")],
)
@pytest.mark.parametrize("messages", [USER, [SYSTEM, *USER], SHOTS])
def test_a_text_is_given_as_the_template_takes_it(
    template: str, form: str, messages: list[dict[str, str]]
) -> None:
    found = chat(template)
    text = found.render(messages)
    for message in messages:
        assert message["content"].strip() in text
    assert "type" not in text, "no list is written as Python prints it"
    assert found.record()["contents"] == [form]


@pytest.mark.parametrize(
    ("template", "text", "form"),
    [
        (PARTS, "[user]<image>What?[/user]", "parts"),
        (BOTH, "[user]<image>What?[/user]", "parts"),
        (ADDED, "[user]<image>\nWhat?[/user]", "strings, image token written in"),
        (STRINGS, "[user]<image>\nWhat?[/user]", "strings, image token written in"),
    ],
)
def test_an_image_is_written_in_where_the_template_takes_strings(
    template: str, text: str, form: str
) -> None:
    found = chat(template, slot="<image>")
    assert found.render(IMAGE) == text
    assert found.record()["contents"] == [form]


@pytest.mark.parametrize(
    ("template", "messages", "fault"),
    [
        (NO_SYSTEM, [SYSTEM, *USER], r"no system turn: .*--system_instruction.*correct the templ"),
        (SYSTEM_RAISES, [SYSTEM, *USER], r"no system turn \(TemplateError: System role not supp"),
        (LAST_ONLY, SHOTS, "does not write the text of a user turn"),
        ("hello", USER, "does not write the text of a user turn"),
        (ALTERNATING, SHOTS, r"one turn only; .*--fewshot_as_multiturn false"),
        ("{% for m in messages %}{{ m['content'] }", USER, "TemplateSyntaxError"),
        ("{{ messages[0]['content']['text']['deep'] }}", USER, "UndefinedError"),
        ("{{ messages[0]['content'] + 1 }}", USER, "TypeError"),
        ("{{ messages[9]['content'] }}", USER, "does not write the text|UndefinedError"),
        ("{{ 1 // 0 }}", USER, "ZeroDivisionError"),
        ("{{ messages.__class__.__mro__ }}", USER, "SecurityError|does not write"),
        ("{% break %}", USER, "cannot be rendered: SyntaxError"),
        (REVERSED, SHOTS, "writes the turns in another order"),
        (REFUSES_GOOD, USER, "cannot be rendered: TemplateError: not good; correct the template"),
    ],
)
def test_a_fault_is_a_line_that_names_the_template(
    template: str, messages: list[dict[str, str]], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault) as found:
        chat(template).render(messages)
    assert str(found.value).startswith("pretrained=DIR: its chat template ")
    assert "\n" not in str(found.value)


def test_a_system_text_may_stand_in_the_last_question() -> None:
    assert chat(SYSTEM_LAST).render([SYSTEM, *SHOTS]).startswith("Is it bad?yesBe brief. Is it goo")


def test_an_argument_that_rendering_sets_is_refused() -> None:
    with pytest.raises(ValueError, match="chat_template_args has 'messages', which rendering sets"):
        chat(STRINGS, messages=[])


def test_slots_that_are_not_the_images_are_refused() -> None:
    with pytest.raises(ValueError, match="2 image slots for 1 images"):
        chat("<image>" + PARTS, slot="<image>").render(IMAGE)


def test_a_mark_of_the_templates_own_is_not_replaced_by_ours() -> None:
    other = PARTS.replace("<image>", "<start_of_image>")
    with pytest.raises(
        ValueError, match=r"0 image slots for 1 images \(an image is '<image>' here"
    ):
        chat(other, slot="<image>").render(IMAGE)
    # Taken as strings without the system turn: that is not what is wrong.
    either = BOTH.replace("<image>", "<start_of_image>")
    with pytest.raises(ValueError, match="0 image slots for 1 images"):
        chat(either, slot="<image>").render([SYSTEM, *IMAGE])
    assert "<start_of_image>What?" in chat(other, slot="<start_of_image>").render(IMAGE)


def test_a_template_that_takes_parts_and_knows_no_images_gets_the_token_in_the_text() -> None:
    text_parts = loop(
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}{% endif %}"
    )
    assert chat(text_parts, slot="<image>").render(IMAGE) == "[user]<image>\nWhat?[/user]"


def test_a_text_that_the_template_changes_is_refused() -> None:
    found = chat("{% for m in messages %}{{ m['content'].split('</think>')[-1] }}{% endfor %}")
    assert found.render(USER).strip() == USER[0]["content"].strip()
    with pytest.raises(TextLostError, match="changes the text of a user turn: 'a </think> b'"):
        found.render([{"role": "user", "content": "a </think> b"}])


def test_a_turn_that_is_to_be_continued_stays_open() -> None:
    messages = [*USER, {"role": "assistant", "content": "The answer is"}]
    for template in (STRINGS, PARTS):
        text = chat(template).render(messages, add_generation_prompt=False)
        assert text.endswith("[assistant]The answer is")


TODAY = "{{ strftime_now('%d %b %Y') }} " + STRINGS
OWN_DATE = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ date_string }} " + STRINGS
)


@pytest.mark.parametrize("template", [TODAY, OWN_DATE])
def test_the_date_is_fixed_and_recorded(template: str) -> None:
    found = chat(template)
    assert found.render(USER).startswith("26 Jul 2024 [user]")
    assert found.render_with_assistant_spans(USER)[0].startswith("26 Jul 2024 [user]")
    assert found.record()["date"] == "2024-07-26" == f"{DATE:%Y-%m-%d}"
    assert chat_template_utils.datetime is datetime, "others get today's date again"


def test_the_date_of_a_probe_is_in_no_prompt() -> None:
    """Granite writes the date where it is given no system turn."""
    found = chat(
        "{% if messages[0]['role'] != 'system' %}{{ strftime_now('%Y') }}{% endif %}" + BOTH
    )
    found.render([SYSTEM, *USER])
    assert found.turn_end() and found.record()["date"] is None
    found.render(USER)
    assert found.record()["date"] == "2024-07-26"


def test_a_date_of_the_users_own_is_an_argument() -> None:
    found = chat(OWN_DATE, date_string="1 Jan 2030")
    assert found.render(USER).startswith("1 Jan 2030 [user]")
    assert found.record() == {
        "contents": ["strings"],
        "date": None,
        "arguments": {"date_string": "1 Jan 2030"},
    }


def llm(folder: Path, template: Any) -> VerbalizerLLM:
    lm = VerbalizerLLM(pretrained=str(folder), dtype="float32", device="cpu")
    lm.tokenizer.chat_template = template
    return lm


def test_the_text_adapter_renders_so(toys: tuple[Path, Path]) -> None:
    lm = llm(toys[0], PARTS)
    assert lm.apply_chat_template(USER) == f"[user]{USER[0]['content']}[/user]"
    assert lm.get_model_info()["verbalizer_bench"]["rendering"] == {
        "contents": ["parts"],
        "date": None,
        "arguments": {},
    }
    # lm-eval's own adapter drops the system turn that a template refuses, and goes on.
    lm.tokenizer.chat_template = SYSTEM_RAISES
    with pytest.raises(ValueError, match=f"pretrained={toys[0]}: its chat template has no system"):
        lm.apply_chat_template([SYSTEM, *USER])


def test_a_template_is_chosen_by_its_name(toys: tuple[Path, Path]) -> None:
    lm = llm(toys[0], {"default": STRINGS, "rag": "rag " + STRINGS})
    assert lm.chat_template(True) == STRINGS
    assert lm.chat_template("rag") == "rag " + STRINGS
    assert lm.apply_chat_template(USER).startswith("rag [user]")
    with pytest.raises(ValueError, match=r"--apply_chat_template tool: .* templates default, rag"):
        lm.chat_template("tool")
    lm.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="has no chat template; leave the option out"):
        lm.chat_template(True)


def test_an_image_adapter_takes_the_tokenizers_template(toys: tuple[Path, Path]) -> None:
    lm = VerbalizerLVLM(pretrained=str(toys[1]), dtype="float32", device="cpu")
    lm.processor.chat_template, lm.tokenizer.chat_template = None, ADDED
    prompt = lm.apply_chat_template([{"role": "user", "content": "hello"}])
    assert prompt == "[user]<image>\nhello[/user]"
    own = lm.apply_chat_template([{"role": "user", "content": "see <image>this"}])
    assert own == "[user]see <image>\nthis[/user]"
    assert lm.chat_template(True) == ADDED


def test_a_literal_is_none_of_the_templates_images(toys: tuple[Path, Path]) -> None:
    """Whether `<image>` in a message is an image is known when the request comes."""
    lm = VerbalizerLVLM(pretrained=str(toys[1]), dtype="float32", device="cpu", image="none")
    lm.processor.chat_template = PARTS.replace("<image>", "[IMG]")
    (request,) = requests([lm.apply_chat_template([{"role": "user", "content": "a <image> b"}])])
    assert lm._prompt(request, 9).text == "[user]a < image> b[/user]"


def test_the_fingerprint_is_the_same_for_all_ranks(toys: tuple[Path, Path]) -> None:
    """A rank whose documents hold a literal image token renders in another form besides."""
    lm = VerbalizerLVLM(pretrained=str(toys[1]), dtype="float32", device="cpu", image="none")
    lm.processor.chat_template = ADDED
    assert lm._fingerprint()["rendering"] is None
    lm.apply_chat_template([{"role": "user", "content": "hello"}])
    before = lm._fingerprint()
    lm.apply_chat_template([{"role": "user", "content": "a <image> b"}])
    assert len(lm._chat_record()["rendering"]["contents"]) == 2
    assert lm._fingerprint() == before
    assert before["rendering"] == {"date": None, "arguments": {}}


def test_a_language_model_answers_as_the_llava_that_it_is_taken_from(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its template loops over parts, and would drop a string."""
    lvlm = VerbalizerLVLM(pretrained=str(toys[1]), dtype="float32", device="cpu", image="none")
    lvlm.processor.chat_template = lvlm.tokenizer.chat_template = PARTS
    lvlm.model.save_pretrained(tmp_path / "llava")
    lvlm.processor.save_pretrained(tmp_path / "llava")
    extract_llm(str(tmp_path / "llava"), tmp_path / "llm")
    llm = VerbalizerLLM(pretrained=str(tmp_path / "llm"), dtype="float32", device="cpu")
    answers = []
    for lm in (lvlm, llm):
        texts = [
            lm.apply_chat_template([{"role": "user", "content": text}])
            for text in ("Is it good?", "The cat sat", "One day")
        ]
        assert "Is it good?" in texts[0]
        answers.append(lm.generate_until(requests(texts, num_beams=2), disable_tqdm=True))
    assert answers[0] == answers[1] and len(set(answers[0])) > 1
