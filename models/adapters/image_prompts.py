"""Conversations with images as text: where the slots go, and literals that must not become one."""

from contextlib import suppress
from typing import Any

from lm_eval.models.hf_vlms import DEFAULT_IMAGE_PLACEHOLDER
from PIL import Image

from verbalizer_bench.models.adapters.chat_prompts import ChatPrompts


class ImagePrompts(ChatPrompts):
    """Mixin over lm-eval's HFMultimodalLM: the image goes in front of the first user turn."""

    processor: Any
    image: Image.Image | None
    image_slot: str
    image_token: str
    interleave: bool
    max_images: int

    def _chat_templates(self) -> Any:
        return self.processor.chat_template or self.tokenizer.chat_template

    def _image_slot(self) -> str:
        return self.image_slot

    def _image_tokens(self) -> set[str]:
        return {DEFAULT_IMAGE_PLACEHOLDER, self.image_slot, self.image_token}

    def _rendered(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        """Render `<image>` as slots where it stands and the template can; the request decides."""
        if any(DEFAULT_IMAGE_PLACEHOLDER in message["content"] for message in messages):
            with suppress(ValueError):
                return self._render_placeholders(messages, add_generation_prompt)
        return self._render_blank(messages, add_generation_prompt)

    def _render_placeholders(
        self, messages: list[dict[str, str]], add_generation_prompt: bool
    ) -> str:
        """Render placeholders as image slots, where they stand or all in front of their turn."""
        rendered = [
            {"role": message["role"], "content": self._split_at_placeholders(message["content"])}
            for message in messages
        ]
        return self._chat().render(rendered, add_generation_prompt)

    def _split_at_placeholders(self, content: str) -> list[dict[str, str]]:
        """Split a content at its placeholders; those above `max_images` are left out."""
        texts = content.split(DEFAULT_IMAGE_PLACEHOLDER)
        image = {"type": "image"}
        if not self.interleave:
            slots = min(self.max_images, len(texts) - 1)
            return [image] * slots + [{"type": "text", "text": "".join(texts)}]
        parts: list[dict[str, str]] = []
        for place, text in enumerate(texts):
            if 0 < place <= self.max_images:
                parts.append(image)
            if text:
                parts.append({"type": "text", "text": text})
        return parts

    def _render_blank(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        """Render one image slot, at the front of the first user turn; literals are escaped."""
        rendered: list[dict[str, Any]] = []
        slots = 0 if self.image is None else 1
        for message in messages:
            content: list[dict[str, str]] = [
                {"type": "text", "text": self.escape(message["content"])}
            ]
            if slots and message["role"] == "user":
                content.insert(0, {"type": "image"})
                slots = 0
            rendered.append({"role": message["role"], "content": content})
        return self._chat().render(rendered, add_generation_prompt)

    def escape(self, text: str) -> str:
        """Put a space into literal image tokens, so that the tokenizer takes them for text."""
        for token in self._image_tokens():
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text
