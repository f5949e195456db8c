"""Conversations as text: a checkpoint's chat template, rendered alike in evaluation and training.

A template takes a turn's content as a string or as a list of parts, and one that is given the other
kind may drop the text without a word, or write the list as Python prints it. So a conversation is
rendered in the form that the template takes, and what was asked must stand in the result.

Templates that write today's date are given `DATE`, so that the same question is the same prompt on
every day.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from transformers.utils import chat_template_utils

# What Llama 3's own template writes where it is given no clock.
DATE = datetime(2024, 7, 26)
STRINGS, PARTS = "strings", "parts"
# What rendering sets itself, so that no argument of the user's can.
_RESERVED = ("messages", "conversations", "chat_template", "add_generation_prompt")
Message = Mapping[str, Any]


class TextLostError(ValueError):
    """A template that writes texts has changed or left out this one."""


class _RenderError(ValueError):
    """A template that fails, with the reason as `reason`."""

    def __init__(self, owner: str, reason: str) -> None:
        super().__init__(
            f"{owner}: its chat template cannot be rendered: {reason}; correct the template"
        )
        self.reason = reason


class _Fault(NamedTuple):
    """What is wrong with a rendered conversation, and the turn's role or the error."""

    kind: str
    detail: str


class ChatTemplate:
    """A chat template and all that its text depends on besides the messages.

    Attributes:
        text: The template.
        arguments: Variables that the template is given besides.
        forms: How contents were given to it so far.
        writes_date: Whether it asked for the date so far, for a prompt.
    """

    def __init__(
        self,
        text: str,
        special_tokens: Mapping[str, Any],
        owner: str,
        *,
        image_slot: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a template; nothing is rendered yet.

        Args:
            text: The template.
            special_tokens: The tokenizer's, by name (`bos_token`).
            owner: Whose it is, for errors.
            image_slot: What stands for an image in a text. A model with one is given parts first,
                a text model strings.
            arguments: Other variables of the template.

        Raises:
            ValueError: An argument has the name of something that rendering sets.
        """
        if taken := [name for name in _RESERVED if name in (arguments or {})]:
            raise ValueError(
                f"{owner}: chat_template_args has {taken[0]!r}, which rendering sets; leave it out"
            )
        self.text, self.owner, self.image_slot = text, owner, image_slot
        self.arguments = dict(arguments or {})
        self._variables = {**special_tokens, **self.arguments}
        self.forms: set[str] = set()
        self.writes_date = False
        self._chosen: dict[Any, str] = {}

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """Return a conversation as text, up to where the answer starts.

        Args:
            messages: Turns with a `role` and a `content`, a string or a list of parts of the types
                `text` and `image`.
            add_generation_prompt: False to leave the last turn open, to be continued.

        Raises:
            ValueError: The template cannot be rendered, or leaves out a turn, in one line.
            TextLostError: It changed a text.
        """
        ending = {
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        return self._checked(messages, ending)[0]

    def render_marked(
        self, messages: Sequence[Message], check: bool = True
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return a finished conversation, and from where to where its generation blocks go.

        Raises:
            ValueError, TextLostError: As `render`; with `check=False` texts may be left out.
        """
        return self._checked(messages, {"return_assistant_tokens_mask": True}, check)

    def render_turns(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """Return turns as they are written, finished or asked; their texts may be changed.

        Raises:
            ValueError: The template cannot be rendered, or leaves out a turn, in one line.
        """
        options = {"add_generation_prompt": add_generation_prompt}
        messages = [{**message, "content": _parts(message["content"])} for message in messages]
        return self._raw(messages, self._form(messages, options), options, probe=False)[0]

    def turn_end(self) -> str:
        """Return what follows a conversation's last answer, or else one that a turn follows.

        Empty if it cannot be known. GPT-OSS ends its last answer otherwise than those before.
        """
        last = self._behind(1, ("user", "assistant"), {})
        return last if last.strip() else self._behind(1, ("user", "assistant", "user"), {})

    def prompt_end(self) -> str:
        """Return what follows a question, in front of its answer; empty if it cannot be known."""
        return self._behind(0, ("user",), {"add_generation_prompt": True})

    def _behind(self, turn: int, roles: Sequence[str], options: Mapping[str, Any]) -> str:
        probes = _probes([{"role": role, "content": role} for role in roles])
        try:
            text = self._raw(probes, self._form(probes, options), options)[0]
        except ValueError:
            return ""
        return text.partition(probes[turn]["content"][0]["text"])[2]

    def record(self) -> dict[str, Any]:
        """Return how prompts were rendered, for the run's record."""
        return {
            "contents": sorted(self.forms),
            "date": f"{DATE:%Y-%m-%d}" if self.writes_date else None,
            "arguments": self.arguments,
        }

    def _checked(
        self, messages: Sequence[Message], options: Mapping[str, Any], check: bool = True
    ) -> tuple[str, list[tuple[int, int]]]:
        messages = [{**message, "content": _parts(message["content"])} for message in messages]
        form = self._form(messages, options, check)
        text, blocks = self._raw(messages, form, options, probe=False)
        for role, part in _texts(messages) if check else ():
            # Many templates strip what they write.
            if part.strip() not in text:
                raise TextLostError(
                    f"{self.owner}: its chat template changes the text of a {role} turn: "
                    f"{part.strip()[:60]!r} is not in the prompt; correct the template"
                )
        images = any(part["type"] == "image" for m in messages for part in m["content"])
        written = form == STRINGS and images
        self.forms.add(f"{form}, image token written in" if written else form)
        return text, blocks

    def _form(
        self, messages: Sequence[Message], options: Mapping[str, Any], check: bool = True
    ) -> str:
        """Return the form in which the template takes conversations of this shape."""
        shape = (
            tuple((m["role"], *(part["type"] for part in m["content"])) for m in messages),
            *options.items(),
        )
        if shape not in self._chosen:
            form, faults = self._found(messages, options, check)
            if form is None:
                raise ValueError(self._explain(messages, faults, options))
            self._chosen[shape] = form
        return self._chosen[shape]

    def _found(
        self, messages: Sequence[Message], options: Mapping[str, Any], check: bool = True
    ) -> tuple[str | None, list[_Fault]]:
        """Return the form that the template takes, None if neither, and what is wrong with others.

        A template with other image slots is not given texts with ours in them.
        """
        faults: list[_Fault] = []
        for form in self._order():
            fault = self._fault(messages, form, options, check)
            if fault is None:
                return form, faults
            faults.append(fault)
            if fault.kind == "slots":
                break
        return None, faults

    def _order(self) -> tuple[str, str]:
        return (STRINGS, PARTS) if self.image_slot is None else (PARTS, STRINGS)

    def _fault(
        self, messages: Sequence[Message], form: str, options: Mapping[str, Any], check: bool = True
    ) -> _Fault | None:
        """Render a conversation of this shape with texts that can be recognised."""
        probes = _probes(messages)
        try:
            text = self._raw(probes, form, options)[0]
        except _RenderError as error:
            return _Fault("error", error.reason)
        if check and (fault := _text_fault(probes, text)):
            return fault
        return self._slot_fault(messages, text, form, options)

    def _slot_fault(
        self, messages: Sequence[Message], text: str, form: str, options: Mapping[str, Any]
    ) -> _Fault | None:
        """Return the fault of a rendered conversation with too many or too few image slots."""
        wanted = sum(part["type"] == "image" for m in messages for part in m["content"])
        if self.image_slot is None or text.count(self.image_slot) == wanted:
            return None
        detail = f"{text.count(self.image_slot)} image slots for {wanted} images"
        if self.image_slot in text or form == STRINGS:
            return _Fault("slots", detail)
        bare = [
            {**m, "content": [part for part in m["content"] if part["type"] != "image"]}
            for m in _probes(messages)
        ]
        try:
            ignored = self._raw(bare, form, options)[0] == text
        except _RenderError:
            ignored = False
        # A template with a mark of its own must not be given ours in its place.
        mark = f"{detail} (an image is {self.image_slot!r} here; give image_string= for another)"
        return _Fault("ignored", detail) if ignored else _Fault("slots", mark)

    def _explain(
        self, messages: Sequence[Message], faults: Sequence[_Fault], options: Mapping[str, Any]
    ) -> str:
        """Return what is wrong with the template, and what the user can do about it."""
        kind, detail = faults[0]
        without = [message for message in messages if message["role"] != "system"]
        if len(without) < len(messages) and self._takes(without, options):
            reason = f" ({detail})" if kind == "error" else ""
            return (
                f"{self.owner}: its chat template has no system turn{reason}: the text would not "
                "be in the prompt; leave it out (--system_instruction, a task's description, a "
                "record's system message), or correct the template"
            )
        if kind == "order":
            return (
                f"{self.owner}: its chat template writes the turns in another order than they "
                f"come in (a turn of the {detail}'s too early); correct the template"
            )
        if kind == "lost":
            return (
                f"{self.owner}: its chat template does not write the text of a {detail} turn, "
                "given as a string or as a list of parts; correct the template"
            )
        if kind in ("slots", "ignored"):
            return f"{self.owner}: its chat template writes {detail}; correct the chat template"
        fix = "correct the template"
        if len(without) > 1 and self._takes(without[-1:], options):
            fix += ", or give the examples in one turn (--fewshot_as_multiturn false)"
        return f"{self.owner}: its chat template cannot be rendered: {detail}; {fix}"

    def _takes(self, messages: Sequence[Message], options: Mapping[str, Any]) -> bool:
        return bool(messages) and self._found(messages, options)[0] is not None

    def _raw(
        self,
        messages: Sequence[Message],
        form: str,
        options: Mapping[str, Any],
        probe: bool = True,
    ) -> tuple[str, list[tuple[int, int]]]:
        if form == STRINGS:
            messages = [{**m, "content": self._string(m["content"])} for m in messages]
        try:
            with _fixed_date() as clock:
                texts, blocks = chat_template_utils.render_jinja_template(
                    conversations=[list(messages)],
                    chat_template=self.text,
                    **options,
                    **self._variables,
                )
        # A template is a program of somebody else's: it can do whatever is wrong.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise _RenderError(self.owner, reason) from error
        # Probes have other turns than prompts: Granite writes the date where no system turn is.
        self.writes_date |= clock.asked and not probe
        return texts[0], blocks[0] if blocks else []

    def _string(self, content: Sequence[Mapping[str, str]]) -> str:
        """Return a content as one text, with the image token as LLaVA writes it."""
        return "".join(
            part["text"] if part["type"] == "text" else f"{self.image_slot}\n" for part in content
        )


def default_template(templates: Any) -> str | None:
    """Return a checkpoint's template, of several the default; None without one."""
    text = templates.get("default") if isinstance(templates, Mapping) else templates
    return str(text) if text else None


class _Clock:
    """Stands in for `datetime` where transformers renders templates."""

    def __init__(self) -> None:
        self.asked = False

    def now(self, zone: tzinfo | None = None) -> datetime:
        self.asked = True
        return DATE.replace(tzinfo=zone)


@contextmanager
def _fixed_date() -> Iterator[_Clock]:
    """Give `DATE` to templates that ask for the date.

    transformers takes no function among a template's variables, so its clock is exchanged.
    """
    original, clock = chat_template_utils.datetime, _Clock()
    chat_template_utils.datetime = clock
    try:
        yield clock
    finally:
        chat_template_utils.datetime = original


def _parts(content: Any) -> list[dict[str, str]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [dict(part) for part in content]


def _texts(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    for message in messages:
        for part in message["content"]:
            if part["type"] == "text":
                yield message["role"], part["text"]


def _text_fault(messages: Sequence[Message], text: str) -> _Fault | None:
    """Return the fault of a text that is not in a conversation, or before what it follows.

    A system turn may stand anywhere: Mistral's templates write it into the last question.
    """
    end = 0
    for role, part in _texts(messages):
        if part not in text:
            return _Fault("lost", role)
        if role == "system":
            continue
        start = text.find(part, end)
        if start < 0:
            return _Fault("order", role)
        end = start + len(part)
    return None


def _probes(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return a conversation of the same shape whose texts stand nowhere else.

    Each has a line break, which a list that is printed as Python does has not.
    """
    probes = []
    for turn, message in enumerate(messages):
        content = _parts(message["content"])
        for place, part in enumerate(content):
            if part["type"] == "text":
                part["text"] = f"Qz{turn}x{place}w\nKj{turn}x{place}v"
        probes.append({**message, "content": content})
    return probes
