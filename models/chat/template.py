"""Conversations as text: a checkpoint's chat template, rendered alike in evaluation and training.

A template takes a turn's content as a string or as a list of parts, and one that is given the other
kind may drop the text without a word, or write the list as Python prints it. So a conversation is
rendered in the format that the template takes, and what was asked must stand in the result.

Templates that write today's date are given `DATE`, so that the same question is the same prompt on
every day.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Any

from transformers.utils import chat_template_utils

from verbalizer_bench.models.chat.probes import (
    Messages,
    TemplateFault,
    probes_like,
    text_fault,
    texts,
    with_parts,
)

# What Llama 3's own template writes where it is given no clock.
DATE = datetime(2024, 7, 26)
# Arguments of `render_jinja_template`.
Options = Mapping[str, Any]
STRINGS, PARTS = "strings", "parts"
# What rendering sets itself, so that no argument of the user's can.
_RESERVED = ("messages", "conversations", "chat_template", "add_generation_prompt")


class TextLostError(ValueError):
    """A template that writes texts has changed or left out this one."""


class _RenderError(ValueError):
    """A template that fails, with the reason as `reason`."""

    def __init__(self, owner: str, reason: str) -> None:
        super().__init__(
            f"{owner}: its chat template cannot be rendered: {reason}; correct the template"
        )
        self.reason = reason


class ChatTemplate:
    """A chat template and all that its text depends on besides the messages.

    Attributes:
        text: The template.
        arguments: Variables that the template is given besides.
        content_formats: How contents were given to it so far.
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
        self.content_formats: set[str] = set()
        self.writes_date = False
        self._known_formats: dict[Any, str] = {}

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
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
        return self._render_checked(messages, ending)[0]

    def render_with_assistant_spans(
        self, messages: Messages, check: bool = True
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return a finished conversation, and the spans of its text that the assistant wrote.

        Raises:
            ValueError, TextLostError: As `render`; with `check=False` texts may be left out.
        """
        return self._render_checked(messages, {"return_assistant_tokens_mask": True}, check)

    def render_turns(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        """Return turns as they are written, finished or asked; their texts may be changed.

        Raises:
            ValueError: The template cannot be rendered, or leaves out a turn, in one line.
        """
        options = {"add_generation_prompt": add_generation_prompt}
        messages = with_parts(messages)
        return self._render_jinja(
            messages, self._content_format(messages, options), options, probe=False
        )[0]

    def turn_end(self) -> str:
        """Return what follows a conversation's last answer, or else one that a turn follows.

        Empty if it cannot be known. GPT-OSS ends its last answer otherwise than those before.
        """
        last = self._text_behind(1, ("user", "assistant"), {})
        return last if last.strip() else self._text_behind(1, ("user", "assistant", "user"), {})

    def prompt_end(self) -> str:
        """Return what follows a question, in front of its answer; empty if it cannot be known."""
        return self._text_behind(0, ("user",), {"add_generation_prompt": True})

    def _text_behind(self, turn: int, roles: Sequence[str], options: Options) -> str:
        probes = probes_like([{"role": role, "content": role} for role in roles])
        try:
            text = self._render_jinja(probes, self._content_format(probes, options), options)[0]
        except ValueError:
            return ""
        return text.partition(probes[turn]["content"][0]["text"])[2]

    def record(self) -> dict[str, Any]:
        """Return how prompts were rendered, for the run's record."""
        return {
            "contents": sorted(self.content_formats),
            "date": f"{DATE:%Y-%m-%d}" if self.writes_date else None,
            "arguments": self.arguments,
        }

    def _render_checked(
        self, messages: Messages, options: Options, check: bool = True
    ) -> tuple[str, list[tuple[int, int]]]:
        messages = with_parts(messages)
        content_format = self._content_format(messages, options, check)
        text, blocks = self._render_jinja(messages, content_format, options, probe=False)
        for role, part in texts(messages) if check else ():
            # Many templates strip what they write.
            if part.strip() not in text:
                raise TextLostError(
                    f"{self.owner}: its chat template changes the text of a {role} turn: "
                    f"{part.strip()[:60]!r} is not in the prompt; correct the template"
                )
        images = any(part["type"] == "image" for m in messages for part in m["content"])
        written = content_format == STRINGS and images
        self.content_formats.add(
            f"{content_format}, image token written in" if written else content_format
        )
        return text, blocks

    def _content_format(self, messages: Messages, options: Options, check: bool = True) -> str:
        """Return the format in which the template takes conversations of this shape."""
        shape = (
            tuple((m["role"], *(part["type"] for part in m["content"])) for m in messages),
            *options.items(),
        )
        if shape not in self._known_formats:
            content_format, faults = self._detect_format(messages, options, check)
            if content_format is None:
                raise ValueError(self._error_message(messages, faults, options))
            self._known_formats[shape] = content_format
        return self._known_formats[shape]

    def _detect_format(
        self, messages: Messages, options: Options, check: bool = True
    ) -> tuple[str | None, list[TemplateFault]]:
        """Return the format that the template takes, None if neither, and the faults of the others.

        A template with other image slots is not given texts with ours in them.
        """
        faults: list[TemplateFault] = []
        for content_format in self._formats():
            fault = self._fault(messages, content_format, options, check)
            if fault is None:
                return content_format, faults
            faults.append(fault)
            if fault.kind == "slots":
                break
        return None, faults

    def _formats(self) -> tuple[str, str]:
        return (STRINGS, PARTS) if self.image_slot is None else (PARTS, STRINGS)

    def _fault(
        self, messages: Messages, content_format: str, options: Options, check: bool = True
    ) -> TemplateFault | None:
        """Return what is wrong with a conversation of this shape, rendered with probes; or None."""
        probes = probes_like(messages)
        try:
            text = self._render_jinja(probes, content_format, options)[0]
        except _RenderError as error:
            return TemplateFault("error", error.reason)
        if check and (fault := text_fault(probes, text)):
            return fault
        return self._slot_fault(messages, text, content_format, options)

    def _slot_fault(
        self, messages: Messages, text: str, content_format: str, options: Options
    ) -> TemplateFault | None:
        """Return the fault of a rendered conversation with too many or too few image slots."""
        wanted = sum(part["type"] == "image" for m in messages for part in m["content"])
        if self.image_slot is None or text.count(self.image_slot) == wanted:
            return None
        detail = f"{text.count(self.image_slot)} image slots for {wanted} images"
        if self.image_slot in text or content_format == STRINGS:
            return TemplateFault("slots", detail)
        bare = [
            {**m, "content": [part for part in m["content"] if part["type"] != "image"]}
            for m in probes_like(messages)
        ]
        try:
            ignored = self._render_jinja(bare, content_format, options)[0] == text
        except _RenderError:
            ignored = False
        # A template with a mark of its own must not be given ours in its place.
        mark = f"{detail} (an image is {self.image_slot!r} here; give image_string= for another)"
        return TemplateFault("ignored", detail) if ignored else TemplateFault("slots", mark)

    def _error_message(
        self, messages: Messages, faults: Sequence[TemplateFault], options: Options
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

    def _takes(self, messages: Messages, options: Options) -> bool:
        return bool(messages) and self._detect_format(messages, options)[0] is not None

    def _render_jinja(
        self, messages: Messages, content_format: str, options: Options, probe: bool = True
    ) -> tuple[str, list[tuple[int, int]]]:
        if content_format == STRINGS:
            messages = [{**m, "content": self._string(m["content"])} for m in messages]
        try:
            with _fixed_date() as clock:
                rendered, blocks = chat_template_utils.render_jinja_template(
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
        return rendered[0], blocks[0] if blocks else []

    def _string(self, content: Sequence[Mapping[str, str]]) -> str:
        """Return a content as one text, with the image token as LLaVA writes it."""
        return "".join(
            part["text"] if part["type"] == "text" else f"{self.image_slot}\n" for part in content
        )


def default_template(templates: Any) -> str | None:
    """Return a checkpoint's template, of several the default; None without one."""
    text = templates.get("default") if isinstance(templates, Mapping) else templates
    return str(text) if text else None


class _FixedClock:
    """Stands in for `datetime` where transformers renders templates."""

    def __init__(self) -> None:
        self.asked = False

    def now(self, zone: tzinfo | None = None) -> datetime:
        self.asked = True
        return DATE.replace(tzinfo=zone)


@contextmanager
def _fixed_date() -> Iterator[_FixedClock]:
    """Give `DATE` to templates that ask for the date.

    transformers takes no function among a template's variables, so its clock is exchanged.
    """
    original, clock = chat_template_utils.datetime, _FixedClock()
    chat_template_utils.datetime = clock
    try:
        yield clock
    finally:
        chat_template_utils.datetime = original
