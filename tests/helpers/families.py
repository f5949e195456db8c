"""Tiny random models of transformers' families, and what the engine makes of each.

A family is a configuration class with sizes of a few dozen numbers. Weights are enlarged, so that
each prompt gets a response of its own. The engine is compared with `generate`, one prompt at a
time, greedy and with 10 beams; where it declines, its reason is the outcome.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
)

from verbalizer_bench.models.adapters.engine_choice import EngineChoice
from verbalizer_bench.models.adapters.image_tokens import ImageTokens
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings

PAD, BOS, EOS = 0, 1, 2
# Ids of text are below 100; then come those that stand for images and around them.
IMAGE, VIDEO, BEFORE_IMAGE, BEHIND_IMAGE = 110, 111, 112, 113
NEW_TOKENS = 6
# Two hypotheses whose reference scores differ by less are tied: float sums in another order decide.
TIE = 1e-5

TEXT_SIZES: Mapping[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "tie_word_embeddings": False,
}
# What a family's configuration has no place for is left out.
ABSENT = object()
# How a forward of transformers 5.24 ends, Llama 4's: it asks a text model's output for images'.
_BROKEN_FORWARD = "has no attribute 'image_outputs'"
Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Images:
    """How a family's processor shows images, without the processor.

    Attributes:
        tokens: Image tokens of one image.
        pixels: Makes the inputs of images of the images' numbers.
        token_types: Input of the ids' shape that is 1 at image tokens.
        around: Ids before and behind the image tokens of an image.
    """

    tokens: int
    pixels: Callable[[Sequence[int]], Inputs]
    token_types: str | None = None
    around: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        model_type: transformers' name of it.
        known_as: Checkpoints of it that users know.
        sizes: Its configuration where it is not `TEXT_SIZES`, or all of it with `images`.
        note: What of its architecture the prompts reach.
        images: How it is shown images; None for a language model.
    """

    model_type: str
    known_as: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    images: Images | None = None

    @property
    def name(self) -> str:
        """Return a name that no other has."""
        return f"{self.model_type}, {self.note}" if self.note else self.model_type


class Shown(NamedTuple):
    """A prompt as the model takes it and as the engine does."""

    inputs: Inputs
    encoded: EncodedPrompt


class Outcome(NamedTuple):
    """What the engine makes of a model.

    Attributes:
        reason: Why it declines; None where its responses are those of `generate`.
        mended: Whether `generate` shows beams other images than the prompt's, and the responses
            are those of a `generate` that does not.
    """

    reason: str | None
    mended: bool = False


def text_config(model_type: str, **changes: Any) -> dict[str, Any]:
    """Return the configuration of a vision-language model's language model."""
    return {"model_type": model_type, **_without_absent({**TEXT_SIZES, **changes})}


def _without_absent(sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sizes.items() if value is not ABSENT}


def configuration(family: Family) -> Any:
    """Return a family's configuration."""
    sizes = family.sizes if family.images else {**TEXT_SIZES, **family.sizes}
    return AutoConfig.for_model(family.model_type, **_without_absent(sizes))


def shapes(family: Family) -> Any:
    """Return a family's model on the meta device, which has shapes and no weights."""
    config = configuration(family)
    with torch.device("meta"):
        return _auto_class(family, config).from_config(config)


def build(family: Family) -> Any:
    """Return a family's model, with weights that answer each prompt in its own way."""
    torch.manual_seed(0)
    config = configuration(family)
    model = _auto_class(family, config).from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                # Some are left as zeros, or as whatever was in memory.
                weight.normal_(0, 0.2) if not 0 < weight.std() < 1 else weight.mul_(10)
        # No model that was trained answers with the tokens of an image.
        if head := model.get_output_embeddings():
            head.weight[IMAGE:] = 0
    return model.eval()


def _auto_class(family: Family, config: Any) -> Any:
    if family.images:
        return AutoModelForImageTextToText
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


class Adapter(EngineChoice):
    """An adapter that is given model inputs, without a processor."""

    def __init__(self, model: Any) -> None:
        self.model, self.device, self.mixed_precision_dtype = model, model.device, None
        self.tokenizer = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS)
        self._set_engine("auto")

    def _engine_prompt(self, prompt: Shown) -> EncodedPrompt:
        return prompt.encoded

    def _model_inputs(self, prompts: Sequence[Shown], padding_side: str) -> Inputs:
        (prompt,) = prompts
        return prompt.inputs


def settings(beams: int) -> GenerationSettings:
    return GenerationSettings(NEW_TOKENS, (), {"num_beams": beams, "do_sample": False})


def language_prompts() -> list[Shown]:
    """Return prompts of 14 to 27 tokens, of which the first 13 are the same."""
    front = [BOS, *_words(1, 12)]
    sequences = [[*front, *_words(2 + n, length)] for n, length in enumerate((1, 4, 9, 14))]
    return [Shown(_ids(sequence), EncodedPrompt(sequence)) for sequence in sequences]


def image_prompts(family: Family) -> list[Shown]:
    """Return prompts that show one image, another, and two; a short and a longer one of each."""
    assert family.images
    shown = _Shows(family.images, family.sizes.get("visual_indicator_token_ids", ()))
    return [
        shown.prompt(images, _words(20 + number, length))
        for images in ((1,), (2,), (1, 3))
        for number, length in enumerate((1, 7))
    ]


class _Shows:
    """Writes prompts with images, as a family's processor does."""

    def __init__(self, images: Images, marks: Sequence[int]) -> None:
        self.images = images
        self._tokens = ImageTokens(self.inputs, None, "", {IMAGE, *marks}, None)

    def prompt(self, numbers: Sequence[int], text: list[int]) -> Shown:
        before, behind = self.images.around
        ids = [BOS, *_words(1, 4)]
        for number in numbers:
            ids += [*before, *[IMAGE] * self.images.tokens, *behind, *_words(10 + number, 2)]
        ids += text
        written = " ".join(map(str, ids))
        # A number is an image of one pixel.
        pixels = [Image.new("L", (1, 1), number) for number in numbers]
        encoded = self._tokens.encoded(ids, written, pixels)
        assert encoded
        return Shown(self.inputs(written, pixels), encoded)

    def inputs(self, written: str, images: Sequence[Image.Image]) -> Inputs:
        ids = [int(token) for token in written.split()]
        inputs = _ids(ids) | self.images.pixels([image.getpixel((0, 0)) for image in images])
        if self.images.token_types:
            inputs[self.images.token_types] = (inputs["input_ids"] == IMAGE).long()
        return inputs


def _words(seed: int, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 100, (count,), generator=generator).tolist()


def _ids(sequence: Sequence[int]) -> Inputs:
    ids = torch.tensor([sequence])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def noise(numbers: Sequence[int], *shape: int) -> torch.Tensor:
    """Return values of images by their numbers, (images, *shape)."""
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(number)) for number in numbers]
    )


def outcome(model: Any, prompts: Sequence[Shown]) -> Outcome:
    """Return what the engine makes of a model and such prompts.

    Raises:
        AssertionError: The engine takes them, and a response differs from that of `generate`.
    """
    adapter = Adapter(model)
    longest = NEW_TOKENS + max(len(prompt.encoded.ids) for prompt in prompts)
    try:
        reason = adapter._unsupported_reason(prompts[0], settings(10), longest)
    except AttributeError as error:
        if not _is_broken(model, prompts[0].inputs, error):
            raise
        return Outcome(f"its own generate ends in AttributeError: {error}")
    if reason:
        return Outcome(reason)
    engine = adapter._shared_prefix_engine
    assert engine
    mended = False
    for beams in (1, 10):
        found = dict(engine.generate([prompt.encoded for prompt in prompts], settings(beams), None))
        wrong = beams > 1 and any(shows_beams_others(model, prompt.inputs) for prompt in prompts)
        with _beams_with_their_images(model) if wrong else nullcontext():
            wanted = [_generated(model, prompt.inputs, beams) for prompt in prompts]
        assert len(set(map(tuple, wanted))) > len(wanted) // 2, "prompts do not matter to it"
        for number, prompt in enumerate(prompts):
            if found[number] != wanted[number]:
                _check_tie(model, prompt.inputs, beams, found[number], wanted[number])
        mended |= wrong
    return Outcome(None, mended)


def _is_broken(model: Any, inputs: Inputs, error: AttributeError) -> bool:
    """Return whether it is a known error that the model's own `generate` ends in, too."""
    if not str(error).endswith(_BROKEN_FORWARD):
        return False
    with pytest.raises(AttributeError, match=_BROKEN_FORWARD):
        _generate(model, inputs, 1, 1)
    return True


def _check_tie(model: Any, inputs: Inputs, beams: int, found: list[int], wanted: list[int]) -> None:
    scores = _score(model, inputs, found), _score(model, inputs, wanted)
    assert beams > 1 and abs(scores[0] - scores[1]) < TIE, (beams, found, wanted, scores)


def shows_beams_others(model: Any, inputs: Inputs) -> bool:
    """Return whether `generate` shows the beams of a prompt other images than the prompt's."""
    if len(inputs) <= 2:
        return False
    try:
        output = _generate(
            *(model, inputs, 10, 1), output_logits=True, return_dict_in_generate=True
        )
    except ValueError as error:
        assert "Image features and image tokens do not match" in str(error)
        return True
    # Before the first token beams are equal.
    first = output.logits[0]
    return bool((first - first[0]).abs().max() > 0.1)


@contextmanager
def _beams_with_their_images(model: Any) -> Iterator[None]:
    """Have `generate` repeat a prompt's inputs as a whole for each beam, images in their order."""

    def expand(
        expand_size: int = 1, input_ids: Any = None, **inputs: Any
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        inputs.pop("is_encoder_decoder", None)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor):
                # The positions of M-RoPE have the batch behind their axes.
                batch = 1 if name == "position_ids" and value.dim() == 3 else 0
                inputs[name] = torch.cat([value] * expand_size, dim=batch)
        return torch.cat([input_ids] * expand_size), inputs

    model._expand_inputs_for_generation = expand
    model._supports_mm_encoder_outputs = lambda: False
    try:
        yield
    finally:
        del model._expand_inputs_for_generation, model._supports_mm_encoder_outputs


def _generate(model: Any, inputs: Inputs, beams: int, new_tokens: int, **more: Any) -> Any:
    return model.generate(
        **inputs,
        **more,
        num_beams=beams,
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def _generated(model: Any, inputs: Inputs, beams: int) -> list[int]:
    output = _generate(model, inputs, beams, NEW_TOKENS)
    tokens: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


@torch.no_grad()
def _score(model: Any, inputs: Inputs, tokens: list[int]) -> float:
    """Return what beam search ranks a response by."""
    shape, new = inputs["input_ids"].shape, torch.tensor([tokens])
    longer = dict(inputs)
    for name, tensor in inputs.items():
        if tensor.shape == shape:
            fill = {"input_ids": new, "attention_mask": torch.ones_like(new)}
            more = fill.get(name, torch.zeros_like(new)).to(tensor.dtype)
            longer[name] = torch.cat([tensor, more], dim=1)
    scores = model(**longer).logits[0, shape[1] - 1 : -1].log_softmax(-1)
    return float(scores.gather(1, new.T).mean())
