"""One answer as JSON's types."""

import json
from collections.abc import Mapping
from typing import Any

from verbalizer_bench.explaining.asking import Answered
from verbalizer_bench.explaining.facts import Facts, counted


def record(one: Facts) -> dict[str, Any]:
    """Return an answer as JSON's types, prompts whole."""
    labels = one.labels
    made = {
        **{"title": one.title, "place": one.place, "why": one.why or None},
        **{"raw_prompt": one.raw, "asked": one.asked, "template": one.template},
        "prompt": _prompt_record(one.made),
        "image": one.shown,
        "generation": json.loads(json.dumps(dict(one.settings), default=str)),
        "how": one.how,
        "expected": labels.expected if labels else None,
        "other": labels.other if labels else None,
        "label_type": labels.type if labels else None,
        "response": one.response.text,
        "ending": one.response.ending,
        "outcome": one.outcome,
        "scores": dict(one.scores),
        "f1_tokens": counted(labels, one.response.text) if labels and "f1" in one.scores else None,
        "again": _again_record(one),
        "notes": list(one.notes),
    }
    return made


def _prompt_record(made: Answered) -> dict[str, Any] | None:
    if made.prompt is None:
        return None
    prompt, bos = made.prompt, made.bos
    return {
        **{"text": prompt.text, "tokens": len(prompt.ids), "ids": list(prompt.ids)},
        **{"image_places": list(prompt.image_places), "cut": prompt.cut},
        "unknown": made.unknown,
        **{"bos": bos.times if bos else None, "bos_token": bos.token if bos else None},
    }


def _again_record(one: Facts) -> Mapping[str, Any] | None:
    again = one.again
    if again is None or again.response is None:
        return None
    look = again.look
    return {
        **{"response": again.response.text, "ending": again.response.ending, "same": one.same},
        **{"engine": again.response.engine, "dtype": again.dtype, "device": again.device},
        "beams": [
            {"text": text, "tokens": one.tokens, "log_prob": one.log_prob, "score": one.score}
            for one, text in look.hypotheses
        ]
        if look
        else None,
        "first_tokens": [token._asdict() for token in look.likeliest] if look else None,
        "label_words": {word: _word_record(alone) for word, alone in look.words.items()}
        if look
        else None,
    }


def _word_record(alone: Any) -> dict[str, Any]:
    whole = alone.whole._asdict() if alone.whole else None
    return {"text": alone.text, "first": alone.first._asdict(), "whole": whole}
