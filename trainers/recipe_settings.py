"""What stands in a recipe's blocks (`model`, `lora`, …), checked before any weight is read."""

from dataclasses import dataclass
from pathlib import Path

from verbalizer_bench.config import Choice, OneOrMore, check
from verbalizer_bench.models.checkpoints.choices import CONNECTORS, PARTS
from verbalizer_bench.models.checkpoints.second_tower import SecondTower

ALL, NONE, LORA = "all", "none", "lora"
# TRL's losses of a pair that need no setting but beta.
PAIR_LOSSES = ("sigmoid", "hinge", "ipo", "bco_pair", "apo_zero", "apo_down", "sft")


@dataclass(frozen=True)
class ModelSettings:
    """The model to train: a checkpoint, the parts of a LLaVA, or a configuration alone.

    Attributes:
        path: A checkpoint folder or hub id: a causal LM for `sft`, a CLIP for `tower`, a LLaVA for
            `pretrain`, a vision-language model for the other methods.
        llm: With `vision_tower` and `connector`: the parts of a LLaVA, composed at the start.
        vision_tower: A folder or hub id; CLIP, SigLIP or another tower with patch features.
        connector: `linear` or `mlp2x_gelu`.
        second: A second vision tower, with which a LLaVA of parts is composed.
        config: A folder with a config.json: that architecture with random weights, in place of
            the others. For training from scratch, and for `--dry-run` where no weights are.
    """

    path: str | None = None
    llm: str | None = None
    vision_tower: str | None = None
    connector: str | None = None
    config: str | None = None
    second: SecondTower | None = None

    @property
    def towers(self) -> str:
        """Return what the vision towers of the parts are, for people."""
        if self.second is None:
            return str(self.vision_tower)
        return f"{self.vision_tower} and {self.second.tower}, {self.second.mixture}"

    def __post_init__(self) -> None:
        parts = {"llm": self.llm, "vision_tower": self.vision_tower, "connector": self.connector}
        given = [name for name, value in (parts | {"second": self.second}).items() if value]
        if self.config or (self.path and not given):
            return
        if self.path:
            raise ValueError(
                f"model: path and {', '.join(given)} exclude each other; leave one out"
            )
        if not all(parts.values()):
            missing = ", ".join(f"model.{name}" for name in parts if name not in given)
            raise ValueError(f"model: give path, or config, or all parts; missing: {missing}")
        if self.connector not in CONNECTORS:
            raise ValueError(f"model.connector={self.connector}: one of {', '.join(CONNECTORS)}")


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter on the language model's linear layers; the connector is trained beside it.

    Attributes:
        r: Rank.
        alpha: Scale; the update is multiplied by alpha / r.
        dropout: Of the adapter's input.
    """

    r: int
    alpha: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check("lora.r", self.r, self.r >= 1, "at least 1")
        check("lora.alpha", self.alpha, self.alpha >= 1, "at least 1")
        check("lora.dropout", self.dropout, 0 <= self.dropout < 1, "from 0 to below 1")


@dataclass(frozen=True)
class QuantizationSettings:
    """How an adapter's base is held, under transformers' names; `qlora` of pip's extras.

    The linear layers inside the language model are quantised. Embeddings, norms, output layer,
    connector and vision tower are not.

    Attributes:
        load_in_4bit: Hold them in 4 bits (QLoRA, arXiv 2305.14314).
        load_in_8bit: Or in 8 (LLM.int8(), arXiv 2208.07339).
        bnb_4bit_quant_type: What 16 values 4 bits stand for: `nf4` (a normal distribution's
            quantiles) or `fp4`.
        bnb_4bit_use_double_quant: Quantise the scales of 4-bit blocks too: 0.37 bits a weight.
    """

    load_in_4bit: bool = False
    load_in_8bit: bool = False
    bnb_4bit_quant_type: str = "nf4"
    bnb_4bit_use_double_quant: bool = False

    def __post_init__(self) -> None:
        if self.load_in_4bit == self.load_in_8bit:
            raise ValueError("quantization: give either load_in_4bit: true or load_in_8bit: true")
        kind = self.bnb_4bit_quant_type
        check("quantization.bnb_4bit_quant_type", kind, kind in ("nf4", "fp4"), "nf4 or fp4")
        given = kind != "nf4" or self.bnb_4bit_use_double_quant
        if self.load_in_8bit and given:
            raise ValueError("quantization: bnb_4bit_… go with load_in_4bit alone; leave them out")


@dataclass(frozen=True)
class TrainSettings:
    """Which parts of a model are trained; what is left out is as the method has it.

    Attributes:
        vision_tower: `all` or `none`, which is every method's.
        connector: `all` or `none`; `all` is every method's that shows images.
        language_model: `all` with the output layer; `attention`, `mlp`, `mlp_in` (as
            `trained_modules`); `lora`, an adapter by the block `lora`; `none`, which is
            `pretrain`'s.
    """

    vision_tower: Choice | None = None
    connector: Choice | None = None
    language_model: Choice | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("vision_tower", (ALL, NONE)),
            ("connector", (ALL, NONE)),
            ("language_model", (*PARTS, LORA, NONE)),
        ):
            value = getattr(self, name)
            check(f"train.{name}", value, value in (None, *known), f"one of {', '.join(known)}")


@dataclass(frozen=True)
class DpoSettings:
    """Direct preference optimisation, under TRL's names.

    Attributes:
        beta: How much it costs to move away from the reference; of `ipo` its tau.
        loss_type: One of `PAIR_LOSSES`, or several, which are added: MPO (arXiv 2411.10442) is
            [sigmoid, bco_pair, sft] with loss_weights [0.8, 0.2, 1.0]. `sft` is a mean over the
            tokens of a micro-batch, which `per_device_batch_size` changes; the others over pairs.
        loss_weights: A weight for each of them; None: 1 each.
    """

    beta: float = 0.1
    loss_type: OneOrMore[str] = ("sigmoid",)
    loss_weights: OneOrMore[float] | None = None

    def __post_init__(self) -> None:
        check("dpo.beta", self.beta, self.beta > 0, "above 0")
        for name in self.loss_type or ("[]",):
            check("dpo.loss_type", name, name in PAIR_LOSSES, f"one of {', '.join(PAIR_LOSSES)}")
        twice = len(set(self.loss_type)) < len(self.loss_type)
        check("dpo.loss_type", list(self.loss_type), not twice, "each once")
        weights = self.loss_weights
        if weights is None:
            return
        same = len(weights) == len(self.loss_type) and all(weight > 0 for weight in weights)
        check(
            "dpo.loss_weights",
            list(weights),
            same,
            f"a weight above 0 for each of {', '.join(self.loss_type)}",
        )


@dataclass(frozen=True)
class TextReplaySettings:
    """Records of text among those of `data`, so that what a language model could do is kept.

    Attributes:
        data: Files of records without images, as `data` has them.
        share: What of an epoch's records is of them, above 0 and below 1: with 0.3 and 700 other
            records 300 are drawn, by the seed; of several files in proportion to their sizes.
    """

    data: OneOrMore[Path]
    share: float

    def __post_init__(self) -> None:
        check("text_replay.data", "[]", bool(self.data), "at least one file")
        check("text_replay.share", self.share, 0 < self.share < 1, "above 0 and below 1")
