"""Generation that is right under beams, for both adapters.

The reference is `model.generate` on one prompt alone, with no stopping criterion but EOS. lm-eval
0.4.13's own loop is not that: its stop criterion is made for as many rows as there are prompts, is
shown as many as there are beam candidates, looks at the first ones only, and answers with one bool
for all, so that outputs depend on the batch size. Here EOS is left to `generate`, and other stop
strings are a criterion with an answer for each row.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.models.utils import postprocess_generated_text
from transformers import LogitsProcessorList, StoppingCriteriaList, StopStringCriteria

from verbalizer_bench.io.thinking import CLOSED, opened_thought, thought
from verbalizer_bench.models.adapters.engine_choice import EngineChoice
from verbalizer_bench.models.adapters.finish_reason import end_of_text, finish_reason
from verbalizer_bench.models.adapters.journal import Response
from verbalizer_bench.models.adapters.progress import progress
from verbalizer_bench.models.adapters.repeats import once_each
from verbalizer_bench.models.checkpoints.strict_loading import one_line
from verbalizer_bench.models.checkpoints.vocabulary import vocabulary_rows
from verbalizer_bench.models.engine.batching import in_batches
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.equal_beams import EqualBeams
from verbalizer_bench.models.engine.finite_logits import FiniteLogits, NotFiniteError
from verbalizer_bench.models.engine.generation_config import (
    ONE_RESPONSE,
    check_request,
    influential_settings,
)
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine
from verbalizer_bench.models.engine.stop_strings import StopCriterion, StopStrings

log = logging.getLogger(__name__)
# What every request says.
_ALWAYS = ("do_sample", "num_beams")
# With these `generate` guesses several tokens at once, and takes one prompt.
_ASSISTED = ("prompt_lookup_num_tokens", "assistant_early_exit")


class ExactGeneration(EngineChoice):
    """Mixin over lm-eval's HFLM: `generate_until` whose outputs do not depend on batches (float32).

    A subclass turns a request into a prompt (`_prompt`) and says how long it is
    (`_prompt_length`).
    """

    cache_hook: Any
    max_gen_toks: int

    def _prompt(self, request: Any, max_new_tokens: int) -> Any:
        raise NotImplementedError

    def _prompt_length(self, prompt: Any) -> int:
        raise NotImplementedError

    def _prompt_end(self, prompt: Any) -> str:
        """Return the text that a prompt ends with, some words of it."""
        raise NotImplementedError

    def _batch_key(self, prompt: Any) -> Any:
        """Return what all prompts of a batch have in common, such as whether they have images."""
        return None

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate a response to every request; see the module's text for what is exact.

        Responses that the journal has are taken from there; the others are added to it.
        """
        return [response.text for response in self.responses(requests, disable_tqdm)]

    def responses(self, requests: list[Any], disable_tqdm: bool = False) -> list[Response]:
        """Return what `generate_until` does, with what ended each."""
        quiet = disable_tqdm or self.rank != 0
        if any(request.args[1].get("do_sample") for request in requests):
            responses = self._generate_all(requests, quiet)
        else:
            responses = once_each(requests, lambda unique: self._generate_all(unique, quiet))
        self._share_counts()
        return responses

    def _generate_all(self, requests: list[Any], quiet: bool) -> list[Response]:
        self._check_eos()
        journal, keys = self.journal, self._journal_keys(requests)
        groups = self._by_settings(requests)
        known = journal.known if journal else {}
        journaled = {i: known[key] for i, key in enumerate(keys) if key in known}
        responses: dict[int, Response] = {}
        if journal:
            journal.say_kept(len(journaled), len(requests), "responses")

        def take(index: int, response: Response) -> None:
            responses[index] = response
            self._count(response)
            self.cache_hook.add_partial("generate_until", requests[index].args, response.text)

        for index, response in journaled.items():
            take(index, response)
        # One engine a call: its prefix's keys and values are let go with it.
        self._shared_prefix_engine = None
        total, done = len(requests), len(journaled)
        with progress("Generating", total, done, quiet=quiet) as bar:
            for settings, indices in groups:
                # Prompts of journaled responses are made too: the run's record counts them.
                prompts = {i: self._prompt(requests[i], settings.max_new_tokens) for i in indices}
                missing = [i for i in indices if i not in journaled]
                for index, response in self._generate_group(prompts, missing, settings):
                    take(index, response)
                    if journal:
                        journal.add(keys[index], requests[index], response)
                    if (engine := self._shared_prefix_engine) and engine.prompt_tokens:
                        bar.set_postfix_str(engine.sharing, refresh=False)
                    bar.update()
        return [responses[index] for index in range(len(requests))]

    def _by_settings(self, requests: list[Any]) -> list[tuple[GenerationSettings, list[int]]]:
        """Return the indices of the requests by what they ask of `generate`, which is checked."""
        eos = self.tokenizer.convert_ids_to_tokens(self.eos_token_ids)
        groups: dict[str, tuple[GenerationSettings, list[int]]] = {}
        for index, request in enumerate(requests):
            gen_kwargs = request.args[1]
            key = json.dumps(gen_kwargs, sort_keys=True, default=str)
            if key not in groups:
                settings = GenerationSettings.from_request(gen_kwargs, self.max_gen_toks, eos)
                check_request(settings.kwargs)
                self._check_stop_strings(settings.kwargs)
                groups[key] = settings, []
            groups[key][1].append(index)
        return list(groups.values())

    def _generate_group(
        self, prompts: Mapping[int, Any], indices: list[int], settings: GenerationSettings
    ) -> Iterator[tuple[int, Response]]:
        """Generate for the prompts that share their settings."""
        by_key: dict[Any, list[int]] = {}
        for index in indices:
            by_key.setdefault(self._batch_key(prompts[index]), []).append(index)
        for members in by_key.values():
            # What depends on the length (windows) shows in the longest, if at all.
            longest = max((prompts[i] for i in members), key=self._prompt_length)
            engine = self._choose_shared_prefix(
                longest, settings, self._prompt_length(longest) + settings.max_new_tokens
            )
            shared = self._encoded(prompts, members) if engine else {}
            if engine:
                for index, tokens in self._generate_shared(engine, shared, settings):
                    response = self._response(
                        prompts[index], tokens, settings.stops, "shared_prefix"
                    )
                    yield index, response
            rest = [index for index in members if index not in shared]
            for index, tokens in self._generate_plain(prompts, rest, settings) if rest else ():
                yield index, self._response(prompts[index], tokens, settings.stops, "generate")

    def _encoded(self, prompts: Mapping[int, Any], members: list[int]) -> dict[int, EncodedPrompt]:
        """Return the prompts that the shared-prefix engine can take, by their numbers.

        Raises:
            ValueError: `engine=shared_prefix` was asked for and it cannot take one.
        """
        encoded = {i: prompt for i in members if (prompt := self._engine_prompt(prompts[i]))}
        if len(encoded) < len(members):
            left = next(index for index in members if index not in encoded)
            what = f"{len(members) - len(encoded)} of {len(members)} prompts, such as number {left}"
            if self.engine == "shared_prefix":
                raise ValueError(f"engine=shared_prefix cannot take {what}; give engine=auto")
            log.warning(
                "engine: generate, not shared_prefix, for %s: its last image has no text behind it",
                what,
            )
        return encoded

    def _generate_shared(
        self,
        engine: SharedPrefixEngine,
        encoded: Mapping[int, EncodedPrompt],
        settings: GenerationSettings,
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield number and new tokens of the prompts."""
        numbers = list(encoded)
        stopped = StopStrings(settings.stops, self.tokenizer) if settings.stops else None
        limit = self._max_shared_batch_size()
        for place, tokens in engine.generate(list(encoded.values()), settings, limit, stopped):
            yield numbers[place], tokens

    def _generate_plain(
        self, prompts: Mapping[int, Any], members: list[int], settings: GenerationSettings
    ) -> Iterator[tuple[int, list[int]]]:
        """Generate with transformers' `generate`, longest prompt first."""
        lengths = {i: self._prompt_length(prompts[i]) for i in members}
        members = sorted(members, key=lambda i: -lengths[i])
        size = self._plain_batch_size(lengths[members[0]] + settings.max_new_tokens, settings.beams)
        config = self.model.generation_config
        if any(settings.kwargs.get(name, getattr(config, name, None)) for name in _ASSISTED):
            size = 1
        yield from in_batches(
            members, size, lambda batch: self._generate([prompts[i] for i in batch], settings)
        )

    def _generate(self, prompts: Sequence[Any], settings: GenerationSettings) -> list[list[int]]:
        """Return the new tokens of one batch, with EOS and padding."""
        output, length = self._generate_output(prompts, settings, ONE_RESPONSE)
        tokens: list[list[int]] = output[:, length:].tolist()
        return tokens

    def _generate_output(
        self, prompts: Sequence[Any], settings: GenerationSettings, back: Mapping[str, Any]
    ) -> tuple[Any, int]:
        """Return what `generate` makes of one batch, and the prompts' length with padding.

        `back` says what it shall hand back.
        """
        inputs = self._model_inputs(prompts, "left")
        length = inputs["input_ids"].shape[1]
        criteria = StoppingCriteriaList()
        if settings.stops:
            stopped = StopStrings(settings.stops, self.tokenizer)
            criteria.append(StopCriterion(stopped, length))
        processors = LogitsProcessorList([FiniteLogits(self.model)])
        if settings.beams > 1 and not settings.kwargs.get("do_sample"):
            processors.append(EqualBeams(settings.beams, length, self.model.dtype))
        with torch.inference_mode(), self._autocast(), self._naming_settings(settings.kwargs):
            output = self.model.generate(
                **inputs,
                **{**settings.kwargs, **back},
                max_new_tokens=settings.max_new_tokens,
                stopping_criteria=criteria,
                logits_processor=processors,
                eos_token_id=self.eos_token_ids,
                pad_token_id=self.tokenizer.pad_token_id,
                # For the checkpoint's own `stop_strings`.
                tokenizer=self.tokenizer,
                use_cache=True,
            )
        return output, length

    def _response(
        self, prompt: Any, tokens: list[int], stops: Sequence[str], engine: str
    ) -> Response:
        """Decode a response, and note what ended it and whether it is a thought."""
        raw = self.tokenizer.decode(tokens)
        # Padding may be an EOS: behind a stop string it ended nothing.
        text = self.tokenizer.decode(tokens[: end_of_text(tokens, self.eos_token_ids)])
        ending = finish_reason(tokens, self.eos_token_ids, text, stops)
        state = thought(raw, opened_thought(self._prompt_end(prompt)) is not None)
        if state == CLOSED and self.think_end_token is not None:
            # `_text` takes it away.
            state = None
        return Response(self._text(tokens, stops), engine, ending, state)

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

    def _check_stop_strings(self, kwargs: Mapping[str, Any]) -> None:
        """Raise ValueError for stop strings of the checkpoint that `generate` cannot look for."""
        stop_strings = kwargs.get("stop_strings", self.model.generation_config.stop_strings)
        if not stop_strings:
            return
        try:
            StopStringCriteria(self.tokenizer, stop_strings)
        except (ValueError, LookupError) as error:
            raise ValueError(
                f"pretrained={self.model.config.name_or_path}: transformers cannot look for the "
                f"stop_strings={stop_strings} of its generation_config.json with this tokenizer "
                f"({error}); remove them, and give the task's `until` instead"
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
    def _naming_settings(self, kwargs: Mapping[str, Any]) -> Iterator[None]:
        """Name the settings with which `generate` fails in its error."""
        try:
            yield
        except NotFiniteError:
            raise
        except (ValueError, TypeError, IndexError, ImportError) as error:
            unusual = influential_settings(self.model.generation_config.to_diff_dict(), kwargs)
            unusual |= {name: kwargs[name] for name in kwargs if name not in _ALWAYS}
            if not unusual:
                raise
            given = ", ".join(f"{name}={value}" for name, value in unusual.items())
            raise ValueError(
                f"pretrained={self.model.config.name_or_path}: generate fails with {given[:200]} "
                f"(of its generation_config.json, or gen_kwargs): {one_line(error)}; correct it"
            ) from error
