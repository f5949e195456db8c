"""lm-eval adapter `verbalizer-llm`: any AutoModelForCausalLM checkpoint, LoRA folders included.

verbalizer-bench run --model verbalizer-llm --model_args pretrained=DIR,dtype=float32 \
        --tasks verbalizer --output_path out
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch.nn.utils.rnn import pad_sequence

from verbalizer_bench.models.adapters.close_look import CloseLook, SeenPrompt
from verbalizer_bench.models.adapters.log_lines import show_log_lines
from verbalizer_bench.models.adapters.model_args import checked_model_args
from verbalizer_bench.models.adapters.repeats import once_each
from verbalizer_bench.models.adapters.rolling import RollingScoring, TokenPair
from verbalizer_bench.models.adapters.scoring import EncodedPair, Score
from verbalizer_bench.models.adapters.whole_checkpoint import WholeCheckpoint
from verbalizer_bench.models.engine.decoder import EncodedPrompt

log = logging.getLogger(__name__)
# So many tokens hold what a template writes behind a question.
_END_TOKENS = 16
# HFLM's pair: the texts, or None, and the token ids of context and continuation.
_Pair = tuple[tuple[str, str] | None, list[int], list[int]]


@register_model("verbalizer-llm")
class VerbalizerLLM(WholeCheckpoint, CloseLook, RollingScoring, HFLM):
    """HFLM with the same arguments, whose beams do not depend on the batch size.

    Prompts that do not fit the context lose text at their left end, as in HFLM, but keep BOS; the
    results file says how many.
    """

    adapter = "verbalizer-llm"

    def __init__(self, pretrained: Any, engine: str = "auto", **kwargs: Any) -> None:
        """Take HFLM's arguments and `engine`: `auto`, `shared_prefix` or `generate`.

        Raises:
            ValueError: The checkpoint is an encoder-decoder, there is no such engine, or an
                argument is wrong (`checked_model_args`).
        """
        show_log_lines()
        self._set_engine(engine)
        self._asked: Sequence[Any] = ()
        with checked_model_args(type(self), self.adapter, pretrained, kwargs):
            super().__init__(pretrained, **kwargs)
        if self.backend != "causal":
            raise ValueError(
                f"pretrained={pretrained}: verbalizer-llm takes causal models; "
                "use lm-eval's --model hf for an encoder-decoder"
            )
        self._check_vocabulary(pretrained, kwargs.get("peft"))
        self._start_record(pretrained, kwargs, kwargs.get("add_bos_token") is not None)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Return a text's ids, with what the tokenizer puts in front unless it is there already."""
        if add_special_tokens is None and string.startswith(self._openings):
            add_special_tokens = False
        ids: list[int] = super().tok_encode(string, add_special_tokens, **kwargs)
        return ids

    def prompt_tokens(self, request: Any) -> int:
        """Return how long a request's prompt is before anything is cut."""
        return len(self.tok_encode(request.args[0]))

    def _prompt(self, request: Any, max_new_tokens: int) -> list[int]:
        self._note_specials(request.args[0])
        ids: list[int] = self.tok_encode(request.args[0]) or [self.prefix_token_id]
        room = self.max_length - max_new_tokens
        if room < 1:
            raise ValueError(
                f"max_gen_toks={max_new_tokens} leaves no room for a prompt "
                f"in a context of {self.max_length} tokens"
            )
        if len(ids) > room:
            bos = ids[:1] if ids[0] == self.tokenizer.bos_token_id else []
            if not self.inputs.truncated:
                log.warning(
                    "A prompt of %d tokens does not fit %d: its left end is cut. "
                    "The results file counts such prompts.",
                    len(ids),
                    room,
                )
            self.inputs.truncated += 1
            ids = bos + ids[len(ids) - (room - len(bos)) :]
        self.inputs.add(ids)
        return ids

    def _seen(self, request: Any, prompt: list[int]) -> SeenPrompt:
        cut = max(0, self.prompt_tokens(request) - len(prompt))
        text = self.tokenizer.decode(prompt) if cut else str(request.args[0])
        return SeenPrompt(text, prompt, cut=cut)

    def _prompt_end(self, prompt: list[int]) -> str:
        text: str = self.tokenizer.decode(prompt[-_END_TOKENS:])
        return text

    def _prompt_length(self, prompt: list[int]) -> int:
        return len(prompt)

    def _engine_prompt(self, prompt: list[int]) -> EncodedPrompt:
        return EncodedPrompt(prompt)

    def _model_inputs(
        self, prompts: Sequence[list[int]], padding_side: str
    ) -> dict[str, torch.Tensor]:
        rows = [torch.tensor(prompt, device=self.device) for prompt in prompts]
        ones = [torch.ones_like(row) for row in rows]
        return {
            "input_ids": pad_sequence(rows, True, self.tokenizer.pad_token_id, padding_side),
            "attention_mask": pad_sequence(ones, True, 0, padding_side),
        }

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Score]:
        """Return each continuation's log probability, and whether it is the greedy one."""

        def score(unique: list[Any]) -> list[Score]:
            self._asked = unique
            scores: list[Score] = HFLM.loglikelihood(self, unique, disable_tqdm)
            return scores

        return once_each(requests, score)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[_Pair],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[Score]:
        """Score what HFLM encoded of the requests that `loglikelihood` was asked."""
        # A context of white space alone has no tokens: HFLM moves it into the continuation.
        first = [self.prefix_token_id]
        pairs = [(context or first, continuation) for _, context, continuation in requests]
        for context, continuation in pairs:
            self.inputs.add(context + continuation)
        return self._score_pairs(
            self._asked, pairs, lambda rest: self._score_tokens(pairs, rest), disable_tqdm
        )

    def _engine_pair(self, pair: TokenPair) -> EncodedPair | None:
        context, continuation = pair
        # Longer ones lose text at the left in HFLM.
        if len(context) + len(continuation) > self.max_length:
            return None
        return EncodedPair(context, EncodedPrompt(context), continuation)
