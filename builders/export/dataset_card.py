"""Dataset card: what the sets are, how they were made, and under which terms."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import yaml

from verbalizer_bench.builders.export.markdown import table
from verbalizer_bench.builders.export.sets import Sets
from verbalizer_bench.builders.filters.leakage import SHORTEST
from verbalizer_bench.builders.pipeline.preference_blocks import LocalCheckpoint, PairRule
from verbalizer_bench.builders.pipeline.prompts import PromptTemplates
from verbalizer_bench.builders.pipeline.recipe import (
    DataRecipe,
    ExistingPairs,
    FormatOriented,
    FormatPairs,
    Preference,
    sources,
)
from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.client.endpoint import endpoint_for
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.tasks.data import resolve_data

_TITLES = {
    "format_oriented": "Format-oriented instruction data: FOVIT, FOIT, NoFOVIT, NoFOIT",
    "llava_style": "Visual instruction data in the manner of LLaVA-Instruct",
    "format_pairs": "Preference pairs: answers that obey a format instruction, or do not",
    "existing_pairs": "Preference pairs from published data",
    "preference": "Preference data: rated completions, and pairs of them",
    "response_format": "Visual questions with response-format prompts",
}
_SOURCES = {
    "format_oriented": "After Shiono et al. (NLP2024; English: arXiv 2512.23572). Instructions are "
    "the text of IFEval's verifiers (Zhou et al. 2023, arXiv 2311.07911; Apache-2.0). The wording "
    "of prompts is not the paper's.",
    "llava_style": "After Liu et al. 2023 (arXiv 2304.08485), with other prompts and models.",
    "format_pairs": "Items are those of format-oriented data (Shiono et al., arXiv 2512.23572). "
    "IFEval's verifiers (Zhou et al. 2023, arXiv 2311.07911; strict) accept every chosen answer "
    "and refuse every rejected one; no model judged them.",
    "existing_pairs": "Pairs as they are published, in another layout; no model was asked.",
    "preference": "After Li, Lin & Pei 2024 (arXiv 2402.10884); the judge's prompt is ours. Scores "
    "are a model's, from 0 to 4; report.md says how far it agrees with itself.",
    "response_format": "After Liu et al. 2023 (arXiv 2310.03744).",
}
# The role that rates completions and writes none, and the one that writes them.
_JUDGE = "judge"
_COMPLETION = "completion"


def write_card(
    samples: Sequence[TrainingSample], sets: Sets, recipe: DataRecipe, prompts: PromptTemplates
) -> Path:
    """Write the card as the output folder's README.md, and return it."""
    path = recipe.output / "README.md"
    write_whole(path, card(samples, sets, recipe, prompts))
    return path


def card(
    samples: Sequence[TrainingSample], sets: Sets, recipe: DataRecipe, prompts: PromptTemplates
) -> str:
    """Return the card; its head is what the hub and `datasets` read."""
    configs = [{"config_name": Path(name).stem, "data_files": name} for name in sets.sets]
    head = {"license": "other", "license_name": "see-below", "configs": configs}
    lines = [(name, f"{len(chosen):,}") for name, chosen in sets.sets.items()]
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {_TITLES[recipe.kind]}",
        _SOURCES[recipe.kind],
        table(("set", "records"), lines),
        f"Records are in {_layout(recipe)}: "
        '`datasets.load_dataset("json", data_files=…)` reads a '
        "set, and so does `verbalizer-bench train … data=…`. `<set>.provenance.jsonl` says of each "
        "record, in order, which image, models, prompts and calls it is from.",
        _how(samples, recipe, prompts),
        _terms(sets, recipe),
    ]
    return "\n\n".join(parts) + "\n"


def _asked(recipe: Preference) -> list[str]:
    """Return how completions were sampled and judged."""
    settings, judge = recipe.completions, endpoint_for(recipe.endpoints, "judge")
    if settings.checkpoint:
        sampled = json.dumps(dataclasses.asdict(settings.checkpoint))
    else:
        endpoint = endpoint_for(recipe.endpoints, "completion")
        sampled = f"{endpoint.model}, {json.dumps(endpoint.parameters)}"
    seed = "without seeds" if settings.seed is None else f"seeds from {settings.seed}"
    return [
        f"Completions: {settings.k} a prompt, {seed}, by `{sampled}`; each one's seed is in its "
        "record's provenance.",
        f"Judge: `{judge.model}, {json.dumps(judge.parameters)}`; order of the answers by seed "
        f"{recipe.judge.seed}, {recipe.judge.twice:.0%} judged twice.",
        "A pair is the answer with the highest sum of helpfulness, correctness and coherence, and "
        "the one with the lowest. "
        + "; ".join(f"{name}: {_rule(rule)}" for name, rule in recipe.pairs.items())
        + ".",
    ]


def _rule(rule: PairRule) -> str:
    parts = [f"they differ by {rule.minimum_gap} or more"]
    if rule.length_ratio is not None:
        parts.append(f"the longer has at most {rule.length_ratio:g} times the characters")
    if rule.drop_ties:
        parts.append("no tie for the best or the worst")
    if not rule.image:
        parts.append("without the image")
    return ", ".join(parts)


def _layout(recipe: DataRecipe) -> str:
    if isinstance(recipe, (ExistingPairs, FormatPairs)):
        return "the layout of preference pairs, which is TRL's"
    if isinstance(recipe, Preference):
        return "the layouts of rated completions and of preference pairs, which is TRL's"
    return "LLaVA's layout"


def _how(samples: Sequence[TrainingSample], recipe: DataRecipe, prompts: PromptTemplates) -> str:
    rejected = sum(sample.rejection is not None for sample in samples)
    items = [f"Prompts: version {prompts.version}, sha256 `{prompts.sha256[:16]}`."]
    items = items if recipe.prompts else []
    items += [
        f"Of {len(samples):,} records {rejected:,} were set aside; report.md has reasons and "
        "yields.",
        f"{_distinct(recipe)}; no record shares {recipe.leakage.n} words in a row "
        f"with a prompt of the evaluation data ({_evaluation(recipe)}), nor a shorter text of "
        f"{SHORTEST} words or more."
        if recipe.leakage.data != "none"
        else "It was not compared with evaluation data.",
    ]
    if isinstance(recipe, FormatOriented):
        items.append(
            "Every answer to an instruction was accepted by its IFEval verifier (strict). "
            f"pairing: {recipe.pairing}."
        )
    if isinstance(recipe, Preference):
        items += _asked(recipe)
    return "## How it was made\n\n" + "\n".join(f"- {item}" for item in items)


def _distinct(recipe: DataRecipe) -> str:
    if isinstance(recipe, FormatPairs):
        return "What was checked of the items stands in the card of their data set"
    if isinstance(recipe, ExistingPairs):
        return "A pair with prompt, image and answers of an earlier one was dropped"
    if isinstance(recipe, Preference):
        return "A prompt that asks the same about the same image as an earlier one was dropped"
    return (
        "Near-duplicate questions were dropped from a Jaccard similarity of "
        f"{recipe.duplicates.threshold:g} on"
    )


def _evaluation(recipe: DataRecipe) -> str:
    data = resolve_data(recipe.leakage.data)
    return "the embedded samples alone" if data == "sample" else f"`{data}`"


def _terms(sets: Sets, recipe: DataRecipe) -> str:
    attempts = [attempt for sample in sets.accepted for attempt in sample.attempts]
    items = [f"{name}: `{path}`" for name, path in sources(recipe).items()]
    items = [f"Images and texts are from {', '.join(items)}."]
    items.append(recipe.licence or "Their terms: not stated; give licence= and build again.")
    models: dict[str, set[str]] = {}
    for attempt in attempts:
        models.setdefault(attempt.role, set()).add(attempt.model)
    # A checkpoint that was sampled here was not asked over the wire.
    if checkpoint := _sampled_here(recipe):
        models[_COMPLETION] = {str(checkpoint.model_args["pretrained"])}
    items += _generated(models)
    return "## Terms\n\n" + "\n".join(f"- {item}" for item in items)


def _sampled_here(recipe: DataRecipe) -> LocalCheckpoint | None:
    """Return the checkpoint on this machine that completions are from, if they are."""
    if isinstance(recipe, Preference) or (isinstance(recipe, FormatPairs) and recipe.is_sampled):
        return recipe.completions.checkpoint
    return None


def _generated(models: Mapping[str, Collection[str]]) -> list[str]:
    """Return who wrote the texts, who rated them, and what whoever takes them is bound to."""
    writers = sorted({one for role, some in models.items() if role != _JUDGE for one in some})
    judges = ", ".join(sorted(models.get(_JUDGE, ())))
    items = [f"Texts were generated by {', '.join(writers)}."] if writers else []
    items += [f"Scores and their reasons are by {judges}."] if judges else []
    if not items:
        return []
    roles = "; ".join(f"{role} of {', '.join(sorted(models[role]))}" for role in sorted(models))
    return [
        f"{' '.join(items)} Whoever uses or passes on what they wrote is bound by their "
        "licences and the terms of their providers; some forbid training competing models.",
        f"Models were asked for: {roles}.",
    ]
