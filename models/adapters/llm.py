"""lm-eval adapter `verbalizer-llm`: any AutoModelForCausalLM checkpoint, LoRA folders included.

verbalizer-bench run --model verbalizer-llm --model_args pretrained=DIR,dtype=float32 \
        --tasks verbalizer --output_path out
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm

from verbalizer_bench.models.adapters.chat_prompts import ChatPrompt
from verbalizer_bench.models.adapters.fingerprints import InputLog
from verbalizer_bench.models.adapters.generation import ExactGeneration
from verbalizer_bench.models.adapters.model_args import WholeCheckpoint, loading
from verbalizer_bench.models.chat.bos import openings
from verbalizer_bench.models.engine.batching import in_batches
from verbalizer_bench.models.engine.finite_logits import check_scores
from verbalizer_bench.models.engine.shared_prefix import EncodedPrompt

log = logging.getLogger(__name__)
# So many tokens hold what a template writes behind a question.
_TAIL = 16


@register_model("verbalizer-llm")
class VerbalizerLLM(WholeCheckpoint, ExactGeneration, HFLM):
    """HFLM with the same arguments, whose beams do not depend on the batch size.

    Prompts that do not fit the context lose text at their left end, as in HFLM, but keep BOS; the
    results file says how many.
    """

    adapter = "verbalizer-llm"

    def __init__(self, pretrained: Any, engine: str = "auto", **kwargs: Any) -> None:
        """Take HFLM's arguments and `engine`: `auto`, `shared_prefix` or `generate`.

        Raises:
            ValueError: The checkpoint is an encoder-decoder, there is no such engine, or an
                argument is wrong (`loading`).
        """
        self._set_engine(engine)
        with loading(type(self), self.adapter, pretrained, kwargs):
            super().__init__(pretrained, **kwargs)
        if self.backend != "causal":
            raise ValueError(
                f"pretrained={pretrained}: verbalizer-llm takes causal models; "
                "use lm-eval's --model hf for an encoder-decoder"
            )
        self._check_vocabulary(pretrained, kwargs.get("peft"))
        self._set_source(pretrained, kwargs)
        self._set_ranks(kwargs.get("tp_plan"))
        said = kwargs.get("add_bos_token") is not None
        self.inputs = InputLog(self.tokenizer.bos_token_id, said or self._has_bos())
        self._openings = openings(self.tokenizer)
        self.chat_applied = False

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Return a text's ids, with what the tokenizer puts in front unless it is there already."""
        if add_special_tokens is None and string.startswith(self._openings):
            add_special_tokens = False
        ids: list[int] = super().tok_encode(string, add_special_tokens, **kwargs)
        return ids

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a conversation with the tokenizer's template; the run's record says how.

        Raises:
            ValueError: There is no template, or it does not write what was asked (`ChatTemplate`).
        """
        self.chat_applied = True
        prompt = ChatPrompt(self._chat().render(chat_history, add_generation_prompt))
        prompt.messages, prompt.add_generation_prompt = chat_history, add_generation_prompt
        return prompt

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
            head = ids[:1] if ids[0] == self.tokenizer.bos_token_id else []
            if not self.inputs.truncated:
                log.warning(
                    "A prompt of %d tokens does not fit %d: its left end is cut. "
                    "The results file counts such prompts.",
                    len(ids),
                    room,
                )
            self.inputs.truncated += 1
            ids = head + ids[len(ids) - (room - len(head)) :]
        self.inputs.add(ids)
        return ids

    def _tail(self, prompt: list[int]) -> str:
        text: str = self.tokenizer.decode(prompt[-_TAIL:])
        return text

    def _length(self, prompt: list[int]) -> int:
        return len(prompt)

    def _encoded(self, prompt: list[int]) -> EncodedPrompt:
        return EncodedPrompt(prompt)

    def _inputs(self, prompts: Sequence[list[int]], padding_side: str) -> dict[str, torch.Tensor]:
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            span = (
                slice(longest - len(prompt), None) if padding_side == "left" else slice(len(prompt))
            )
            ids[row, span] = torch.tensor(prompt)
            mask[row, span] = 1
        return {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Score with shared prefixes where the engine can, else as HFLM does, batch by batch.

        Out-of-memory halves a batch and goes on.
        """
        for _, context, continuation in requests:
            self.inputs.add(context + continuation)
        results: dict[int, tuple[float, bool]] = {}
        with tqdm(
            total=len(requests), desc="Scoring", disable=disable_tqdm or self.rank != 0
        ) as bar:
            for score in (self._scored_shared, self._scored_plain):
                rest = [index for index in range(len(requests)) if index not in results]
                for index, result in score(requests, rest, override_bs):
                    results[index] = result
                    bar.update()
        self._share_counts()
        return [results[index] for index in range(len(requests))]

    def _scored_shared(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        indices: Sequence[int],
        override_bs: int | None,
    ) -> Iterator[tuple[int, tuple[float, bool]]]:
        # Longer ones lose text at the left in HFLM.
        fitting = [
            i for i in indices if len(requests[i][1]) + len(requests[i][2]) <= self.max_length
        ]
        pairs = [(EncodedPrompt(requests[i][1]), requests[i][2]) for i in fitting]
        for place, result in self._score_shared([requests[i][1] for i in fitting], pairs):
            request = requests[fitting[place]][0]
            if request is not None:
                self.cache_hook.add_partial("loglikelihood", request, result)
            yield fitting[place], result

    def _scored_plain(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        indices: Sequence[int],
        override_bs: int | None,
    ) -> Iterator[tuple[int, tuple[float, bool]]]:
        if not indices:
            return
        lengths = {i: len(requests[i][1]) + len(requests[i][2]) for i in indices}
        # Continuations of one context stand side by side: HFLM scores them in one row where it can.
        order = sorted(indices, key=lambda i: (-lengths[i], requests[i][1]))
        longest = max(lengths.values())
        size = override_bs or self._batch_size(longest, scored=longest)

        def score(batch: Sequence[int]) -> list[tuple[float, bool]]:
            scores: list[tuple[float, bool]] = HFLM._loglikelihood_tokens(
                self, [requests[i] for i in batch], disable_tqdm=True, override_bs=len(batch)
            )
            check_scores(scores, self.model)
            return scores

        yield from in_batches(order, size, score)
