"""Records as token ids, and the assistant mask: which of the ids are trained."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message
from verbalizer_bench.io.wording import counted
from verbalizer_bench.models.chat.bos import openings, put_around
from verbalizer_bench.models.chat.template import DATE, ChatTemplate
from verbalizer_bench.trainers.conversations.assistant_spans import (
    AssistantSpans,
    TemplateFaultError,
    asks_with_other_space,
    check_asked,
    find_answers,
    find_last_answer,
)
from verbalizer_bench.trainers.conversations.formats import MARK, training_template
from verbalizer_bench.trainers.conversations.thoughts import Thoughts

_PROBE = (Message("user", "one"), Message("assistant", "two"))
_TOKEN_LIKE = re.compile(r"<[^<>\s]+>")


class Encoded(NamedTuple):
    """An encoded record.

    Attributes:
        input_ids: Token ids, one for each image.
        assistant_mask: Which of them are trained.
        length: Tokens with images expanded.
    """

    input_ids: list[int]
    assistant_mask: list[bool]
    length: int

    @property
    def tokens(self) -> int:
        """Return how many tokens a model sees of it."""
        return self.length

    @property
    def trained(self) -> int:
        """Return how many tokens the loss is on."""
        return sum(self.assistant_mask)

    @property
    def shown(self) -> tuple["Encoded"]:
        """Return what is shown of it as a sample."""
        return (self,)


class Encoder:
    """Turn records into token ids and the assistant mask.

    Args:
        tokenizer: A fast one: answers are found by character offsets.
        format: One of `FORMATS`.
        image_token_id: The id that the format's image part becomes, None for a model of text.
        image_tokens: How many of it a model takes for one image.
        max_length: In expanded tokens; longer conversations lose their end.
        arguments: Variables that the template is given.
        thoughts: What becomes of answers' thoughts, one of `THOUGHTS`; None: they are trained with
            the text that they stand in.

    Attributes:
        reads_images: Whether the ids depend on the images' sizes, so that they must be at hand.
    """

    reads_images = False

    def __init__(
        self,
        tokenizer: Any,
        format: str,
        image_token_id: int | None,
        image_tokens: int,
        max_length: int,
        arguments: Mapping[str, Any] | None = None,
        thoughts: str | None = None,
    ):
        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} has no character offsets: use a fast one")
        self.tokenizer = tokenizer
        self.format = format
        self.template = training_template(format, tokenizer)
        self.image_token_id = image_token_id
        self.image_tokens = image_tokens
        self.max_length = max_length
        self._thoughts = Thoughts(thoughts, self.template)
        added = tokenizer.added_tokens_decoder.values()
        self._specials = tuple(token.content for token in added if token.special)
        self._endings = [token.content for token in added]
        self._endings += [tokenizer.eos_token] if tokenizer.eos_token else []
        self._front, self._openings = put_around(tokenizer)[0], openings(tokenizer)
        self.has_marks = bool(MARK.search(self.template))
        slot = None if image_token_id is None else tokenizer.convert_ids_to_tokens(image_token_id)
        owner = f"format {format!r}"
        self._chat = ChatTemplate(
            self.template,
            tokenizer.special_tokens_map,
            owner,
            image_slot=slot,
            arguments={**(arguments or {}), **self._thoughts.arguments},
        )
        self._last_alone = format == "tokenizer" and self._asks_with_other_space()
        self.has_marks &= not self._last_alone
        self.unknown_endings = [] if self.has_marks else self._find_unknown_endings()
        self._endings += self.unknown_endings
        if self.has_marks and format == "tokenizer":
            self._check_asked()

    def fingerprint(self) -> str:
        """Return the sha256 of all that the ids and the mask depend on besides the records."""
        backend = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # State that each call sets anew.
        backend.update(truncation=None, padding=None)
        specials = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}
        sizes = [self.image_token_id, self.image_tokens, self.max_length]
        parts = [backend, specials, self.format, self.template, f"{DATE:%Y-%m-%d}", sizes]
        parts += [self._chat.arguments] if self._chat.arguments else []
        parts += [self._thoughts.kept] if self._thoughts.kept else []
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def encode(self, record: Conversation) -> Encoded:
        """Return a record's ids, cut on the right to `max_length` expanded tokens.

        Raises:
            BadRecordError: The record does not fit the format, an image would be cut, or nothing
                that is trained is left.
            ValueError: The chat template does not put one image token for each image.
        """
        return self._cut(record, *self.whole(record))

    def whole(self, record: Conversation) -> tuple[list[int], list[bool]]:
        """Return a record's ids, one for each image, and its assistant mask, whatever its length.

        Raises:
            BadRecordError: The record does not fit the format.
            ValueError: The chat template does not put one image token for each image.
        """
        if problem := self._misfit(record):
            raise BadRecordError(record.index, record.id, *problem)
        ids, mask = self._tokenize(record)
        images = ids.count(self.image_token_id) if self.image_token_id is not None else 0
        if images != len(record.images):
            raise ValueError(
                f"record {record.index + 1}: format {self.format!r} made {images} image tokens (id "
                f"{self.image_token_id}) of {len(record.images)} images; use llama-2 or vicuna-v1 "
                "with a tokenizer that has <image>"
            )
        return ids, mask

    def full_length(self, record: Conversation) -> int:
        """Return a record's tokens, with images expanded, whatever its length.

        Raises:
            As `whole`.
        """
        return len(self.whole(record)[0]) + len(record.images) * (self.image_tokens - 1)

    def asked(self, record: Conversation) -> list[int]:
        """Return the ids with which a model is asked for a record's last answer.

        Raises:
            BadRecordError: The template leaves out or changes a text.
        """
        record = self._thoughts.split(record)
        try:
            text = self._chat.render(self._thoughts.contents(record.messages[:-1]))
        except ValueError as error:
            raise BadRecordError(record.index, record.id, "template", str(error)) from error
        text = self._with_images(record, text)
        encoding = self.tokenizer(text, add_special_tokens=False, verbose=False)
        return self._in_front(text) + list(encoding["input_ids"])

    def _with_images(self, record: Conversation, text: str) -> str:
        """Return a rendered text as it is encoded."""
        return text

    def _in_front(self, text: str) -> list[int]:
        """Return the ids before a text's, as the adapters put them where a template does not."""
        return [] if text.startswith(self._openings) else list(self._front)

    def _tokenize(self, record: Conversation) -> tuple[list[int], list[bool]]:
        """Return ids and assistant mask before the cut."""
        ids, mask, _ = self._masked(record, *self._render_answers(record))
        return ids, mask

    def _masked(
        self, record: Conversation, text: str, blocks: Sequence[tuple[int, int]]
    ) -> tuple[list[int], list[bool], list[tuple[int, int]]]:
        """Return a text's ids, the assistant mask, and offsets: trained are tokens in a block.

        transformers' mask looks at a block's first and last character alone, and is empty where
        the first one, a space, is in no token. A character of several tokens, of bytes, has them
        all at the same offsets.
        """
        encoding = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        mask = [
            any(start < stop and end > begin for begin, stop in blocks)
            for start, end in encoding["offset_mapping"]
        ]
        offsets = list(encoding["offset_mapping"])
        _check_joints(record, text, blocks, offsets)
        front = self._in_front(text)
        return (
            front + encoding["input_ids"],
            [False] * len(front) + mask,
            [(0, 0)] * len(front) + offsets,
        )

    def _check_asked(self) -> None:
        """Raise TemplateFaultError where a template with marks asks otherwise than it writes."""
        messages = self._thoughts.contents(_PROBE)
        try:
            prompt = self._chat.render_turns(messages[:1], add_generation_prompt=True)
            answered, blocks = self._chat.render_with_assistant_spans(messages)
        except ValueError:
            # Each record says why.
            return
        starts = [start for start, stop in blocks if stop > len(prompt)]
        if starts:
            check_asked(prompt, answered, starts[0])

    def _asks_with_other_space(self) -> bool:
        """Tell whether the template asks with other white space than it writes before an answer.

        LLaVA-OneVision's asks with `assistant`, a line break, and writes a space between the two.
        """
        messages = self._thoughts.contents(_PROBE)
        try:
            prompt = self._chat.render_turns(messages[:1], add_generation_prompt=True)
            answered = self._chat.render_turns(messages)
        except ValueError:
            return False
        return asks_with_other_space(prompt, answered, _PROBE[1].text)

    def _find_unknown_endings(self) -> list[str]:
        """Return what ends an answer and looks like a token, but is none of the tokenizer's."""
        try:
            closing = self._chat.render_turns(self._thoughts.contents(_PROBE)).rpartition("two")[2]
        except ValueError:
            return []
        known = any(ending in closing for ending in self._endings)
        return [] if known else _TOKEN_LIKE.findall(closing)

    def ending_ids(self) -> list[int]:
        """Return the ids of the tokens that end answers: those before the last, and the last."""
        messages = (*_PROBE, Message("user", "three"), Message("assistant", "four"))
        found = []
        for probe in (messages, _PROBE):
            try:
                ids, mask = self._tokenize(Conversation(0, "", probe, ()))
            except ValueError:
                continue
            runs = zip(ids, mask, [*mask[1:], False], strict=True)
            found += [token for token, on, follows in runs if on and not follows]
        known = {*self.tokenizer.added_tokens_decoder, self.tokenizer.eos_token_id}
        return [token for token in dict.fromkeys(found) if token in known]

    def context_alone(self) -> bool:
        """Tell whether answers before a conversation's last may be untrained context."""
        turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
        thinking = [(role, f"<think>a</think>{text}") for role, text in turns]
        for case in (turns, thinking):
            messages = self._thoughts.contents([Message(*turn) for turn in case])
            try:
                if self._found(messages).context:
                    return True
            except ValueError:
                continue
        return False

    def _render_answers(self, record: Conversation) -> tuple[str, list[tuple[int, int]]]:
        """Return a record's text and the character spans of the answers that are trained."""
        record = self._thoughts.split(record)
        messages = self._thoughts.contents(record.messages)
        try:
            text, blocks = self._find_answers(messages)
        except TemplateFaultError:
            raise
        except ValueError as error:
            raise BadRecordError(record.index, record.id, "template", str(error)) from error
        blocks = self._thoughts.trained(record, text, blocks, self._endings)
        return text, blocks[-1:] if record.last_only else blocks

    def _find_answers(self, messages: Sequence[Any]) -> tuple[str, list[tuple[int, int]]]:
        """Return a conversation's text and the character spans of its answers."""
        if not self.has_marks:
            return self._found(messages)[:2]
        # The question of a caption is left out.
        check = self.format != "plain"
        text, blocks = self._chat.render_with_assistant_spans(messages, check)
        if self.format == "tokenizer":
            blocks = self._from_prompts(messages, text, blocks)
        return text, blocks

    def _found(self, messages: Sequence[Any]) -> AssistantSpans:
        """Return a conversation's text and the answers that are found by rendering it."""
        find = find_last_answer if self._last_alone else find_answers
        return find(self._chat.render_turns, messages, self._endings)

    def _from_prompts(
        self, messages: Sequence[Any], text: str, blocks: Sequence[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Begin answers where their prompts end, and end them with what ends them.

        llava-hf's marks stand behind a space that its prompt has not, so that the model has to
        write it; SmolLM3's stand before the header that its prompt has, and behind a line break
        that no model is left to write.
        """
        prompts = (
            self._chat.render_turns(messages[:number], add_generation_prompt=True)
            for number, message in enumerate(messages)
            if number and message["role"] == "assistant"
        )
        ends = [len(prompt) for prompt in prompts if text.startswith(prompt)]
        spans = []
        for begin, stop in blocks:
            near = (end for end in ends if end < stop and not text[end:begin].strip())
            start = max(near, default=begin)
            answer = text[start:stop].rstrip()
            ended = answer.endswith(tuple(self._endings))
            spans.append((start, start + len(answer) if ended else stop))
        return spans

    def _cut(self, record: Conversation, ids: list[int], mask: list[bool]) -> Encoded:
        length, kept = 0, 0
        for token in ids:
            width = self.image_tokens if token == self.image_token_id else 1
            if length + width > self.max_length:
                break
            length, kept = length + width, kept + 1
        whole = len(ids) + len(record.images) * (self.image_tokens - 1)
        if self.image_token_id in ids[kept:]:
            raise self._too_long(record, "image cut", whole, "an image ends")
        if not any(mask[:kept]):
            raise self._too_long(record, "answer cut", whole, "the first answer starts")
        return Encoded(ids[:kept], mask[:kept], length)

    def _too_long(self, record: Conversation, reason: str, whole: int, what: str) -> BadRecordError:
        """Return the error of a record of `whole` tokens, of which the cut leaves none to train."""
        detail = (
            f"{whole} tokens, {what} after max_length={self.max_length}; give max_length={whole}, "
            "which cuts nothing of it, or leave the record out"
        )
        return BadRecordError(record.index, record.id, reason, detail)

    def _misfit(self, record: Conversation) -> tuple[str, str] | None:
        """Return why a record does not fit this model and format: a reason and its detail."""
        record = self._thoughts.split(record)
        if record.images and self.image_token_id is None:
            return "images for a model of text", f"it shows {record.images[0]!r}; leave it out"
        turns = [message for message in record.messages if message.role != "system"]
        if self.format == "plain" and (len(record.images) != 1 or len(turns) != 2):
            have = f"{counted(len(record.images), 'image')}, {counted(len(turns), 'turn')}"
            return "not a caption", f"format 'plain' takes one image and its caption, got {have}"
        for message in record.messages:
            for token in self._specials:
                if token in message.text:
                    return "special token", f"a {message.role} turn holds {token!r}; take it out"
        return None


def _check_joints(
    record: Conversation,
    text: str,
    blocks: Sequence[tuple[int, int]],
    offsets: Sequence[tuple[int, int]],
) -> None:
    """Raise BadRecordError where a token spans the end of a prompt and its answer."""
    for begin, _ in blocks:
        for start, end in offsets:
            if start < begin < end:
                detail = (
                    f"the token of {text[start:end]!r} is of the prompt and of the answer, which "
                    "would be asked for with other tokens; use another format"
                )
                raise BadRecordError(record.index, record.id, "answer joined", detail)
