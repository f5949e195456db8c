"""Generation that is right under beams, for both adapters.

The reference is `model.generate` on one prompt alone, with no stopping criterion but EOS. lm-eval
0.4.13's own loop is not that: its stop criterion is made for as many rows as there are prompts, is
shown as many as there are beam candidates, looks at the first ones only, and answers with one bool
for all, so that outputs depend on the batch size. Here EOS is left to `generate`, and other stop
strings are a criterion with an answer for each row.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import psutil
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm
from transformers import StoppingCriteria, StoppingCriteriaList

from verbalizer_bench.models.provenance import InputLog, template_sha256, versions

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
DEFAULT_MAX_BATCH_SIZE = 64


class GenerationSettings(NamedTuple):
    """What a request asks of `generate`.

    Attributes:
        max_new_tokens: At most so many.
        stops: Texts that end a response; EOS is not among them.
        kwargs: Every other argument of `generate` (`num_beams`, `do_sample`, …).
    """

    max_new_tokens: int
    stops: tuple[str, ...]
    kwargs: dict[str, Any]

    @classmethod
    def from_request(
        cls, gen_kwargs: dict[str, Any], default_max_new_tokens: int, eos: Sequence[str]
    ) -> "GenerationSettings":
        """Read lm-eval's `generation_kwargs`; stops that are the text of an EOS are left to EOS."""
        kwargs = dict(normalize_gen_kwargs(copy.deepcopy(gen_kwargs), default_max_new_tokens))
        stops = tuple(stop for stop in kwargs.pop("until") if stop and stop not in eos)
        max_new_tokens = kwargs.pop("max_gen_toks")
        if not kwargs["do_sample"]:
            kwargs.pop("temperature", None)
        return cls(max_new_tokens, stops, kwargs)

    @property
    def beams(self) -> int:
        """Return the beam width; 1 is greedy (or sampling)."""
        return int(self.kwargs.get("num_beams", 1))


class StopStrings(StoppingCriteria):
    """Say for each row whether its newest tokens hold a stop string. It keeps no state."""

    def __init__(self, stops: Sequence[str], tokenizer: Any, prompt_length: int) -> None:
        """Look for `stops` in what comes after the first `prompt_length` tokens."""
        self.stops, self.tokenizer, self.prompt_length = stops, tokenizer, prompt_length
        # A token has at least one byte, so no stop string reaches further back than its bytes; one
        # more, since decoding drops the space in front of the first token.
        self.window = max(len(stop.encode()) for stop in stops) + 1

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return a bool tensor of shape (rows,); rows are prompts, beams or beam candidates."""
        tail = input_ids[:, self.prompt_length :][:, -self.window :]
        texts = self.tokenizer.batch_decode(tail)
        return torch.tensor(
            [any(stop in text for stop in self.stops) for text in texts], device=input_ids.device
        )


def in_batches(
    items: Sequence[Item], size: int, run: Callable[[Sequence[Item]], Sequence[Result]]
) -> Iterator[tuple[Item, Result]]:
    """Run items in batches of `size`; on out-of-memory halve the size and go on where it stopped.

    Raises:
        MemoryError: A batch of one does not fit.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + size]
        try:
            results = run(batch)
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or should_reduce_batch_size(error)):
                raise
            if len(batch) == 1:
                raise MemoryError("out of memory with a batch of one prompt") from error
            size = len(batch) // 2
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            yield from zip(batch, results, strict=True)
            start += len(batch)
            continue
        # Outside the handler: the error's traceback holds the batch's tensors.
        clear_device_cache(garbage_collection=True)
        log.warning("Out of memory (%s); going on with batches of %d", reason, size)


def auto_batch_size(model: Any, tokens: int, beams: int, limit: int, scored: int = 1) -> int:
    """Estimate how many prompts fit half of the free memory of the model's device.

    Counts keys and values of every beam, a layer's activations and the logits. It need not be
    exact: running out of memory halves it.

    Args:
        model: A transformers model.
        tokens: Length of the longest prompt with its response.
        beams: Rows a prompt takes.
        limit: The most that is returned.
        scored: Positions of a row whose logits are kept.
    """
    config = model.config.get_text_config()
    width = config.hidden_size
    heads = getattr(config, "num_attention_heads", None) or 1
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    cache = 2 * config.num_hidden_layers * key_heads * (width // heads)
    inner = getattr(config, "intermediate_size", None) or 4 * width
    activations = 8 * width + 3 * (max(inner) if isinstance(inner, (list, tuple)) else inner)
    row = tokens * (cache + activations) * model.dtype.itemsize + 16 * scored * config.vocab_size
    device = model.device
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    return max(1, min(limit, int(free / 2 / (row * beams))))


class ExactGeneration:
    """Mixin over lm-eval's HFLM: `generate_until` whose outputs do not depend on batches (float32).

    A subclass turns a request into a prompt (`_prompt`), says how long it is (`_length`) and makes
    the padded inputs of a batch (`_inputs`).
    """

    adapter: str
    inputs: InputLog
    chat_applied: bool
    model: Any
    tokenizer: Any
    cache_hook: Any
    think_end_token: Any
    batch_size: Any
    max_batch_size: int | None
    max_gen_toks: int
    mixed_precision_dtype: Any
    rank: int
    world_size: int
    device: torch.device

    def _prompt(self, request: Any, max_new_tokens: int) -> Any:
        raise NotImplementedError

    def _length(self, prompt: Any) -> int:
        raise NotImplementedError

    def _inputs(self, prompts: Sequence[Any], padding_side: str) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def _chat_template(self) -> Any:
        return self.tokenizer.chat_template

    def _image_record(self) -> dict[str, Any] | None:
        """Describe the image that goes with every prompt; None for a text model."""
        return None

    def get_model_info(self) -> dict[str, Any]:
        """Return lm-eval's description of the checkpoint and, under `verbalizer_bench`, ours."""
        template = self._chat_template() if self.chat_applied else None
        record = {
            "adapter": self.adapter,
            "engine": "generate",
            "image": self._image_record(),
            "dtype": str(self.model.dtype),
            "device": str(self.device),
            "world_size": self.world_size,
            "eos_token_ids": self.eos_token_ids,
            "generation_config": self.model.generation_config.to_diff_dict(),
            "chat_template_sha256": template_sha256(template),
            **self.inputs.record(),
            "versions": versions(),
        }
        info: dict[str, Any] = super().get_model_info()  # type: ignore[misc]
        return {**info, "verbalizer_bench": record}

    @property
    def eos_token_ids(self) -> list[int]:
        """Return the ids that end a response: the checkpoint's, else the tokenizer's."""
        ids = self.model.generation_config.eos_token_id
        if ids is None:
            ids = self.tokenizer.eos_token_id
        return list(ids) if isinstance(ids, (list, tuple)) else [ids]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a response to every request; see the module's text for what is exact."""
        eos = self.tokenizer.convert_ids_to_tokens(self.eos_token_ids)
        groups: dict[str, list[int]] = {}
        settings: dict[str, GenerationSettings] = {}
        for index, request in enumerate(requests):
            gen_kwargs = request.args[1]
            key = json.dumps(gen_kwargs, sort_keys=True, default=str)
            if key not in settings:
                settings[key] = GenerationSettings.from_request(gen_kwargs, self.max_gen_toks, eos)
            groups.setdefault(key, []).append(index)
        responses: list[str] = [""] * len(requests)
        with tqdm(
            total=len(requests), desc="Generating", disable=disable_tqdm or self.rank != 0
        ) as bar:
            for key, indices in groups.items():
                for index, response in self._generate_group(requests, indices, settings[key]):
                    responses[index] = response
                    self.cache_hook.add_partial("generate_until", requests[index].args, response)
                    bar.update()
        return responses

    def _generate_group(
        self, requests: list[Any], indices: list[int], settings: GenerationSettings
    ) -> Iterator[tuple[int, str]]:
        """Generate the requests that share their settings, longest prompt first."""
        prompts = {i: self._prompt(requests[i], settings.max_new_tokens) for i in indices}
        lengths = {i: self._length(prompt) for i, prompt in prompts.items()}
        indices = sorted(indices, key=lambda i: -lengths[i])
        # A batch is of one kind: prompts with and without images take different inputs.
        kinds: dict[int, list[int]] = {}
        for index in indices:
            kinds.setdefault(len(getattr(prompts[index], "images", ())), []).append(index)
        for members in kinds.values():
            size = self._batch_size(lengths[members[0]] + settings.max_new_tokens, settings.beams)
            yield from in_batches(
                members, size, lambda batch: self._generate([prompts[i] for i in batch], settings)
            )

    def _batch_size(self, tokens: int, beams: int = 1, scored: int = 1) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        limit = self.max_batch_size or DEFAULT_MAX_BATCH_SIZE
        size = auto_batch_size(self.model, tokens, beams, limit, scored)
        log.info("batch_size=auto: %d prompts of up to %d tokens, %d beams", size, tokens, beams)
        return size

    def _generate(self, prompts: Sequence[Any], settings: GenerationSettings) -> list[str]:
        inputs = self._inputs(prompts, "left")
        length = inputs["input_ids"].shape[1]
        criteria = StoppingCriteriaList()
        if settings.stops:
            criteria.append(StopStrings(settings.stops, self.tokenizer, length))
        with (
            torch.inference_mode(),
            torch.autocast(
                self.device.type, self.mixed_precision_dtype, self.mixed_precision_dtype is not None
            ),
        ):
            output = self.model.generate(
                **inputs,
                **settings.kwargs,
                max_new_tokens=settings.max_new_tokens,
                stopping_criteria=criteria,
                eos_token_id=self.eos_token_ids,
                pad_token_id=self.tokenizer.pad_token_id,
                use_cache=True,
            )
        return [self._text(row, settings.stops) for row in output[:, length:].tolist()]

    def _text(self, tokens: list[int], stops: Sequence[str]) -> str:
        """Decode a response, without the thoughts before `think_end_token`, cut at the stops."""
        think_end = self.think_end_token
        if isinstance(think_end, int) and think_end in tokens:
            tokens = tokens[len(tokens) - tokens[::-1].index(think_end) :]
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        response: str = postprocess_generated_text(
            text, list(stops), think_end if isinstance(think_end, str) else None
        )
        return response.lstrip() if isinstance(think_end, int) else response
