"""One request, looked at: the prompt as the model gets it, and all that its search ended with.

It is asked by the same engine, with the same settings, as a run asks it.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from PIL import Image

from verbalizer_bench.models.adapters.generation import ExactGeneration
from verbalizer_bench.models.adapters.journal import Response
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.generation_config import ONE_RESPONSE
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.search import Hypothesis
from verbalizer_bench.models.engine.stop_strings import StopStrings

# Of the first new token so many are told.
_LIKELIEST = 5


class SeenPrompt(NamedTuple):
    """A prompt as the model gets it.

    Attributes:
        text: It before it was encoded; image slots stand in it.
        ids: Its tokens, those of images expanded.
        images: What it is shown.
        image_places: Where tokens of an image stand in `ids`.
        cut: How many tokens it lost at its left end.
    """

    text: str
    ids: list[int]
    images: tuple[Image.Image, ...] = ()
    image_places: tuple[int, ...] = ()
    cut: int = 0


class FirstToken(NamedTuple):
    """A token that a response may begin with.

    Attributes:
        text: It, with a space in front where it has one.
        probability: How likely it is.
        rank: Its place among all; the likeliest has 1.
    """

    text: str
    probability: float
    rank: int


class WordAlone(NamedTuple):
    """A word as the whole response: what the search could have ended with.

    Attributes:
        text: It as it is likeliest: with a space in front or without, in either case.
        first: Its first token.
        whole: It with an EOS, as a search would rank it; None where only `generate` can tell.
    """

    text: str
    first: FirstToken
    whole: Hypothesis | None


class Look(NamedTuple):
    """What came of a request.

    Attributes:
        prompt: The prompt.
        response: The response, as a run has it.
        hypotheses: What the search ended with, best first, each with its text; none of sampling.
        settings: What was asked of the search.
        likeliest: The likeliest first tokens.
        words: The words that were asked about, as whole responses.
    """

    prompt: SeenPrompt
    response: Response
    hypotheses: list[tuple[Hypothesis, str]]
    settings: GenerationSettings
    likeliest: list[FirstToken]
    words: dict[str, WordAlone]


class CloseLook(ExactGeneration):
    """Mixin over lm-eval's HFLM that looks at one request.

    A subclass says what the model sees of a prompt (`_seen`).
    """

    def _seen(self, request: Any, prompt: Any) -> SeenPrompt:
        """Return what the model sees of a request, of which `prompt` was made."""
        raise NotImplementedError

    def seen(self, request: Any) -> SeenPrompt:
        """Return the prompt of a request; nothing is asked.

        Raises:
            ValueError: It is no prompt for this checkpoint: two BOS, no room, wrong image slots.
        """
        ((settings, _),) = self._by_settings([request])
        return self._seen(request, self._prompt(request, settings.max_new_tokens))

    def look(self, request: Any, words: Iterable[str] = ()) -> Look:
        """Ask a request, and return all that is known of it.

        Args:
            request: lm-eval's, of a text to be generated.
            words: Of which it is told how likely they would be as the whole response.

        Raises:
            ValueError: As for `seen`; or the checkpoint cannot be asked.
        """
        self._check_eos()
        ((settings, _),) = self._by_settings([request])
        prompt = self._prompt(request, settings.max_new_tokens)
        self._shared_prefix_engine = None
        length = self._prompt_length(prompt) + settings.max_new_tokens
        encoded = self._engine_prompt(prompt)
        engine = self._choose_shared_prefix(prompt, settings, length) if encoded else None
        shared = encoded if engine else None
        if engine and encoded:
            stopped = StopStrings(settings.stops, self.tokenizer) if settings.stops else None
            found = engine.hypotheses(encoded, settings, stopped)
        else:
            found = self._generated_hypotheses(prompt, settings)
        name = "shared_prefix" if engine else "generate"
        response = self._response(prompt, found[0].tokens, settings.stops, name)
        first = self._plain_next_log_probs(prompt)
        return Look(
            self._seen(request, prompt),
            response,
            [(one, self._text(one.tokens, settings.stops)) for one in found],
            settings,
            [self._first_token(first, token) for token in first.topk(_LIKELIEST)[1].tolist()],
            {word: self._alone(word, first, settings, shared) for word in words},
        )

    def _generated_hypotheses(self, prompt: Any, settings: GenerationSettings) -> list[Hypothesis]:
        """Return what `generate` ends with; best first."""
        back = {"num_return_sequences": settings.beams, "return_dict_in_generate": True}
        back = {**ONE_RESPONSE, **back, "output_scores": True}
        output, start = self._generate_output([prompt], settings, back)
        penalty = float(settings.kwargs.get("length_penalty", 1.0))
        if settings.beams == 1 or settings.kwargs.get("do_sample"):
            steps = self.model.compute_transition_scores(
                output.sequences, output.scores, normalize_logits=True
            )
            tokens = output.sequences[0, start:].tolist()
            total = float(steps[0].sum())
            return [Hypothesis(tokens, total, total / len(tokens) ** penalty)]
        lengths = (output.beam_indices >= 0).sum(1).tolist()
        rows = zip(
            output.sequences[:, start:].tolist(),
            lengths,
            output.sequences_scores.tolist(),
            strict=True,
        )
        return [
            Hypothesis(tokens[:length], score * length**penalty, score)
            for tokens, length, score in rows
        ]

    def _alone(
        self,
        word: str,
        first: torch.Tensor,
        settings: GenerationSettings,
        encoded: EncodedPrompt | None,
    ) -> WordAlone:
        """Return a word as the response to a prompt whose first token has these chances, (V,)."""
        forms = [f"{gap}{form}" for form in _cases(word) for gap in ("", " ")]
        tokens = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in forms]
        if encoded and (engine := self._shared_prefix_engine):
            ended = [[*ids, self.eos_token_ids[0]] for ids in tokens]
            ((_, scores),) = engine.score([encoded], [ended], None)
            best = max(range(len(forms)), key=lambda place: scores[place][0])
            ids, log_prob = ended[best], scores[best][0]
            penalty = float(settings.kwargs.get("length_penalty", 1.0))
            whole = Hypothesis(ids, log_prob, log_prob / len(ids) ** penalty)
        else:
            best = max(range(len(forms)), key=lambda place: float(first[tokens[place][0]]))
            whole = None
        return WordAlone(forms[best], self._first_token(first, tokens[best][0]), whole)

    def _first_token(self, log_probs: torch.Tensor, token: int) -> FirstToken:
        value = log_probs[token]
        rank = 1 + int((log_probs > value).sum())
        return FirstToken(self.tokenizer.decode([token]), float(value.exp()), rank)


def _cases(word: str) -> list[str]:
    """Return a word as it is and in other cases, which count alike."""
    return list(dict.fromkeys((word, word.lower(), word.capitalize(), word.upper())))
