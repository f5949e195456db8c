"""Make training data: `build`."""

from verbalizer_bench.cli.options import CommandGroup, Data, DryRun, Overrides

commands = CommandGroup()


@commands.command()
def build(
    recipe: str,
    overrides: Overrides,
    dry_run: DryRun = False,
    limit: int | None = None,
    data: Data = None,
) -> None:
    """Make a recipe's data set.

    verbalizer-bench build recipes/data/format_oriented.yaml --dry-run
    verbalizer-bench build data/format_oriented --limit 20 output=data/trial

    Args:
        recipe: A YAML file, or the name of a shipped one.
        overrides: What replaces the recipe's keys.
        dry_run: Say how many calls it would make and what they would cost, and make none.
        limit: How many images, or records, to begin with.
        data: Where the evaluation's rows are, with which no record may share text: hub, sample or
            a folder (default: VERBALIZER_BENCH_DATA, else hub).
    """
    from verbalizer_bench import api

    options = {"limit": limit, "leakage.data": data}
    overrides += [f"{key}={value}" for key, value in options.items() if value is not None]
    if dry_run:
        from verbalizer_bench.builders.build import dry_run as estimate
        from verbalizer_bench.builders.pipeline.recipe import read_recipe

        print(estimate(read_recipe(recipe, overrides)))
        return
    built = api.build_data(recipe, *overrides)
    print(built)
    for file in built.files:
        print(f"Wrote {file}")
