"""What a run says of itself: how it was asked, by what, and what came out, over all its ranks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from verbalizer_bench.models.adapters.chat_prompts import ChatPrompts
from verbalizer_bench.models.adapters.fingerprints import (
    settings_sha256,
    tokenizer_sha256,
    versions,
    weights_fingerprint,
)
from verbalizer_bench.models.adapters.finish_reason import tokenizer_eos
from verbalizer_bench.models.adapters.input_log import InputLog, unknown_id
from verbalizer_bench.models.adapters.journal import Journal, Response
from verbalizer_bench.models.adapters.response_counts import count_ending, ending_record
from verbalizer_bench.models.chat.bos import openings
from verbalizer_bench.models.checkpoints.weight_hash import KIND, weights_sha256
from verbalizer_bench.models.engine.calibration import Calibration

# What tuning leaves as it is. The vocabulary may grow by an image's token.
_SIZES = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads")


def language_sizes(config: Any) -> dict[str, int]:
    """Return the sizes of a model's language model, as far as its configuration has them."""
    sizes = {name: getattr(config.get_text_config(), name, None) for name in _SIZES}
    return {name: size for name, size in sizes.items() if isinstance(size, int)}


class RankCounts(NamedTuple):
    """What a rank counted: by what its responses and scores were made, its prompts, the endings."""

    engines: Counter[str]
    scorers: Counter[str]
    inputs: InputLog
    endings: Counter[str]


class RunRecorder(ChatPrompts):
    """Mixin over lm-eval's HFLM: counts, record and fingerprint of a run.

    Attributes:
        journal: Where answers are kept, and taken from; `verbalizer-bench run` sets it.
    """

    journal: Journal | None = None
    adapter: str
    engine: str
    inputs: InputLog
    think_end_token: Any
    max_length: int
    mixed_precision_dtype: Any
    rank: int
    world_size: int
    device: torch.device
    # Of the model on its device, for all engines of this adapter; a CPU has none.
    calibration: Calibration | None = None

    def _image_record(self) -> dict[str, Any] | None:
        """Describe the image that goes with every prompt; None for a text model."""
        return None

    def _image_processor_sha256(self) -> str | None:
        """Return a hash of how images become pixels; None for a text model."""
        return None

    def get_model_info(self) -> dict[str, Any]:
        """Return lm-eval's description of the checkpoint and, under `verbalizer_bench`, ours."""
        ranks = self._counts or [self._rank_counts()]
        inputs = InputLog.merged([counts.inputs for counts in ranks])
        made = sum(counts.engines.total() + counts.scorers.total() for counts in ranks)
        record = {
            "adapter": self.adapter,
            "engine": dict(sum((counts.engines for counts in ranks), Counter())),
            "responses_by_rank": [counts.engines.total() for counts in ranks],
            "scores": dict(sum((counts.scorers for counts in ranks), Counter())),
            "image": inputs.own_record(made) or self._image_record(),
            "dtype": str(self.model.dtype),
            "device": str(self.device),
            "calibration": self.calibration.record() if self.calibration else None,
            # Whose sha256 `fingerprint.weights` is then.
            "gguf_file": self._source[1].get("gguf_file"),
            "world_size": self.world_size,
            "eos_token_ids": self.eos_token_ids,
            "tokenizer_eos": tokenizer_eos(self.tokenizer),
            "generation_config": self.model.generation_config.to_diff_dict(),
            **self._chat_record(),
            **self._turn_record(self.eos_token_ids),
            **ending_record(sum((counts.endings for counts in ranks), Counter())),
            "fingerprint": self._fingerprint(),
            "language_model": language_sizes(self.model.config),
            **inputs.record(),
            "versions": versions(),
        }
        info: dict[str, Any] = super().get_model_info()  # type: ignore[misc]
        return {**info, "verbalizer_bench": record}

    @property
    def eos_token_ids(self) -> list[int]:
        """Return the ids that end a response: the checkpoint's, else the tokenizer's."""
        ids = self.model.generation_config.eos_token_id
        if ids is None or ids == []:
            ids = self.tokenizer.eos_token_id
        if ids is None:
            return []
        return list(ids) if isinstance(ids, (list, tuple)) else [ids]

    def _start_counts(self) -> None:
        # How many responses each engine made, and how they ended.
        self._used_engines: Counter[str] = Counter()
        self._used_scorers: Counter[str] = Counter()
        self._endings: Counter[str] = Counter()

    def _count(self, response: Response) -> None:
        self._used_engines[response.engine] += 1
        count_ending(self._endings, response)

    def _start_record(
        self, pretrained: Any, kwargs: Mapping[str, Any], bos_asked: bool = False
    ) -> None:
        """Note what was loaded, what prompts begin with, and which rank this is.

        Rank and world size are of the process group: prompts are split over its processes. lm-eval
        takes them from the GPUs of one node: on CPUs every process would do everything. With
        `tp_plan` all processes are one model.
        """
        # Its files are hashed when the record first asks for it.
        self._source = pretrained, dict(kwargs)
        self._openings = openings(self.tokenizer)
        self.inputs = InputLog(
            self.tokenizer.bos_token_id, bos_asked or self._has_bos(), unknown_id(self.tokenizer)
        )
        # What each rank counted, rank 0 first.
        self._counts: list[RankCounts] = []
        tp_plan = kwargs.get("tp_plan")
        if torch.distributed.is_available() and torch.distributed.is_initialized() and not tp_plan:
            self._rank = torch.distributed.get_rank()
            self._world_size = torch.distributed.get_world_size()

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what all ranks give, in their order, on the CPU; numbers become a vector."""
        if self.world_size == 1:
            return tensor
        tensors: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(tensors, tensor.cpu())
        return torch.cat([one.reshape(-1) if one.dim() == 0 else one for one in tensors])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def _share_counts(self) -> None:
        """Gather what all ranks counted: the run's record is of all."""
        if self.world_size == 1:
            return
        counts: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(counts, self._rank_counts())
        self._counts = counts

    def _rank_counts(self) -> RankCounts:
        return RankCounts(self._used_engines, self._used_scorers, self.inputs, self._endings)

    def _journal_keys(self, requests: Sequence[Any]) -> list[str]:
        """Return the requests' keys in the journal, which is of this model; none without one."""
        if not self.journal:
            return []
        self.journal.check_model(self._fingerprint())
        return self.journal.keys(requests)

    def _weights(self) -> dict[str, str]:
        """Return the hash of the weights as stored, whatever their type here, and as loaded."""
        if not hasattr(self, "_weights_fingerprints"):
            pretrained, kwargs = self._source
            self._weights_fingerprints = {
                "weights": weights_sha256(pretrained, **kwargs),
                "weights_kind": KIND,
                "weights_loaded": weights_fingerprint(self.model),
            }
        return self._weights_fingerprints

    def _fingerprint(self) -> dict[str, Any]:
        """Return what a response depends on beside the request."""
        image = self._image_record() or {}
        return {
            "adapter": self.adapter,
            "architecture": type(self.model).__name__,
            **self._weights(),
            "config": settings_sha256(self.model.config.to_dict()),
            "tokenizer": tokenizer_sha256(self.tokenizer),
            "image_processor": self._image_processor_sha256(),
            "dtype": str(self.model.dtype),
            "engine": self.engine,
            "max_length": self.max_length,
            "image": image.get("sha256", image.get("mode")),
            "eos_token_ids": self.eos_token_ids,
            "generation_config": self.model.generation_config.to_diff_dict(),
            "think_end_token": self.think_end_token,
            **self._chat_fingerprint(),
            "mixed_precision": str(self.mixed_precision_dtype),
            "versions": versions(),
        }
