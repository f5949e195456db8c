"""Conversations as prompts: a checkpoint's chat template is chosen, applied, and recorded."""

import copy
import re
from collections.abc import Collection, Mapping
from typing import Any

from verbalizer_bench.io.thinking import opened_thought
from verbalizer_bench.models.adapters.fingerprints import template_sha256
from verbalizer_bench.models.adapters.finish_reason import turn_end
from verbalizer_bench.models.adapters.input_log import InputLog
from verbalizer_bench.models.chat.bos import adds_bos, writes_bos
from verbalizer_bench.models.chat.template import ChatTemplate


class ChatPrompt(str):
    """A rendered conversation that remembers what it was rendered from.

    Whether `<image>` in a message is a slot or a literal is known only when the request comes, with
    images of its own or without.
    """

    messages: list[dict[str, str]]
    add_generation_prompt: bool


class RenderedPrompt(str):
    """A conversation that was rendered before, as a run stores it; image slots stand in it."""


class ChatPrompts:
    """Mixin over lm-eval's HFLM whose prompts hold what was asked, or are refused."""

    model: Any
    tokenizer: Any
    chat_template_args: dict[str, Any]
    chat_applied: bool = False
    inputs: InputLog
    _template_name: str | None = None
    _rendering: ChatTemplate | None = None

    def _chat_templates(self) -> Any:
        """Return the checkpoint's template, a table of named ones, or None."""
        return self.tokenizer.chat_template

    def _image_slot(self) -> str | None:
        """Return what stands for an image in a text; None for a text model."""
        return None

    def _image_tokens(self) -> Collection[str]:
        """Return what `_prompt` makes harmless, or an image, where it stands in a text."""
        return ()

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a conversation; the run's record says how.

        Raises:
            ValueError: There is no template, or it does not write what was asked (`ChatTemplate`).
        """
        self.chat_applied = True
        messages = copy.deepcopy(chat_history)
        prompt = ChatPrompt(self._rendered(messages, add_generation_prompt))
        prompt.messages, prompt.add_generation_prompt = messages, add_generation_prompt
        return prompt

    def _rendered(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        return self._chat().render(messages, add_generation_prompt)

    def _note_specials(self, context: str) -> None:
        """Count the special tokens in a prompt's texts: the model does not read them as text."""
        if not hasattr(self, "_special_token"):
            tokens = {str(t) for t in self.tokenizer.added_tokens_decoder.values() if t.special}
            self._special_token = re.compile(
                "|".join(map(re.escape, sorted(tokens - {*self._image_tokens()}))) or r"(?!)"
            )
        texts = [context]
        if isinstance(context, ChatPrompt):
            texts = [message["content"] for message in context.messages]
        self.inputs.specials.update(
            {token for text in texts for token in self._special_token.findall(text)}
        )

    def _has_bos(self) -> bool:
        """Return whether tokenizer or template writes BOS: a GPT-NeoX has one by name alone."""
        return adds_bos(self.tokenizer) or writes_bos(self._chat_templates(), self.tokenizer)

    def _owner(self) -> str:
        return str(self.tokenizer.name_or_path or self.model.config.name_or_path)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the template that is applied, as lm-eval asks for it; a name chooses one.

        Raises:
            ValueError: There is no template, or none of that name.
        """
        if chat_template is False or chat_template is None:
            return None
        self._template_name = chat_template if isinstance(chat_template, str) else None
        return self._chat().text

    def _chat(self) -> ChatTemplate:
        """Return the template as it is rendered.

        Raises:
            ValueError: There is no template, or none of the name that was asked for.
        """
        text = self._template_text()
        if self._rendering is None or self._rendering.text != text:
            self._rendering = ChatTemplate(
                text,
                self.tokenizer.special_tokens_map,
                f"pretrained={self._owner()}",
                image_slot=self._image_slot(),
                arguments=self.chat_template_args,
            )
        return self._rendering

    def _template_text(self) -> str:
        templates, name = self._chat_templates(), self._template_name
        if not templates:
            raise ValueError(
                f"--apply_chat_template: {self._owner()} has no chat template; leave the option "
                "out, or write one into the folder (chat_template.jinja)"
            )
        table = {"default": templates} if isinstance(templates, str) else dict(templates)
        if (name or "default") not in table:
            raise ValueError(
                f"--apply_chat_template{f' {name}' if name else ''}: {self._owner()} has the chat "
                f"templates {', '.join(sorted(table))}; give one of these names"
            )
        return str(table[name or "default"])

    def _chat_record(self) -> Mapping[str, Any]:
        """Return which template was applied, and how; its values are None where none was."""
        if not self.chat_applied:
            return {"chat_template_sha256": None, "rendering": None}
        chat = self._chat()
        return {"chat_template_sha256": template_sha256(chat.text), "rendering": chat.record()}

    def _chat_fingerprint(self) -> Mapping[str, Any]:
        """Return what prompts depend on in the record, and not on which of them this rank has."""
        record = self._chat_record()
        rendering = record["rendering"] or {}
        kept = {key: rendering[key] for key in ("date", "arguments") if rendering}
        return {**record, "rendering": kept or None}

    def _turn_record(self, eos_token_ids: Collection[int]) -> Mapping[str, Any]:
        """Return the token that closes a turn, and the mark of a thought that prompts open."""
        if not self.chat_applied:
            return {"turn_end": None, "opened_thought": None}
        chat = self._chat()
        return {
            "turn_end": turn_end(chat.turn_end(), self.tokenizer, eos_token_ids),
            "opened_thought": opened_thought(chat.prompt_end()),
        }
