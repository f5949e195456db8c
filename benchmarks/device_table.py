"""The accelerator benchmark's results as Markdown."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.table import markdown


def render(result: Mapping[str, Any]) -> str:
    """Return everything that a reader needs to judge the numbers."""
    parts = [_heading(result)]
    if result["cases"]:
        parts += [_main_table(result), _details(result)]
    if result["not_run"]:
        lines = [f"- {name}: {reason}" for name, reason in result["not_run"].items()]
        parts.append("Not run:\n\n" + "\n".join(lines))
    parts.append("Not measured:\n\n" + "\n".join(f"- {line}" for line in NOT_MEASURED))
    return "\n\n".join(parts) + "\n"


NOT_MEASURED = (
    "trained checkpoints: weights are random, so that responses have 15 tokens, and scores are "
    "nearer to each other than a trained model's: agreement is lower for both arms",
    "lm-eval's own loop around `generate`, tokenizers and chat templates, in either arm",
    "the full suite: its time is that of the prompts here, times their share",
    "several GPUs, CUDA graphs, compiled models, quantised weights",
)


def _heading(result: Mapping[str, Any]) -> str:
    where = result["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    device = where["gpu"] or f"{where['device']}: a rehearsal on tiny models, whose numbers mean "
    device = device if where["gpu"] else f"{device}nothing"
    driver = f"driver {where['driver']}; " if where["driver"] else ""
    return (
        "# Shared-prefix engine on a GPU, at real sizes\n\n"
        f"{device}; {driver}Python {where['python']}, {versions}; commit {where['git_commit']}; "
        f"{where['dtype']}.\n\n"
        "Random weights at the shapes of the checkpoints named, drawn on the device. Prompts: "
        f"{result['prompts']:,} of one task of each data set, as many as is its share of the "
        f"suite's {result['suite_prompts']:,} (sources: "
        f"{', '.join(sorted(set(result['sources'].values())))}); one white image of 336 x 336 "
        "pixels in front for LVLMs. 15 new tokens. Stock is transformers' `generate` at the batch "
        "size that was fastest. Both arms run in turning order; ratios are taken within a "
        f"repetition. {result['seconds_a_case']:.0f} s a case."
    )


def _main_table(result: Mapping[str, Any]) -> str:
    rows = [
        [
            "Case",
            "Ours, prompts / s",
            "Stock, prompts / s (batch)",
            "Ours / stock",
            "Target",
            "Full suite, ours",
            "Full suite, stock",
            "Peak GiB besides weights: ours, stock",
            "Equal to float32: ours, stock, stock alone",
        ]
    ]
    for case in result["cases"]:
        times, same = case["seconds_a_prompt"], case["agreement"]
        ratio, target = median(case["ratio"]), case["target"]
        suite = {name: median(each) * result["suite_prompts"] for name, each in times.items()}
        minutes = _duration(suite["ours"])
        if case["kind"] == "LVLM, 10 beams" and target:
            met = suite["ours"] <= 60 * result["suite_minutes"]
            minutes += f" ({result['suite_minutes']} min: {'met' if met else 'missed'})"
        rows.append(
            [
                case["case"],
                f"{_speed(times['ours'])}, n={case['prompts']['ours']:,}",
                f"{_speed(times['stock'])}, n={case['prompts']['stock']} ({case['stock_batch']})",
                f"{ratio:.1f} [{min(case['ratio']):.1f}, {max(case['ratio']):.1f}]",
                f"{target:g}: {'met' if ratio >= target else 'missed'}" if target else "",
                minutes,
                _duration(suite["stock"]),
                ", ".join(
                    "not counted" if peak is None else f"{peak:.1f}"
                    for peak in case["peak_gib"].values()
                ),
                ", ".join(f"{count}/{same['compared']}" for count in same["equal"].values()),
            ]
        )
    return (
        "Median [range] of the repetitions. Full suite: seconds a prompt times its prompts, "
        "without loading and without the seconds that the calibration takes. Equal to float32: "
        "new tokens that are those of `generate` in float32, one prompt at a time.\n\n"
        + markdown(rows)
    )


def _speed(seconds: Sequence[float]) -> str:
    rates = sorted(1 / each for each in seconds)
    return f"{median(rates):.2f} [{rates[0]:.2f}, {rates[-1]:.2f}]"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def _details(result: Mapping[str, Any]) -> str:
    rows = [["Case", "Weights", "Prompt tokens", "Stock, s a prompt by batch size", "Calibration"]]
    for case in result["cases"]:
        lengths, found = case["prompt_tokens"], case["calibration"]
        sizes = case["stock_sizes"].items()
        rates = found and ", ".join(
            f"{tokens}: {rate:,}" for tokens, rate in found["tokens_a_second"].items()
        )
        rows.append(
            [
                case["case"],
                f"{case['parameters'] / 1e9:.2f} G",
                f"{lengths['min']}, mean {lengths['mean']:.0f}, {lengths['max']}",
                ", ".join(f"{size}: {seconds:.3f}" for size, seconds in sizes),
                f"{found['tokens_per_pass']} tokens a pass; tokens / s by pass: {rates}; "
                f"{found['free_gib']} GiB free"
                if found
                else "none: a CPU's constants",
            ]
        )
    return "What was tried and measured on the way:\n\n" + markdown(rows)
