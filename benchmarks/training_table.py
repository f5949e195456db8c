"""The training benchmark's results as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def render(result: Mapping[str, Any]) -> str:
    """Return everything that a reader needs to judge the numbers."""
    parts = [_heading(result), _speed(result), _preparing(result), _memory(result["memory"])]
    parts.append("Not measured:\n\n" + "\n".join(f"- {line}" for line in result["not_measured"]))
    return "\n\n".join(parts) + "\n"


def _heading(result: Mapping[str, Any]) -> str:
    where = result["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    shapes = {found["case"]["shape"]["name"]: found["case"]["shape"] for found in result["cases"]}
    models = "; ".join(
        f"{name}: Llama of width {shape['width']}, {shape['layers']} layers, {shape['words']:,} "
        f"words, tower of width {shape['vision_width']}, {shape['vision_layers']} layers, "
        f"{(shape['pixels'] // 8) ** 2} image tokens, images of "
        f"{shape['picture'][0]} x {shape['picture'][1]}"
        for name, shape in shapes.items()
    )
    return (
        "# Supervised training against plain TRL\n\n"
        f"{where['cpu']}, {where['cores']} cores, {where['threads']} thread(s), "
        f"{where['cpu_capability']}, load at start {where['load_average_at_start'][0]:.1f}; "
        f"Python {where['python']}, {versions}; commit {where['git_commit']}; {where['dtype']}; "
        f"{where['gpu']}.\n\n"
        f"Seeded random weights. {models}.\n\n"
        "Both arms train the same weights on the same records with the same optimiser, batches,"
        " number of steps and logging. Plain is `trl.SFTTrainer` with its own data preparation "
        "and collator, `assistant_only_loss=True` and our chat template. It draws records in "
        "our order without grouping, so that the batches are the same ones and so are the "
        "losses; their largest difference in any step is given. Grouped is what the recipes "
        "have: steps of one modality and of similar length, so in other batches. A tiny model "
        "takes so little time that the loader and the trainer around it decide; the larger one "
        "shows how the difference shrinks as the model grows. Arms run in turning order, after "
        "a run of each that is not counted: median and range; ratios are taken within a "
        "repetition, from CPU time of `train()`. Where both do the same work the median falls "
        "on either side of 1: `within the range` says that the target lies below the highest "
        "ratio. Wall time holds whatever else the machine did. "
        f"{result['wall_seconds'] / 60:.0f} minutes in all."
    )


def _speed(result: Mapping[str, Any]) -> str:
    rows = [
        [
            "Case",
            "Records with, without image",
            "Steps of",
            "Runs",
            "Plain, samples / CPU s",
            "Ours, samples / CPU s",
            "Ours / plain",
            "By wall time",
            "Target",
            "Losses differ by",
        ]
    ]
    for found in result["cases"]:
        case = found["case"]
        for arm, ratio in found["ratio"].items():
            grouped = arm.endswith("grouped")
            rows.append(
                [
                    case["name"] + (", grouped" if grouped else ""),
                    f"{found['records']['images']}, {found['records']['text']}",
                    f"{case['global_batch']} in micro-batches of {case['device_batch']}",
                    str(case["repetitions"]),
                    _range(found["arms"]["plain"]["samples_a_cpu_second"], 1),
                    _range(found["arms"][arm]["samples_a_cpu_second"], 1),
                    _range(ratio["cpu"], 2),
                    _range(ratio["wall"], 2),
                    f"{found['targets'][arm]:g}: {found['verdicts'][arm]}",
                    "" if grouped else f"{found['largest_difference_of_losses']:.0e}",
                ]
            )
    return _markdown(rows)


def _preparing(result: Mapping[str, Any]) -> str:
    rows = [["Case", "Plain, CPU s", "Ours, CPU s"]]
    for found in result["cases"]:
        plain, ours = (found["arms"][arm]["preparing_cpu_seconds"] for arm in ("plain", "ours"))
        rows.append([found["case"]["name"], _range(plain, 2), _range(ours, 2)])
    return (
        "Before training, not counted above: making the trainer and the data set. Ours encodes all "
        "records and decodes every image once, and finds both done the next time; plain encodes "
        "text here too, but records with images in every epoch again:\n\n" + _markdown(rows)
    )


def _memory(found: Mapping[str, Any]) -> str:
    rows = [
        [
            "Records",
            "JSON, MiB",
            "Encoded, MiB",
            "Peak resident MiB",
            "Peak anonymous MiB",
            "Resident before",
            "Building, s",
            f"{found['batches']:,} batches, s",
        ]
    ]
    for size in found["sizes"]:
        rows.append(
            [
                f"{size['records']:,}",
                f"{size['json_mib']:.1f}",
                f"{size['rows_mib']:.1f}",
                f"{size['peak_rss_mib']:.0f}",
                f"{size['peak_anonymous_mib']:.0f}",
                f"{size['before_rss_mib']:.0f}",
                f"{size['build_seconds']:.1f}",
                f"{size['draw_seconds']:.1f}",
            ]
        )
    grown = found["grown"]
    return (
        "Memory of the loader, in a process of its own: building the data set, then "
        f"{found['batches']:,} random batches with their images. From the smaller to the larger "
        f"set it grows by {grown['peak_rss_mib']:.0f} MiB resident, "
        f"{grown['peak_anonymous_mib']:.0f} MiB anonymous; target {found['target_mib']:g}: "
        f"{'met' if found['met'] else 'missed'}.\n\n" + _markdown(rows)
    )


def _range(found: Mapping[str, float], digits: int) -> str:
    return f"{found['median']:.{digits}f} ({found['min']:.{digits}f} to {found['max']:.{digits}f})"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)
