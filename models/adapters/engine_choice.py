"""Which engine makes a response: shared prefixes where they are exact, else `generate`."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from verbalizer_bench.models.adapters.run_record import RunRecorder
from verbalizer_bench.models.checkpoints.strict_loading import one_line
from verbalizer_bench.models.engine.batching import auto_batch_size
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.finite_logits import check_finite
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine
from verbalizer_bench.models.engine.support import unsupported_reason

log = logging.getLogger(__name__)
ENGINES = ("auto", "shared_prefix", "generate")
DEFAULT_MAX_BATCH_SIZE = 64
# A log probability may differ by so much from a plain forward pass: float sums in another order.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
# In low precision one token of 150,000 may by chance: what counts is the mean over what is likely.
# float16 has three bits more. Of quantised weights nothing was measured.
_LOW_PRECISION_TOLERANCE, _FLOAT16_TOLERANCE = 0.2, 0.025


class EngineChoice(RunRecorder):
    """Mixin over lm-eval's HFLM that chooses engine and batch size.

    A subclass turns a prompt into what either engine takes (`_engine_prompt`, `_model_inputs`).
    """

    batch_size: Any
    max_batch_size: int | None

    def _engine_prompt(self, prompt: Any) -> EncodedPrompt | None:
        """Return a prompt as the shared-prefix engine takes it; None where it cannot."""
        raise NotImplementedError

    def _model_inputs(self, prompts: Sequence[Any], padding_side: str) -> dict[str, torch.Tensor]:
        """Return the padded inputs of a batch, as the model's forward takes them."""
        raise NotImplementedError

    def _set_engine(self, engine: str) -> None:
        """Set `engine`: `auto` takes the shared prefix where it is exact, else says why not.

        Raises:
            ValueError: There is no such engine.
        """
        if engine not in ENGINES:
            raise ValueError(f"engine={engine}: one of {', '.join(ENGINES)}")
        self.engine = engine
        self._start_counts()
        self._shared_prefix_engine: SharedPrefixEngine | None = None

    def _choose_shared_prefix(
        self, prompt: Any, settings: GenerationSettings | None, longest: int
    ) -> SharedPrefixEngine | None:
        """Return the shared-prefix engine for prompts like this one; None: it is not exact there.

        What is chosen is said in one log line. `settings` as in `unsupported_reason`; `longest` is
        the length of the longest of them with its response, in tokens.

        Raises:
            ValueError: `engine=shared_prefix` was asked for and would not be exact.
        """
        reason = self._unsupported_reason(prompt, settings, longest)
        if reason is None and (engine := self._shared_prefix_engine):
            log.info("engine: shared_prefix: it agrees with a plain forward pass here")
            self.calibration = engine.calibrate(self.calibration)
            return engine
        if self.engine == "shared_prefix":
            raise ValueError(f"engine=shared_prefix: not exact here: {reason}; give engine=auto")
        instead = "a forward pass a score" if settings is None else "generate"
        if self.engine == "generate":
            log.info("engine: %s, as asked", instead)
        else:
            # Whoever samples wants no search: that is no news.
            samples = settings is not None and settings.kwargs.get("do_sample")
            level = logging.DEBUG if samples else logging.WARNING
            log.log(level, "engine: %s, not shared_prefix: %s", instead, reason)
        return None

    def _unsupported_reason(
        self, prompt: Any, settings: GenerationSettings | None, longest: int
    ) -> str | None:
        """Return why prompts like this one cannot have a shared prefix; None if they can."""
        if self.engine == "generate":
            return "engine=generate"
        if self.mixed_precision_dtype is not None:
            return "mixed precision"
        if any(parameter.is_meta for parameter in self.model.parameters()):
            return "weights offloaded"
        if reason := unsupported_reason(self.model, settings, longest):
            return reason
        if self._shared_prefix_engine is None:
            self._shared_prefix_engine = SharedPrefixEngine(
                self.model, self.tokenizer.pad_token_id, self.eos_token_ids
            )
        encoded = self._engine_prompt(prompt)
        if encoded is None:
            return (
                f"how the processor of {self.model.config.model_type} models writes images into "
                "the text cannot be told, or no text is behind them"
            )
        return self._difference_from_plain_pass(prompt, encoded, self._shared_prefix_engine)

    def _difference_from_plain_pass(
        self, prompt: Any, encoded: EncodedPrompt, engine: SharedPrefixEngine
    ) -> str | None:
        """Return in what the engine differs from the model's own forward pass; None if in nothing.

        Models do in their attention what no list of ours foresees (soft caps, sinks, biases), and
        it reaches the engine's attention function as arguments that it ignores.

        In float32 mistakes stand out. In low precision they do not where they change less than its
        rounding does; it was measured with mistakes that were put in. bfloat16, longest prompts of
        the 99 tiny families that the engine takes: 0.007 without a mistake (median of all prompts;
        0.055 at most; SmolLM2-135M 0.08); above the tolerance are 23 of 23 ignored windows, 60 of
        98 positions that are off by one behind the prefix, 50 of 99 first layers that look ahead,
        and 17 of 99 that do not see the prefix's last token. float16, stories260K, 12 prompts:
        0.006 at most without a mistake (SmolLM2-135M 0.011); above the tolerance are 3, 12 and 3
        of the last three. What is let pass in low precision may still be wrong: families are tested
        in float32. Larger models and GPUs were not measured.
        """
        plain = self._plain_next_log_probs(prompt).to(engine.device)
        try:
            shared = engine.next_log_probs(encoded)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Whatever layers say to arguments that they do not know.
            return f"a pass of it ends in {type(error).__name__}: {one_line(error)}"
        # A logit of minus infinity, which is a suppressed token, is no distance from itself.
        distances = torch.where(shared == plain, 0, shared - plain).abs()
        tolerance = _TOLERANCE.get(self.model.dtype)
        if not tolerance:
            tolerance = self._low_precision_tolerance()
            likely = plain.exp()
            distances = torch.where(likely > 0, likely * distances, 0).sum()
        distance = float(distances.max())
        if not distance <= tolerance:
            return f"it differs from a plain forward pass by {distance:.2g}"
        return None

    def _plain_next_log_probs(self, prompt: Any) -> torch.Tensor:
        """Return the log probabilities of the first new token, (V,), by a plain forward pass."""
        inputs = self._model_inputs([prompt], "right")
        with torch.inference_mode(), self._autocast():
            # Logits of every position would be the largest tensor of the run.
            last = {"logits_to_keep": 1} if self.model._supports_logits_to_keep() else {}
            logits = self.model(**inputs, **last).logits[0, -1].float()
        check_finite(logits.max(), self.model)
        return torch.log_softmax(logits, dim=-1)

    def _low_precision_tolerance(self) -> float:
        quantised = getattr(self.model, "hf_quantizer", None) is not None
        fine = self.model.dtype == torch.float16 and not quantised
        return _FLOAT16_TOLERANCE if fine else _LOW_PRECISION_TOLERANCE

    def _max_shared_batch_size(self) -> int | None:
        """Return the user's limit to the engine's batches; lm-eval's default of 1 is no wish."""
        return None if self.batch_size in ("auto", 1) else int(self.batch_size)

    def _plain_batch_size(self, tokens: int, beams: int = 1, logit_positions: int = 1) -> int:
        """Return how many prompts of up to so many tokens `generate` or a forward pass takes."""
        if self.batch_size != "auto":
            return int(self.batch_size)
        limit = self.max_batch_size or DEFAULT_MAX_BATCH_SIZE
        size = auto_batch_size(self.model, tokens, beams, limit, logit_positions)
        log.info("batch_size=auto: %d prompts of up to %d tokens, %d beams", size, tokens, beams)
        return size

    def _autocast(self) -> torch.autocast:
        """Return the context of `mixed_precision_dtype`, which lm-eval's own passes have too."""
        dtype = self.mixed_precision_dtype
        return torch.autocast(self.device.type, dtype, dtype is not None)
