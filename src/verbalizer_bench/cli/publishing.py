"""From a run to a row that others can check: `submit …` and `leaderboard …`."""

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from verbalizer_bench.cli.options import CommandGroup, Data, Json, Output, Repeated, Required

commands, submit, leaderboard = CommandGroup(), CommandGroup(), CommandGroup()
commands.add_typer(submit, name="submit", help="Submissions: pack, validate, spot-check, export.")
commands.add_typer(leaderboard, name="leaderboard", help="The static site of submissions.")


@submit.command()
def pack(
    run: Path,
    submitter: Required,
    licence: Required,
    link: Repeated,
    model_id: str | None = None,
    revision: str | None = None,
    weights_sha256: str | None = None,
    kind: Literal["llm", "lvlm"] | None = None,
    base: str | None = None,
    base_weights: str | None = None,
    recipe: str | None = None,
    notes: str = "",
    output: Output = Path("submissions"),
) -> int:
    r"""Make a submission of a run.

    verbalizer-bench submit pack out/llama --submitter 'A. Name' --licence CC-BY-4.0 \
        --model-id org/llama --revision 0123456789abcdef0123456789abcdef01234567 \
        -o submissions

    Args:
        run: The --output_path of a whole run.
        submitter: A name.
        licence: Of the responses.
        link: A URL of paper or code; more than one: repeat it.
        model_id: ORG/NAME (default: the run's model).
        revision: The model's hub commit (40 digits).
        weights_sha256: The weights' hash, where there is no commit.
        kind: llm or lvlm (default: the adapter's).
        base: ORG/NAME of what the model was tuned from.
        base_weights: The hash of the base's weights, or its checkpoint's folder (default: as our
            training recorded it).
        recipe: How it was tuned.
        notes: What a reader should know.
        output: A folder of submissions.
    """
    from verbalizer_bench.leaderboard.submission.pack import pack

    folder = pack(
        run,
        output,
        submitter=submitter,
        licence=licence,
        links=link,
        notes=notes,
        model_id=model_id,
        revision=revision,
        weights_sha256=weights_sha256,
        kind=kind,
        base=base,
        base_weights=base_weights,
        recipe=recipe,
    )
    print(f"Wrote {folder}")
    print("It is public once you publish it: results.json holds the run's model_args as they were.")
    return _keep_if_valid(folder)


def _keep_if_valid(folder: Path) -> int:
    """Print what a validation says of a new submission, and remove one that fails."""
    from verbalizer_bench.leaderboard.submission.validate import validate

    validation = validate(folder, write=False)
    print(validation)
    if validation.failed:
        shutil.rmtree(folder)
        with suppress(OSError):  # other submissions of the model are in it
            folder.parent.rmdir()
        print(f"Removed {folder}")
    return 1 if validation.failed else 0


@submit.command()
def validate(folders: list[Path], level: int = 5, as_json: Json = False) -> int:
    """Check submissions, and write the verdicts to verified.json.

    verbalizer-bench submit validate submissions/org__model/20260101-0123abcd

    Args:
        folders: A submission each.
        level: 1 files, 2 complete, 3 prompts' identity, 4 scores, 5 protocol.
        as_json: Print a JSON object a line.
    """
    from verbalizer_bench.leaderboard.submission.validate import validate

    failed = False
    for folder in folders:
        validation = validate(folder, level)
        failed = failed or validation.failed is not None
        text = json.dumps(validation.as_json(), ensure_ascii=True) if as_json else validation
        print(text, flush=True)
    return 1 if failed else 0


@submit.command()
def spot_check(
    folder: Path,
    documents: Annotated[int, Option("-k")] = 20,
    model_args: Annotated[str | None, Option("--model_args")] = None,
    device: str | None = None,
    batch_size: Annotated[str, Option("--batch_size")] = "8",
    seed: int | None = None,
    threshold: float | None = None,
    by: str | None = None,
    data: Data = None,
) -> int:
    """Run the model again on a few fresh documents, and sign what agrees.

    verbalizer-bench submit spot-check submissions/org__model/20260101-0123abcd -k 20

    Args:
        folder: A submission.
        documents: How many.
        model_args: lm-eval's (default: the submission's hub commit).
        device: lm-eval's.
        batch_size: lm-eval's.
        seed: Draw the documents of an earlier check (default: fresh ones).
        threshold: The least share of equal responses that passes (0.9; below float32 0.75).
        by: Who signs (default: the account's name).
        data: Where the rows are (default: VERBALIZER_BENCH_DATA, else hub).
    """
    from verbalizer_bench.leaderboard.submission.reading import escaped
    from verbalizer_bench.leaderboard.submission.spot_check import spot_check
    from verbalizer_bench.running.regenerate import regenerate

    checked = spot_check(
        folder,
        regenerate,
        documents,
        model_args=model_args,
        data=data,
        device=device,
        batch_size=batch_size,
        seed=seed,
        threshold=threshold,
        by=by,
    )
    print(checked)
    print(f"Wrote {escaped(folder / 'spot-check.json')}")
    return 1 if checked.faults else 0


@submit.command()
def export(
    folder: Path,
    to: Annotated[Literal["eee", "hf"], Option()],
    output: Output,
    dataset: str | None = None,
) -> None:
    """Write a submission for Every Eval Ever or the Hugging Face hub.

    verbalizer-bench submit export DIR --to eee -o data
    verbalizer-bench submit export DIR --to hf --dataset org/benchmark -o .eval_results

    Args:
        folder: A submission.
        to: Every Eval Ever, or the hub.
        output: A folder.
        dataset: Of hf: ORG/NAME of the benchmark on the hub.
    """
    from verbalizer_bench.leaderboard.submission.export import export

    print(f"Wrote {export(folder, to, output, dataset)}")


@leaderboard.command()
def build(
    submissions: Path,
    output: Output,
    trust_verified: Annotated[bool, Option("--trust-verified")] = False,
) -> int:
    """Validate submissions and make their site.

    verbalizer-bench leaderboard build submissions -o site

    Args:
        submissions: A folder of them.
        output: The site's folder.
        trust_verified: Take each verified.json as it is: only where this job has just written them.
    """
    from verbalizer_bench.leaderboard.site.build import build_site

    site = build_site(submissions, output, trusted=trust_verified)
    for file in site.files:
        print(f"Wrote {file}")
    for line in site.left_out:
        print(f"Left out: {line}", file=sys.stderr)
    return 1 if site.left_out else 0


@leaderboard.command()
def init(folder: Path, install: str | None = None) -> None:
    r"""Write a GitHub repository's workflow: validate pull requests, publish on merge.

    verbalizer-bench leaderboard init my-leaderboard \
        --install git+https://github.com/OWNER/verbalizer-bench@COMMIT

    Args:
        folder: The repository's.
        install: Where the workflow gets this package: git+https://…@COMMIT or a wheel with its
            hash.
    """
    from verbalizer_bench.leaderboard.submission.repository import init

    for file in init(folder, install):
        print(f"Wrote {file}")
