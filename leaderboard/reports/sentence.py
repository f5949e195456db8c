"""Say in one sentence what a run found: for the top of its page."""

from collections.abc import Mapping

from verbalizer_bench.results.answers import direction, interval
from verbalizer_bench.results.differences import Pair
from verbalizer_bench.results.statistics import TypeScores
from verbalizer_bench.tasks.metrics import OUTCOMES

_DID = {
    "follows": "are the label word alone",
    "verbose": "have it with more words",
    "flipped": "have the other label word",
    "both": "have both label words",
    "neither": "have neither",
}


def sentence(summary: Mapping[str, TypeScores], pair: Pair | None) -> str:
    """Return the sentence, without the model's name in front.

    Args:
        summary: Of the run.
        pair: Its difference from the base; None for the base itself.
    """
    types = {name: scores for name, scores in summary.items() if name != "All"}
    each = ", ".join(f"{name} {100 * scores.f1.mean:.1f}" for name, scores in types.items())
    if whole := summary.get("All"):
        parts = [f"F1 {whole.f1} over all ({each})"]
    else:
        whole = next(iter(types.values()))
        parts = [f"F1 {each}"]
    shares = sorted(OUTCOMES, key=lambda name: -whole.outcomes[name])
    did = [
        f"{100 * whole.outcomes[k]:.0f}\u00a0% {_DID[k]}"
        for k in shares
        if whole.outcomes[k] >= 0.05
    ]
    parts.append(f"of its responses {', '.join(did[:3])}")
    if pair:
        parts.append(_against(pair))
    return f"{'; '.join(parts)}."


def _against(pair: Pair) -> str:
    types = {difference.name: difference for difference in pair.family("label type")}
    difference = types.get("All") or next(iter(types.values()))
    words = {-1: "lower than", 1: "higher than", 0: "not to be told apart from"}
    changed = pair.contrast.changed
    why = f" (by {' and '.join(changed)} together)" if len(changed) > 1 else ""
    return f"{words[direction(difference)]} {pair.base}, {interval(difference)}{why}"
