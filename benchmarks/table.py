"""The benchmark's results as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def render(result: Mapping[str, Any]) -> str:
    """Return everything that a reader needs to judge the numbers."""
    parts = [_heading(result), _main_table(result), _sizes_table(result)]
    if result["growth"]:
        parts.append(_growth_table(result))
    if notes := result.get("notes"):
        parts.append("\n".join(notes))
    parts.append("Not measured:\n\n" + "\n".join(f"- {line}" for line in result["not_measured"]))
    return "\n\n".join(parts) + "\n"


def _heading(result: Mapping[str, Any]) -> str:
    where, shape = result["environment"], result["shape"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    first = result["cases"][0]
    sources = ", ".join(sorted(set(result["sources"].values())))
    return (
        "# Shared-prefix engine against stock generation\n\n"
        f"{where['cpu']}, {where['cores']} cores, {where['threads']} thread(s), "
        f"{where['cpu_capability']}, load at start {where['load_average_at_start'][0]:.1f}; "
        f"Python {where['python']}, {versions}; commit {where['git_commit']}; {where['dtype']}; "
        f"{where['gpu']}.\n\n"
        f"Random seeded weights: Llama of width {shape['width']}, inner {shape['inner']}, "
        f"{shape['layers']} layers, {shape['heads']} heads; CLIP tower of width "
        f"{shape['vision_width']}, {shape['vision_layers']} layers. Prompts: the first "
        f"{first['documents_a_group']} documents of one task of each of {first['groups']} data "
        f"sets (sources: {sources}), so {first['groups']} "
        f"groups with a common instruction; the full suite here has {result['suite_prompts']:,} "
        f"prompts in 108 groups. {result['repetitions']} repetitions in alternating order, "
        f"{result['wall_seconds'] / 60:.0f} minutes in all."
    )


def _main_table(result: Mapping[str, Any]) -> str:
    rows = [
        [
            "Case",
            "Ours, CPU s",
            "Stock, CPU s (batch)",
            "Cached prefix, CPU s (batch)",
            "Stock / ours",
            "Target",
            "Cached / ours",
            "llava_hf / ours",
            "Wall, stock / ours",
            "Peak MiB ours, stock, cached",
            "Stock / ours",
            "Identical ours, stock, cached, llava_hf",
        ]
    ]
    for case in result["cases"]:
        arms, ratios = case["arms"], case["cpu_ratio"]
        ours, stock, cached = (arms.get(name) for name in ("ours", "stock", "cached"))
        target = ""
        if case["target"] is not None:
            target = f"{case['target']:g}: {'met' if case['met'] else 'missed'}"
        memory = f"{case['memory_ratio']:.1f}"
        if case["memory_met"] is not None:
            memory += f" (5: {'met' if case['memory_met'] else 'missed'})"
        wall = [arm["wall_seconds_a_prompt"]["median"] for arm in (stock, ours)]
        rows.append(
            [
                case["case"]["name"],
                _seconds(ours),
                f"{_seconds(stock)} ({stock['batch_size']})",
                f"{_seconds(cached)} ({cached['batch_size']})" if cached else "",
                _ratio(ratios["stock"]),
                target,
                _ratio(ratios["cached"]) if "cached" in ratios else "",
                _ratio(ratios["llava_hf"]) if "llava_hf" in ratios else "",
                f"{wall[0] / wall[1]:.1f}",
                ", ".join(f"{arm['peak_mib']:.0f}" for arm in (ours, stock, cached) if arm),
                memory,
                ", ".join(f"{arm['identical']}/{arm['compared']}" for arm in arms.values()),
            ]
        )
    return (
        "CPU seconds a prompt, median [range]; ratios are taken within each repetition. Ours is "
        "timed on all prompts, the others on some that stand evenly in the order of lengths where "
        "they are slow. Peak memory besides the loaded model; identical: the response of "
        "`generate` in float32 to the prompt alone.\n\n" + markdown(rows)
    )


def _seconds(arm: Mapping[str, Any]) -> str:
    cost = arm["cpu_seconds_a_prompt"]
    return f"{cost['median']:.4f} [{cost['min']:.4f}, {cost['max']:.4f}], n={arm['prompts']}"


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.1f} [{ratio['min']:.1f}, {ratio['max']:.1f}]"


def _sizes_table(result: Mapping[str, Any]) -> str:
    rows = [["Case", "Arm", "CPU s a prompt by batch size, once each"]]
    for case in result["cases"]:
        for arm, sizes in case["sizes_tried"].items():
            costs = ", ".join(f"{size}: {cost['cpu']:.4f}" for size, cost in sizes.items())
            rows.append([case["case"]["name"], arm, costs])
    return "Batch sizes tried:\n\n" + markdown(rows)


def _growth_table(result: Mapping[str, Any]) -> str:
    rows = [["Grows", "Value", "Prompts", "Beams", "Text tokens", "Ours", "Stock", "Stock / ours"]]
    for row in result["growth"]:
        stock = row["stock"] and row["stock"]["cpu"]
        rows.append(
            [
                row["grows"],
                f"{row['value']:,}",
                f"{row['prompts']:,}",
                str(row["beams"]),
                f"{row['text_tokens']:.0f}",
                f"{row['ours']['cpu']:.4f}",
                f"{stock:.4f}" if stock else "",
                f"{stock / row['ours']['cpu']:.1f}" if stock else "",
            ]
        )
    return (
        "How cost grows (LLM, 2,048 words): CPU seconds a prompt, once each, stock at batch size 4 "
        "on the first prompts:\n\n" + markdown(rows)
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)
