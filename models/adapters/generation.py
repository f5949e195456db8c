"""Generation that is right under beams, for both adapters.

The reference is `model.generate` on one prompt alone, with no stopping criterion but EOS. lm-eval
0.4.13's own loop is not that: its stop criterion is made for as many rows as there are prompts, is
shown as many as there are beam candidates, looks at the first ones only, and answers with one bool
for all, so that outputs depend on the batch size. Here EOS is left to `generate`, and other stop
strings are a criterion with an answer for each row.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.models.utils import postprocess_generated_text
from tqdm import tqdm
from transformers import LogitsProcessorList, StoppingCriteriaList, StopStringCriteria

from verbalizer_bench.models.adapters import finish_reason
from verbalizer_bench.models.adapters.journal import Journal, Response
from verbalizer_bench.models.adapters.run_record import Recorded
from verbalizer_bench.models.checkpoints.strict_loading import line, vocabulary_rows
from verbalizer_bench.models.engine.batching import auto_batch_size, in_batches
from verbalizer_bench.models.engine.finite_logits import FiniteLogits, NotFiniteError, check_finite
from verbalizer_bench.models.engine.generation_config import ONE_RESPONSE, changing, check_request
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings, StopStrings
from verbalizer_bench.models.engine.shared_prefix import (
    ENGINES,
    EncodedPrompt,
    SharedPrefixEngine,
    why_not,
)

log = logging.getLogger(__name__)
DEFAULT_MAX_BATCH_SIZE = 64
# A log probability may differ by so much from a plain forward pass: float sums in another order.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_LOW_PRECISION_TOLERANCE = 0.5
# Longer continuations are not worth a pass a token.
_STEPS = 16
# What every request says.
_ALWAYS = ("do_sample", "num_beams")
# With these `generate` guesses several tokens at once, and takes one prompt.
_ASSISTED = ("prompt_lookup_num_tokens", "assistant_early_exit")


class ExactGeneration(Recorded):
    """Mixin over lm-eval's HFLM: `generate_until` whose outputs do not depend on batches (float32).

    A subclass turns a request into a prompt (`_prompt`), says how long it is (`_length`) and makes
    the padded inputs of a batch (`_inputs`).

    Attributes:
        journal: Where responses are kept, and taken from; `verbalizer-bench run` sets it.
    """

    journal: Journal | None = None
    cache_hook: Any
    batch_size: Any
    max_batch_size: int | None
    max_gen_toks: int

    def _prompt(self, request: Any, max_new_tokens: int) -> Any:
        raise NotImplementedError

    def _length(self, prompt: Any) -> int:
        raise NotImplementedError

    def _tail(self, prompt: Any) -> str:
        """Return the text that a prompt ends with, some words of it."""
        raise NotImplementedError

    def _kind(self, prompt: Any) -> Any:
        """Return what all prompts of a batch have in common."""
        return None

    def _inputs(self, prompts: Sequence[Any], padding_side: str) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def _encoded(self, prompt: Any) -> EncodedPrompt | None:
        """Return a prompt as the engine takes it; None where it cannot."""
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
        self._shared: SharedPrefixEngine | None = None

    def _why_not_shared(self, prompt: Any, settings: GenerationSettings) -> str | None:
        """Say why the shared-prefix engine cannot take prompts like this one; None if it can."""
        if self.engine == "generate":
            return "engine=generate"
        if self.mixed_precision_dtype is not None:
            return "mixed precision"
        if len(set(getattr(self.model, "hf_device_map", {}).values())) > 1:
            return "layers on several devices"
        if any(parameter.is_meta for parameter in self.model.parameters()):
            return "weights offloaded"
        if reason := why_not(self.model, settings):
            return reason
        if self._shared is None:
            self._shared = SharedPrefixEngine(
                self.model, self.tokenizer.pad_token_id, self.eos_token_ids
            )
        encoded = self._encoded(prompt)
        if encoded is None:
            return f"images of a {self.model.config.model_type} model"
        inputs = self._inputs([prompt], "right")
        with torch.inference_mode():
            # Logits of every place would be the largest tensor of the run.
            last = {"logits_to_keep": 1} if self.model._supports_logits_to_keep() else {}
            logits = self.model(**inputs, **last).logits[0, -1].float()
        check_finite(logits.max(), self.model)
        plain = torch.log_softmax(logits, dim=-1)
        try:
            own = self._shared.next_log_probs(encoded)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # Whatever layers say to arguments that they do not know.
            return f"a pass of it ends in {type(error).__name__}: {line(error)}"
        # A logit of minus infinity, which is a suppressed token, is no distance from itself.
        distance = float(torch.where(own == plain, 0, own - plain).abs().max())
        if not distance <= _TOLERANCE.get(self.model.dtype, _LOW_PRECISION_TOLERANCE):
            return f"it differs from a plain forward pass by {distance:.2g}"
        return None

    def _takes_shared(self, prompt: Any, settings: GenerationSettings) -> bool:
        """Decide for prompts like this one, and say so in one log line.

        Raises:
            ValueError: `engine=shared_prefix` was asked for and would not be exact.
        """
        reason = self._why_not_shared(prompt, settings)
        if reason is None and self.engine == "auto" and self.model.dtype not in _TOLERANCE:
            reason = f"in {self.model.dtype} it rounds otherwise than generate"
        if reason is None:
            log.info("engine: shared_prefix")
        elif self.engine == "shared_prefix":
            raise ValueError(f"engine=shared_prefix: not exact here: {reason}; give engine=auto")
        elif self.engine == "auto":
            log.warning("engine: generate, not shared_prefix: %s", reason)
        return reason is None

    def _check_stop_strings(self, asked: dict[str, Any]) -> None:
        """Raise ValueError for stop strings of the checkpoint that `generate` cannot look for."""
        own = asked.get("stop_strings", self.model.generation_config.stop_strings)
        if not own:
            return
        try:
            StopStringCriteria(self.tokenizer, own)
        except (ValueError, LookupError) as error:
            raise ValueError(
                f"pretrained={self.model.config.name_or_path}: transformers cannot look for the "
                f"stop_strings={own} of its generation_config.json with this tokenizer ({error}); "
                "remove them, and give the task's `until` instead"
            ) from error

    def _check_eos(self) -> None:
        """Raise ValueError where nothing ends a response: all would run to the token limit."""
        ids, rows = self.eos_token_ids, vocabulary_rows(self.model)
        what = f"pretrained={self.model.config.name_or_path}"
        if not ids:
            raise ValueError(
                f"{what}: neither its generation_config.json nor its tokenizer names an EOS, so "
                "that no response could end; write eos_token_id into generation_config.json, or "
                "give tokenizer=DIR of one that has it"
            )
        if any(type(number) is not int or number < 0 for number in ids) or min(ids) >= rows:
            raise ValueError(
                f"{what}: eos_token_id={self.model.generation_config.eos_token_id!r} of its "
                f"generation_config.json is no token of its {rows}; correct the file"
            )

    @contextmanager
    def _naming_settings(self, asked: dict[str, Any]) -> Iterator[None]:
        """Say with which settings `generate` cannot work, where it cannot."""
        try:
            yield
        except NotFiniteError:
            raise
        except (ValueError, TypeError, IndexError, ImportError) as error:
            own = changing(self.model.generation_config.to_diff_dict(), asked)
            odd = own | {name: asked[name] for name in asked if name not in _ALWAYS}
            if not odd:
                raise
            given = ", ".join(f"{name}={value}" for name, value in odd.items())
            raise ValueError(
                f"pretrained={self.model.config.name_or_path}: generate fails with {given[:200]} "
                f"(of its generation_config.json, or gen_kwargs): {line(error)}; correct it"
            ) from error

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a response to every request; see the module's text for what is exact.

        Responses that the journal has are taken from there; the others are added to it.
        """
        # lm-eval repeats a rank's last request until all ranks have as many.
        unique = list({id(request): request for request in requests}.values())
        if any(request.args[1].get("do_sample") for request in unique):
            unique = requests
        found = self._generate_all(unique, disable_tqdm or self.rank != 0)
        self._share_counts()
        if unique is requests:
            return found
        texts = dict(zip(map(id, unique), found, strict=True))
        return [texts[id(request)] for request in requests]

    def _generate_all(self, requests: list[Any], quiet: bool) -> list[str]:
        self._check_eos()
        eos = self.tokenizer.convert_ids_to_tokens(self.eos_token_ids)
        journal, keys = self.journal, []
        if journal:
            keys = journal.keys(requests)
            journal.check_model(self._fingerprint())
        groups: dict[str, list[int]] = {}
        settings: dict[str, GenerationSettings] = {}
        for index, request in enumerate(requests):
            gen_kwargs = request.args[1]
            key = json.dumps(gen_kwargs, sort_keys=True, default=str)
            if key not in settings:
                settings[key] = GenerationSettings.from_request(gen_kwargs, self.max_gen_toks, eos)
                check_request(settings[key].kwargs)
                self._check_stop_strings(settings[key].kwargs)
            groups.setdefault(key, []).append(index)
        known = (
            {i: journal.known[key] for i, key in enumerate(keys) if key in journal.known}
            if journal
            else {}
        )
        responses: list[str] = [""] * len(requests)

        def take(index: int, response: Response) -> None:
            responses[index] = response.text
            self._count(response)
            self.cache_hook.add_partial("generate_until", requests[index].args, response.text)

        for index, response in known.items():
            take(index, response)
        self._shared = None
        total = len(requests)
        with tqdm(
            desc="Generating", total=total, initial=len(known), unit="response", disable=quiet
        ) as bar:
            for key, indices in groups.items():
                # Prompts of journaled responses are made too: the run's record counts them.
                new_tokens = settings[key].max_new_tokens
                prompts = {i: self._prompt(requests[i], new_tokens) for i in indices}
                rest = [i for i in indices if i not in known]
                for index, response in self._generate_group(prompts, rest, settings[key]):
                    take(index, response)
                    if journal:
                        journal.add(keys[index], requests[index], response)
                    if self._shared is not None and self._shared.tokens:
                        bar.set_postfix_str(
                            f"prefix hits {self._shared.hit_rate:.0%}", refresh=False
                        )
                    bar.update()
        return responses

    def _generate_group(
        self, prompts: dict[int, Any], indices: list[int], settings: GenerationSettings
    ) -> Iterator[tuple[int, Response]]:
        """Generate for the prompts that share their settings."""
        # A batch is of one kind: prompts with and without images take different inputs.
        kinds: dict[Any, list[int]] = {}
        for index in indices:
            kinds.setdefault(self._kind(prompts[index]), []).append(index)
        for members in kinds.values():
            shared = self._takes_shared(prompts[members[0]], settings)
            generate = self._generate_shared if shared else self._generate_plain
            engine = "shared_prefix" if shared else "generate"
            for index, tokens in generate(prompts, members, settings):
                yield index, self._response(prompts[index], tokens, settings.stops, engine)

    def _generate_shared(
        self, prompts: dict[int, Any], members: list[int], settings: GenerationSettings
    ) -> Iterator[tuple[int, list[int]]]:
        encoded = []
        for index in members:
            if (prompt := self._encoded(prompts[index])) is None:
                raise ValueError(
                    f"engine=shared_prefix knows other prompts of this run but not number {index}; "
                    "give engine=generate"
                )
            encoded.append(prompt)
        assert self._shared is not None
        for place, tokens in self._shared.generate(encoded, settings, self._most()):
            yield members[place], tokens

    def _generate_plain(
        self, prompts: dict[int, Any], members: list[int], settings: GenerationSettings
    ) -> Iterator[tuple[int, list[int]]]:
        """Generate with transformers' `generate`, longest prompt first."""
        lengths = {i: self._length(prompts[i]) for i in members}
        members = sorted(members, key=lambda i: -lengths[i])
        size = self._batch_size(lengths[members[0]] + settings.max_new_tokens, settings.beams)
        own = self.model.generation_config
        if any(settings.kwargs.get(name, getattr(own, name, None)) for name in _ASSISTED):
            size = 1
        yield from in_batches(
            members, size, lambda batch: self._generate([prompts[i] for i in batch], settings)
        )

    def _score_shared(
        self, prompts: Sequence[Any], pairs: Sequence[tuple[EncodedPrompt, list[int]]]
    ) -> Iterator[tuple[int, tuple[float, bool]]]:
        """Score continuations with their contexts' prefixes shared, where that is exact.

        Args:
            prompts: The contexts as the adapter has them; the first is checked.
            pairs: Contexts and continuations as token ids.

        Yields:
            The index of a pair, its log probability, and whether the continuation is the greedy
            one. Long continuations are left out, and all where the engine cannot take them.
        """
        short = [i for i, (_, own) in enumerate(pairs) if 0 < len(own) <= _STEPS]
        settings = GenerationSettings(1, (), {"do_sample": False})
        if not short or not self._takes_shared(prompts[short[0]], settings):
            return
        assert self._shared is not None
        contexts: dict[tuple[int, ...], list[int]] = {}
        for index in short:
            contexts.setdefault(tuple(pairs[index][0].ids), []).append(index)
        members = list(contexts.values())
        found = self._shared.score(
            [pairs[own[0]][0] for own in members],
            [[pairs[index][1] for index in own] for own in members],
            self._most(),
        )
        for place, scores in found:
            yield from zip(members[place], scores, strict=True)

    def _most(self) -> int | None:
        """Return the user's limit to a batch; lm-eval's default of 1 is no wish."""
        return None if self.batch_size in ("auto", 1) else int(self.batch_size)

    def _batch_size(self, tokens: int, beams: int = 1, scored: int = 1) -> int:
        if self.batch_size != "auto":
            return int(self.batch_size)
        limit = self.max_batch_size or DEFAULT_MAX_BATCH_SIZE
        size = auto_batch_size(self.model, tokens, beams, limit, scored)
        log.info("batch_size=auto: %d prompts of up to %d tokens, %d beams", size, tokens, beams)
        return size

    def _generate(self, prompts: Sequence[Any], settings: GenerationSettings) -> list[list[int]]:
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
            self._naming_settings(settings.kwargs),
        ):
            output = self.model.generate(
                **inputs,
                **{**settings.kwargs, **ONE_RESPONSE},
                max_new_tokens=settings.max_new_tokens,
                stopping_criteria=criteria,
                logits_processor=LogitsProcessorList([FiniteLogits(self.model)]),
                eos_token_id=self.eos_token_ids,
                pad_token_id=self.tokenizer.pad_token_id,
                # For the checkpoint's own `stop_strings`.
                tokenizer=self.tokenizer,
                use_cache=True,
            )
        tokens: list[list[int]] = output[:, length:].tolist()
        return tokens

    def _response(
        self, prompt: Any, tokens: list[int], stops: Sequence[str], engine: str
    ) -> Response:
        """Decode a response, and note what ended it and whether it is a thought."""
        raw = self.tokenizer.decode(tokens)
        ended = finish_reason.ending(tokens, self.eos_token_ids, raw, stops)
        found = finish_reason.thought(
            raw, finish_reason.opened_thought(self._tail(prompt)) is not None
        )
        if found == finish_reason.CLOSED and self.think_end_token is not None:
            # `_text` takes it away.
            found = None
        return Response(self._text(tokens, stops), engine, ended, found)

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
