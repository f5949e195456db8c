"""What a request asks of `generate`."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple


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
        # The engine itself works without lm-eval.
        from lm_eval.models.utils import normalize_gen_kwargs

        kwargs = dict(normalize_gen_kwargs(copy.deepcopy(gen_kwargs), default_max_new_tokens))
        until = kwargs.pop("until")
        if wrong := [stop for stop in until if not isinstance(stop, str)]:
            raise ValueError(f"gen_kwargs until={wrong[0]!r}: give a text, or a list of texts")
        stops = tuple(stop for stop in until if stop and stop not in eos)
        max_new_tokens = kwargs.pop("max_gen_toks")
        if max_new_tokens < 1:
            raise ValueError(f"max_gen_toks={max_new_tokens}: give at least 1")
        if not kwargs["do_sample"]:
            kwargs.pop("temperature", None)
        return cls(max_new_tokens, stops, kwargs)

    @property
    def beams(self) -> int:
        """Return the beam width; 1 is greedy (or sampling)."""
        return int(self.kwargs.get("num_beams", 1))
