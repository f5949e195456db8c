"""Make checkpoints: `validate-data`, `train`, `compose`, `extract-llm` and `merge-weights`."""

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from verbalizer_bench.cli.options import (
    CommandGroup,
    DryRun,
    Json,
    Output,
    Overrides,
    Repeated,
    ReportOutput,
    Required,
)

if TYPE_CHECKING:
    from verbalizer_bench.models.checkpoints.second_tower import SecondTower

commands = CommandGroup()


@commands.command("validate-data")
def validate_data(
    recipe: str, overrides: Overrides, output: ReportOutput = None, as_json: Json = False
) -> None:
    """Check every record of a recipe's data as training would, with no weight and no GPU.

    verbalizer-bench validate-data recipes/tiny/sft.yaml
    verbalizer-bench validate-data paper/llm_foit data=mine.json tokenizer=DIR -o checked.html
    verbalizer-bench validate-data mine.json tokenizer=DIR format=vicuna-v1 max_length=2048

    Ends with exit code 2 if training would stop.

    Args:
        recipe: A YAML file, the name of a shipped one, or a file of records; with records the keys
            tokenizer or model.path, and format, max_length, images and method if need be.
        overrides: key=value, in place of the recipe's; further files of records.
        output: A page of HTML with a figure. If there are bad records, all are listed beside it, in
            a file of the same name that ends in .bad_records.jsonl.
        as_json: Print what was found as JSON.
    """
    from verbalizer_bench.trainers.validation import validation_recipe
    from verbalizer_bench.trainers.validation_report import checked, text

    found = checked(validation_recipe(recipe, overrides), output)
    print(json.dumps(found.record, indent=1) if as_json else text(found.record))
    if found.stops:
        more = f" (and {len(found.stops) - 1} more)" if len(found.stops) > 1 else ""
        raise ValueError(f"training would stop: {found.stops[0]}{more}")


@commands.command()
def train(recipe: str, overrides: Overrides, dry_run: DryRun = False) -> None:
    """Make a recipe's checkpoint.

    verbalizer-bench train recipes/tiny/sft.yaml
    verbalizer-bench train paper/llm_foit seed=1 output=checkpoints/foit-1 --dry-run

    Args:
        recipe: A YAML file, or the name of a shipped one.
        overrides: key=value, in place of the recipe's; trainers/recipe.py says what they mean.
        dry_run: Say what it would do, and touch no weights.
    """
    from verbalizer_bench import api

    if dry_run:
        from verbalizer_bench.trainers.recipe import read_recipe

        checked = read_recipe(recipe, overrides)
        # Not before: it imports torch, seconds that a wrong key need not take.
        from verbalizer_bench.trainers.dry_run import dry_run as estimate

        plan = estimate(checked, colour=sys.stdout.isatty())
        print(plan.text)
        if plan.mismatch:
            raise ValueError(plan.mismatch)
        return
    folder = api.train(recipe, *overrides).path
    if os.environ.get("RANK", "0") == "0":
        print(f"Wrote {folder}; {folder / 'README.md'} has the command that scores it")


@commands.command()
def compose(
    vision_tower: Required,
    llm: Required,
    connector: Annotated[str, Option(metavar="linear|mlp2x_gelu")],
    output: Output,
    format: str | None = None,
    seed: int = 0,
    second_tower: str | None = None,
    mixture: Annotated[str | None, Option(metavar="additive|interleaved|channel")] = None,
    alpha: float | None = None,
    normalize: bool = False,
    first_layer: int | None = None,
    second_layer: int | None = None,
    grid: Annotated[str | None, Option(metavar="resize_pixels|resize_features")] = None,
    second_pixels: Annotated[str | None, Option(metavar="first|own")] = None,
) -> None:
    r"""Make a LLaVA of a vision tower, or two, and a language model.

    verbalizer-bench compose --vision-tower openai/clip-vit-large-patch14 \
        --llm lmsys/vicuna-7b-v1.5 --connector mlp2x_gelu --format vicuna-v1 -o llava
    verbalizer-bench compose --vision-tower openai/clip-vit-large-patch14 \
        --second-tower facebook/dinov2-large --mixture interleaved \
        --llm lmsys/vicuna-7b-v1.5 --connector mlp2x_gelu --format vicuna-v1 -o mof

    Args:
        vision_tower: A folder or hub id.
        llm: A folder or hub id.
        connector: How many layers it has.
        output: The checkpoint's folder.
        format: Conversation format of its chat template: llama-2 or vicuna-v1 (default: the llm's).
        seed: Of the connector's weights.
        second_tower: A folder or hub id of another vision tower, whose features are mixed with the
            first one's (arXiv 2401.06209).
        mixture: additive: alpha x first + (1 - alpha) x second; interleaved: a connector for each
            tower, tokens alternate; channel: both vectors of a patch side by side, one connector.
        alpha: The first tower's share, 0 to 1; of additive alone.
        normalize: Bring each patch's vector of either tower to mean 0 and variance 1 first.
        first_layer: Which hidden state of the first tower is taken, beside a second one (default:
            -2).
        second_layer: Which of the second tower (default: -1 of a DINO, before its last norm; else
            -2).
        grid: What of the second tower is brought to the first one's grid of patches where it has
            another (default: resize_pixels).
        second_pixels: first (default): both towers see the same normalised pixels, as in the paper;
            own: the second one by its own processor's mean and deviation.
    """
    from transformers import AutoTokenizer

    from verbalizer_bench.models.checkpoints.compose import compose
    from verbalizer_bench.models.checkpoints.strict_loading import reading
    from verbalizer_bench.trainers.conversations.formats import chat_template

    second = _second_tower(
        second_tower,
        mixture=mixture,
        alpha=alpha,
        normalize=normalize or None,
        first_layer=first_layer,
        layer=second_layer,
        grid=grid,
        pixels=second_pixels,
    )
    template = None
    if format:
        with reading(f"llm={llm}"):
            tokenizer = AutoTokenizer.from_pretrained(llm)
        template = chat_template(format, tokenizer)
    folder = compose(
        vision_tower, llm, connector, output, chat_template=template, seed=seed, second=second
    )
    print(f"Wrote {folder}; its connector is untrained: `verbalizer-bench train` trains it")


def _second_tower(tower: str | None, **settings: Any) -> "SecondTower | None":
    from verbalizer_bench.models.checkpoints.second_tower import SecondTower

    given = {name: value for name, value in settings.items() if value is not None}
    if tower is None and given:
        raise ValueError(
            f"compose: {', '.join(given)} is of a second tower; give --second-tower, or leave it "
            "out"
        )
    if tower and "mixture" not in given:
        raise ValueError(
            f"--second-tower {tower}: give --mixture: additive, interleaved or channel"
        )
    return SecondTower(tower, **given) if tower else None


@commands.command()
def extract_llm(checkpoint: str, output: Output) -> None:
    """Write a LLaVA's language model as a text model.

    verbalizer-bench extract-llm llava -o llm

    Args:
        checkpoint: A LLaVA's folder or hub id.
        output: The text model's folder.
    """
    from verbalizer_bench.models.checkpoints.compose import extract_llm

    print(f"Wrote {extract_llm(checkpoint, output)}")


@commands.command("merge-weights")
def merge_weights(
    base: Required,
    tuned: Repeated,
    coefficient: Repeated,
    output: Output,
    ties: float | None = None,
) -> None:
    r"""Merge the language model of a tuned checkpoint with that of its base.

    verbalizer-bench merge-weights --base vicuna --tuned llava --coefficient 0.5 -o half
    verbalizer-bench merge-weights --base vicuna --tuned llava -o grid \
        --coefficient 0.25 --coefficient 0.5 --coefficient 0.75

    The coefficient is the tuned checkpoint's share: base + coefficient * (tuned - base). 0 gives
    the base's language model, 1 the tuned one's. What is no language model (vision tower,
    connector, tokens that the base has not) is the first tuned one's, as are types and tokenizer.

    Args:
        base: A folder or hub id: the language model that the tuned checkpoint was made from.
        tuned: A folder or hub id of a tuned LLM or LVLM; again for further ones, whose differences
            to the base are added.
        coefficient: The share, any finite number; of several --tuned one for each, with commas
            between. Given again: a grid, with a folder for each point.
        output: The checkpoint's folder; of a grid the folder of its folders.
        ties: Merge several --tuned by TIES: of each one's difference to the base the largest values
            are kept, this share of each tensor (the paper's: 0.2 of all), and of these the mean of
            those with the sign of their sum; --coefficient is one number then, 1 in the paper.
    """
    from verbalizer_bench.models.checkpoints.merge_weights import merge_weights

    if not tuned:
        raise ValueError("merge-weights: no --tuned; give the tuned checkpoint's folder")
    points = [_numbers(text) for text in coefficient]
    for folder in merge_weights(base, tuned, points, output, ties):
        print(f"Wrote {folder}; {folder / 'README.md'} has the command that scores it")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise ValueError(f"--coefficient {text}: is no number, such as 0.5") from error
