"""lm-eval adapter `verbalizer-lvlm`: any AutoModelForImageTextToText checkpoint on any text task.

    verbalizer-bench run --model verbalizer-lvlm --model_args pretrained=DIR,image=white \
        --apply_chat_template --tasks verbalizer --output_path out

Every text prompt gets one blank image, in front of the (first) user turn: Shiono et al. 2024 show
LVLMs a plain white image. Tasks that bring images of their own are asked with those.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.hf_vlms import DEFAULT_IMAGE_PLACEHOLDER, HFMultimodalLM
from lm_eval.models.utils import replace_placeholders, resize_image
from PIL import Image
from transformers import LlavaConfig

from verbalizer_bench.io.images import as_rgb, image_sha256, with_8_bits
from verbalizer_bench.models.adapters.chat_prompts import ChatPrompt, RenderedPrompt
from verbalizer_bench.models.adapters.close_look import CloseLook, SeenPrompt
from verbalizer_bench.models.adapters.fingerprints import settings_sha256
from verbalizer_bench.models.adapters.image_prompts import ImagePrompts
from verbalizer_bench.models.adapters.image_tokens import ImageTokens
from verbalizer_bench.models.adapters.log_lines import show_log_lines
from verbalizer_bench.models.adapters.model_args import checked_model_args
from verbalizer_bench.models.adapters.repeats import once_each
from verbalizer_bench.models.adapters.rolling import RollingScoring
from verbalizer_bench.models.adapters.scoring import EncodedPair, Score
from verbalizer_bench.models.adapters.whole_checkpoint import WholeCheckpoint
from verbalizer_bench.models.chat.bos import give_bos_back
from verbalizer_bench.models.engine.batching import in_batches
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.finite_logits import check_scores
from verbalizer_bench.models.images import make_image, tower_size


class ImagePrompt(NamedTuple):
    """A prompt as the processor takes it.

    Attributes:
        text: The text, with one image token an image.
        images: The images.
        length: Its length in tokens, with each image slot expanded.
        ids: Its tokens; image slots are expanded where it is known to what (`ImageTokens`).
    """

    text: str
    images: tuple[Image.Image, ...]
    length: int
    ids: list[int]


def _own_images(request: Any) -> Sequence[Image.Image]:
    """Return the images that a request's task brings, if any."""
    return request.args[2].get("visual") or () if len(request.args) > 2 else ()


class _Pair(NamedTuple):
    """A context with its continuation as one prompt, and the context's length in tokens."""

    whole: ImagePrompt
    context_length: int


@register_model("verbalizer-lvlm")
class VerbalizerLVLM(WholeCheckpoint, ImagePrompts, CloseLook, RollingScoring, HFMultimodalLM):
    """HFMultimodalLM that shows text tasks a blank image and whose beams do not depend on batches.

    Takes HFMultimodalLM's arguments and `image`. Scores loglikelihood requests with images too.
    """

    adapter = "verbalizer-lvlm"

    def __init__(
        self,
        pretrained: Any,
        image: str = "white",
        engine: str = "auto",
        batch_size: int | str = 1,
        add_bos_token: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Load a checkpoint and make the image.

        Args:
            pretrained: A checkpoint folder, a hub id, or a loaded model.
            image: `white`, `gray`, `black`, `noise`, `none` (the language model alone: the same
                template and BOS rule, no image slot), or the path of an image file.
            engine: `auto`, `shared_prefix` or `generate`.
            batch_size: Prompts a batch, or `auto`.
            add_bos_token: Must be left out; the processor decides.
            kwargs: HFMultimodalLM's other arguments.

        Raises:
            ValueError: `image` is no mode and no image file, there is no such engine,
                `add_bos_token` is given, or an argument is wrong (`checked_model_args`).
        """
        if add_bos_token is not None:
            raise ValueError(
                f"add_bos_token={add_bos_token}: verbalizer-lvlm encodes with the checkpoint's "
                "processor, which decides; leave it out"
            )
        show_log_lines()
        self._set_engine(engine)
        # The parent refuses `auto`, which this class can do.
        with checked_model_args(type(self), self.adapter, pretrained, kwargs):
            super().__init__(pretrained, backend="causal", batch_size=1, **kwargs)
        self.batch_size_per_gpu = "auto" if str(batch_size).startswith("auto") else int(batch_size)
        if kwargs.get("image_string"):
            self.image_token_id = self.tokenizer.convert_tokens_to_ids(self.image_token)
        # What stands for an image in a text; some processors replace it by other tokens.
        self.image_slot = str(
            kwargs.get("image_string")
            or getattr(self.processor, "image_token", None)
            or self.image_token
        )
        self.image_mode = str(image)
        self.image = make_image(self.image_mode, tower_size(self.config))
        self._check_vocabulary(pretrained, kwargs.get("peft"))
        # Prompts without a template get the BOS that the language model had.
        give_bos_back(self.tokenizer)
        self._start_record(pretrained, kwargs)
        # Ovis's marks around an image are made by its vision model too.
        marks = getattr(self.config, "visual_indicator_token_ids", None) or ()
        self._shown = ImageTokens(
            lambda text, images: self._process([text], [list(images)], "right"),
            *(self.processor, self.image_slot, {self.image_token_id, *marks}, self.image),
        )

    def _prompt(self, request: Any, max_new_tokens: int) -> ImagePrompt:
        """Return the prompt of a request, checked: BOS, image slots, and that it fits.

        Raises:
            ValueError: Two BOS, an image slot too many or too few, or a prompt that does not fit.
        """
        context = request.args[0]
        self._note_specials(context)
        prompt = self._shown_prompt(request)
        if _own_images(request):
            self.inputs.own_images += 1
            self.inputs.own_sha256 |= {image_sha256(image) for image in prompt.images}
        slots = prompt.text.count(self.image_slot)
        if slots != len(prompt.images):
            fix = "chat template" if isinstance(context, ChatPrompt) else "task's placeholders"
            raise ValueError(
                f"a prompt has {slots} image slots for {len(prompt.images)} images: "
                f"{prompt.text[:80]!r}…; correct the {fix}"
            )
        self._log_input(prompt)
        if prompt.length + max_new_tokens > self.max_length:
            words = len(self.tokenizer(prompt.text.replace(self.image_slot, ""))["input_ids"])
            raise ValueError(
                f"a prompt of {prompt.length} tokens ({prompt.length - words} of them for images) "
                f"and {max_new_tokens} new ones do not fit the context of {self.max_length} "
                f"(max_length): {prompt.text[:80]!r}…; nothing is truncated"
            )
        return prompt

    def prompt_tokens(self, request: Any) -> int:
        """Return how long a request's prompt is, with its images."""
        return self._shown_prompt(request).length

    def _shown_prompt(self, request: Any) -> ImagePrompt:
        """Return the prompt of a request with its own images, or the blank one."""
        context = request.args[0]
        if visuals := _own_images(request):
            return self._measured(*self._task_image_prompt(context, visuals))
        return self._measured(*self._blank_image_prompt(context))

    def _log_input(self, prompt: ImagePrompt) -> None:
        """Count BOS; the run's first prompt is noted as the model gets it."""
        if self.inputs.first_input_ids:
            self.inputs.add(prompt.ids)
        else:
            self.inputs.add(self._model_inputs([prompt], "right")["input_ids"][0].tolist())

    def _blank_image_prompt(self, context: str) -> tuple[str, tuple[Image.Image, ...]]:
        images = () if self.image is None else (self.image,)
        if isinstance(context, RenderedPrompt):
            return str(context), images
        if isinstance(context, ChatPrompt):
            text = self._render_blank(context.messages, context.add_generation_prompt)
            original = "".join(message["content"] for message in context.messages)
        else:
            text = (f"{self.image_slot}\n" if images else "") + self.escape(context)
            original = context
        self.inputs.escaped += self.escape(original) != original
        return text, images

    def _task_image_prompt(
        self, context: str, visuals: Sequence[Image.Image]
    ) -> tuple[str, tuple[Image.Image, ...]]:
        text = str(context)
        if isinstance(context, ChatPrompt):
            text = self._render_placeholders(context.messages, context.add_generation_prompt)
        elif not isinstance(context, RenderedPrompt):
            text = replace_placeholders(
                context, DEFAULT_IMAGE_PLACEHOLDER, self.image_slot, self.max_images
            )
        images = tuple(
            resize_image(with_8_bits(i), self.image_width, self.image_height, self.image_max_side)
            for i in visuals[: self.max_images]
        )
        if self.rgb:
            images = tuple(map(as_rgb, images))
        return text, images

    def _measured(self, text: str, images: tuple[Image.Image, ...]) -> ImagePrompt:
        special = self._special_tokens(text)
        expanded = self._shown.expanded(text, images) if images else text
        ids: list[int] = self.tokenizer(expanded or text, **special)["input_ids"]
        added = 0 if expanded is not None else self._shown.added(images)
        return ImagePrompt(text, images, len(ids) + added, ids)

    def _special_tokens(self, text: str) -> dict[str, bool]:
        """Return the option that adds no BOS to a text that begins with it, as in training.

        To drop the BOS and have it added again would make other tokens of what follows it.
        """
        return {"add_special_tokens": False} if text.startswith(self._openings) else {}

    def _seen(self, request: Any, prompt: ImagePrompt) -> SeenPrompt:
        ids = self._model_inputs([prompt], "right")["input_ids"][0].tolist()
        places = [place for place, token in enumerate(ids) if token in self._shown.image_token_ids]
        return SeenPrompt(prompt.text, ids, prompt.images, tuple(places))

    def _prompt_end(self, prompt: ImagePrompt) -> str:
        return prompt.text[-64:]

    def _batch_key(self, prompt: ImagePrompt) -> tuple[int, bool]:
        return len(prompt.images), prompt.text.startswith(self._openings)

    def _prompt_length(self, prompt: ImagePrompt) -> int:
        return prompt.length

    def _engine_prompt(self, prompt: ImagePrompt) -> EncodedPrompt | None:
        """Return the prompt with its images in its head; None where that is not known."""
        if not prompt.images:
            return EncodedPrompt(prompt.ids)
        if len(prompt.ids) != prompt.length:
            return None
        return self._shown.encoded(prompt.ids, prompt.text, prompt.images)

    def _model_inputs(
        self, prompts: Sequence[ImagePrompt], padding_side: str
    ) -> dict[str, torch.Tensor]:
        """Encode a batch of one kind, with or without images.

        Raises:
            ValueError: The processor made other lengths than were measured, or padded elsewhere.
        """
        batch = self._process(
            [prompt.text for prompt in prompts],
            [list(prompt.images) for prompt in prompts] if prompts[0].images else None,
            padding_side,
        )
        mask = batch["attention_mask"]
        lengths = [prompt.length for prompt in prompts]
        positions = torch.arange(mask.shape[1], device=mask.device)
        if padding_side == "left":
            positions = positions.flip(0)
        expected = positions < torch.tensor(lengths, device=mask.device)[:, None]
        if not torch.equal(mask.bool(), expected):
            raise ValueError(
                f"the processor {type(self.processor).__name__} made prompts of "
                f"{mask.sum(1).tolist()} tokens where {lengths} were measured, or did not pad at "
                f"the {padding_side}; verbalizer-lvlm cannot ask this checkpoint exactly"
            )
        return batch

    def _process(
        self, texts: list[str], images: list[list[Image.Image]] | None, padding_side: str
    ) -> dict[str, torch.Tensor]:
        padding: dict[str, Any] = {"padding": "longest", "padding_side": padding_side}
        padding |= self._special_tokens(texts[0])
        if images is None:
            return dict(self.tokenizer(texts, return_tensors="pt", **padding).to(self.device))
        flat = isinstance(self.config, LlavaConfig)
        batch = self.processor(
            text=texts,
            images=[image for row in images for image in row] if flat else images,
            return_tensors="pt",
            **padding,
        )
        return dict(batch.to(self.device, self.model.dtype))

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Score]:
        """Return each continuation's log probability, and whether it is the greedy one."""

        def score(unique: list[Any]) -> list[Score]:
            pairs = [self._pair(request) for request in unique]
            return self._score_pairs(
                unique, pairs, lambda rest: self._score_plain(pairs, rest), disable_tqdm
            )

        return once_each(requests, score)

    def _pair(self, request: Any) -> _Pair:
        prompt = self._prompt(request, 0)
        text, context = prompt.text, prompt.text
        if request.args[0]:
            # White space between the two belongs to the continuation, as in lm-eval.
            context = text.rstrip()
        if not self._measured(context, prompt.images).length:
            context = self.tokenizer.decode([self.prefix_token_id])
            text = context + text
        whole = self._measured(text + self.escape(request.args[1]), prompt.images)
        if whole.length > self.max_length:
            raise ValueError(
                f"a context with its continuation has {whole.length} tokens, more than the "
                f"{self.max_length} of max_length: {whole.text[:80]!r}…; nothing is truncated"
            )
        return _Pair(whole, self._measured(context, prompt.images).length)

    def _engine_pair(self, pair: _Pair) -> EncodedPair | None:
        encoded, length = self._engine_prompt(pair.whole), pair.context_length
        if encoded is None or not length:
            return None
        if length <= encoded.head_length:
            return None
        context = EncodedPrompt(encoded.ids[:length], encoded.head)
        return EncodedPair(pair.whole, context, encoded.ids[length:])

    def _score_plain(
        self, pairs: Sequence[_Pair], indices: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        by_key: dict[Any, list[int]] = {}
        for index in sorted(indices, key=lambda i: -pairs[i].whole.length):
            by_key.setdefault(self._batch_key(pairs[index].whole), []).append(index)
        for members in by_key.values():
            longest = pairs[members[0]].whole.length
            size = self._plain_batch_size(longest, logit_positions=longest)
            yield from in_batches(
                members, size, lambda batch: self._score([pairs[i] for i in batch])
            )

    def _score(self, pairs: Sequence[_Pair]) -> list[Score]:
        inputs = self._model_inputs([pair.whole for pair in pairs], "right")
        with torch.inference_mode(), self._autocast():
            logits = self.model(**inputs).logits
        scores = []
        for row, (whole, context_length) in enumerate(pairs):
            targets = inputs["input_ids"][row, context_length : whole.length]
            # Logits of a position are of the token behind it.
            log_probs = torch.log_softmax(
                logits[row, context_length - 1 : whole.length - 1],
                dim=-1,
                dtype=self.softmax_dtype,
            )
            total = log_probs.gather(1, targets[:, None]).sum()
            scores.append((float(total), bool((log_probs.argmax(-1) == targets).all())))
        check_scores(scores, self.model)
        return scores

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts without an image.

        Raises:
            ValueError: `image` is not `none`: a text without a prompt has no place for an image.
        """
        if self.image is not None:
            raise ValueError(
                f"image={self.image_mode}: loglikelihood_rolling scores a text without a prompt "
                "and has no place for an image; give image=none"
            )
        return super().loglikelihood_rolling(requests, disable_tqdm)

    def _image_processor_sha256(self) -> str:
        return settings_sha256(self.processor.image_processor.to_dict())

    def _image_record(self) -> dict[str, Any]:
        if self.image is None:
            return {"mode": self.image_mode}
        return {
            "mode": self.image_mode,
            "sha256": image_sha256(self.image),
            "size": list(self.image.size),
            "tokens": self._shown.image_tokens(self.image),
        }
