"""The package from Python: what the command line does, as functions that return what they made.

    import verbalizer_bench as vb

    base = vb.evaluate(model="verbalizer-llm", model_args={"pretrained": "DIR"}, output="out/base")
    print(vb.report(base))

A mistake is a `ValueError` or `OSError` whose text is the line that the command line prints. Ctrl-C
is a `KeyboardInterrupt` whose text says what is kept and how to go on.
"""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from verbalizer_bench.builders.build import Built
    from verbalizer_bench.explaining.explanation import Explanation
    from verbalizer_bench.leaderboard.reports.comparison import Comparison
    from verbalizer_bench.leaderboard.reports.picture_comparison import PictureComparison
    from verbalizer_bench.leaderboard.reports.report import Report
    from verbalizer_bench.results.run import Run


@dataclass(frozen=True)
class CheckedData:
    """What `validate_data` has found.

    Attributes:
        metrics: Counts, lengths, sizes and the worst records, as `validate-data --json` prints.
        stops: Why training would stop; empty where it would not.
    """

    metrics: Mapping[str, Any]
    stops: tuple[str, ...]

    def __str__(self) -> str:
        from verbalizer_bench.trainers.validation_report import text

        return text(self.metrics)


@dataclass(frozen=True)
class TrainedCheckpoint:
    """A checkpoint that `train` has made.

    Attributes:
        path: Its folder, which loads in transformers, lm-eval and lmms-eval.
    """

    path: Path

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Return `training.json`: steps, losses, held-out loss, seconds, versions, hashes."""
        record: Mapping[str, Any] = json.loads((self.path / "training.json").read_text("utf-8"))
        return record

    def to_frame(self) -> "pandas.DataFrame":
        """Return the losses by step."""
        import pandas

        return pandas.read_csv(self.path / "losses.csv")

    def __str__(self) -> str:
        loss, held_out = self.metrics["loss"], self.metrics["held_out"]
        text = f"{self.path}: {self.metrics['steps']:,} steps in {self.metrics['seconds']:,} s"
        text += f", loss {loss['first']:.4f} to {loss['last']:.4f}" if loss else ""
        return text + (f", held out {held_out['loss']:.4f}" if held_out else "")


def evaluate(
    model: str,
    model_args: Mapping[str, Any] | str,
    *,
    output: str | Path,
    tasks: str | Sequence[str] = "verbalizer",
    data: str | Path | None = None,
    **options: Any,
) -> "Run":
    """Run a model on the tasks, as `verbalizer-bench run` does; its report is `report(run)`.

    Example:
        ```python
        run = evaluate(
            model="verbalizer-lvlm",
            model_args={"pretrained": "llava-hf/llava-1.5-7b-hf", "image": "white"},
            output="out/llava-white",
            apply_chat_template=True,
            batch_size="auto",
        )
        ```

    Args:
        model: `verbalizer-llm`, `verbalizer-lvlm`, `verbalizer-api` or a model class of lm-eval.
        model_args: Its arguments: `pretrained` (of a served model `model`), `dtype`, `image`, …
        output: The folder for the journal and the run; one for each run.
        tasks: The suite, or names, tags and globs.
        data: Where the rows are: `hub`, `sample` or a folder; None for `VERBALIZER_BENCH_DATA`.
        options: All others of `verbalizer-bench run`, ours and lm-eval's: `limit=3`,
            `gen_kwargs={"num_beams": 1}`, `apply_chat_template=True`, `resume="out/llava-white"`.

    Returns:
        The run; without tasks where benchmarks with images of their own (MMVP) alone were asked,
        whose scores `report` reads from its folder.

    Raises:
        ValueError: An option, a checkpoint or the rows are wrong, or no score was made.
        OSError: A folder is not there, or cannot be written.
        KeyboardInterrupt: It was interrupted; the text says how many responses are kept.
    """
    from verbalizer_bench.results.picture_scores import read_any_run
    from verbalizer_bench.running.harness import harness

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("evaluate: several processes; start them with verbalizer-bench run")
    unscored = ValueError("evaluate: predict_only scores nothing; leave it out")
    if options.get("predict_only"):
        raise unscored
    named = {"model": model, "model_args": model_args, "tasks": tasks, "data": data}
    words = [word for key, value in (named | options).items() for word in _words(key, value)]
    with _kept_arguments():
        folders = harness("run", [*words, "--output_path", str(output)])
    if not folders:
        raise unscored
    return read_any_run(folders[0])


def load_run(path: str | Path) -> "Run":
    """Read the one run at or below a path, which `evaluate` or `verbalizer-bench run` has made.

    Example:
        ```python
        load_run("out/llama").name
        ```

    Raises:
        FileNotFoundError: There is none.
        ValueError: There are several, or a file is not what lm-eval writes.
    """
    from verbalizer_bench.results.picture_runs import picture_runs
    from verbalizer_bench.results.run import NotAVerbalizerRun, load_run

    try:
        return load_run(path)
    except NotAVerbalizerRun:
        runs = [scores[0].run for scores in picture_runs(path) if scores]
        if not runs:
            raise
        if len(runs) > 1:
            files = ", ".join(str(run.file) for run in runs[:4])
            raise ValueError(
                f"{path}: holds {len(runs)} runs ({files}); give one of them"
            ) from None
        return runs[0]


def report(*runs: "Run | str | Path", evaluation: str | Path = "evaluation/llava15") -> "Report":
    """Summarise runs and benchmarks; `verbalizer-bench report` prints it, and writes its files.

    Example:
        ```python
        report("out/llama", "out/llava-white").write("report")
        ```

    Args:
        runs: Runs, or paths that hold some, or what `judge` or lmms-eval wrote.
        evaluation: The recipe that says which of lmms-eval's tasks are which benchmarks.

    Raises:
        FileNotFoundError: A path holds none.
        ValueError: A run's tasks do not share documents or arguments, or a checkpoint has two
            results of a benchmark.
    """
    from verbalizer_bench.leaderboard.reports.gathering import report_of

    return report_of(runs, evaluation)


def compare(
    base: "Run | str | Path",
    *others: "Run | str | Path",
    allow: Collection[str] = (),
    repaired: "Sequence[Run | str | Path] | Run | str | Path" = (),
) -> "Comparison | PictureComparison":
    """Compare runs with a base over the same documents, as `verbalizer-bench compare` does.

    Runs without a verbalizer task are compared over MMVP's pairs; runs with both over both.

    Example:
        ```python
        print(compare("out/llama", "out/llava-white", "out/llava-none"))
        print(compare("out/llama", "out/llava-white", repaired="out/llava-dpo"))
        ```

    Args:
        base: What the others are compared with.
        others: Runs, or paths that hold some.
        allow: Differences to let through, which the answer names: `image`, `template`, `engine`.
        repaired: Runs of what should have repaired the tuned run, the only other one then.

    Raises:
        FileNotFoundError: A path holds no run.
        ValueError: The runs differ in protocol, tasks, documents or raw prompts; or with `repaired`
            there is not one tuned run, or a run is there twice.
    """
    from verbalizer_bench.leaderboard.reports.comparison import compare
    from verbalizer_bench.leaderboard.reports.picture_comparison import compare_pictures
    from verbalizer_bench.results.contrast import parse_allowed
    from verbalizer_bench.results.run import NotAVerbalizerRun, find_runs

    allowed = parse_allowed([allow] if isinstance(allow, str) else list(allow))
    remedies = [repaired] if isinstance(repaired, str) else repaired
    remedies = remedies if isinstance(remedies, Sequence) else [remedies]
    pictures = compare_pictures((base, *others, *remedies), allowed)
    try:
        given, back = find_runs((base, *others)), find_runs(remedies)
    except NotAVerbalizerRun:
        if pictures is None:
            raise
        return pictures
    # Names are told apart over all of them.
    named = {run.folder: run for run in find_runs((*given, *back))}
    given, back = ([named[run.folder] for run in runs] for runs in (given, back))
    return compare(*given, allowed=allowed, repaired=back, pictures=pictures)


def explain(
    run: "Run | str | Path",
    task: str | None = None,
    doc: int | None = None,
    *,
    again: bool = False,
    model_args: Mapping[str, Any] | None = None,
    device: str | None = None,
    data: str | None = None,
) -> "Explanation":
    """Look at one answer of a run, as `verbalizer-bench explain` does.

    Example:
        ```python
        print(explain("out/llama", "verbalizer_sst2_neutral_foo_bar", 3, again=True))
        ```

    Args:
        run: A run, or a path that holds one.
        task: The task; None for the one that the run has, or, without a document, for the worst.
        doc: The document's number; None for the first of the worst outcome.
        again: Whether the model is loaded and asked the same again, which shows its beams.
        model_args: Arguments of the model in place of the run's, such as `pretrained`.
        device: Where the model goes; None: a GPU where there is one.
        data: Where the images of a task that brings some are; None: where the run found them.

    Raises:
        ValueError: The run has no such task or document, or the model cannot be asked.
        OSError: The run is not there; with `again` the checkpoint.
    """
    from verbalizer_bench.explaining.explain import explain

    return explain(run, task, doc, again=again, model=model_args, device=device, data=data)


def ask(
    prompt: str, model: str, model_args: Mapping[str, Any] | str, **options: Any
) -> "Explanation":
    """Ask a model a prompt of one's own, as `verbalizer-bench ask` does.

    Example:
        ```python
        print(ask("Say yes or no.", "verbalizer-llm", {"pretrained": "DIR"}, labels=["yes", "no"]))
        ```

    Args:
        prompt: The prompt; `<image>` in it says where images stand, else they stand in front.
        model: `verbalizer-llm`, `verbalizer-lvlm`, `verbalizer-api` or a model class of lm-eval.
        model_args: Its arguments.
        options: `images`, `apply_chat_template`, `system_instruction`, `labels`, `expect`,
            `gen_kwargs`, `device`.

    Raises:
        ValueError: An option is wrong, or the model cannot be asked.
        OSError: The checkpoint or an image is not there.
    """
    from verbalizer_bench.explaining.explain import ask
    from verbalizer_bench.running.arguments import model_arguments

    given = model_arguments(model_args) if isinstance(model_args, str) else model_args
    return ask(prompt, model, given, **options)


def validate_data(recipe: str | Path, *overrides: str, **values: Any) -> CheckedData:
    """Check every record of a recipe's data, as `verbalizer-bench validate-data` does.

    Args:
        recipe: A YAML file, the name of a shipped recipe, or a file of records.
        overrides: What replaces its keys, as on the command line; further files of records.
        values: The same as Python's values.

    Raises:
        OSError: The recipe, the tokenizer, data or images are not there.
        ValueError: A key is wrong, or a file cannot be read as records.
    """
    from verbalizer_bench.trainers.validation import validate, validation_recipe

    found = validate(validation_recipe(str(recipe), [*overrides, *_overrides(values)]))
    return CheckedData(found.record, tuple(found.stops))


def train(recipe: str | Path, *overrides: str, **values: Any) -> TrainedCheckpoint:
    """Make a recipe's checkpoint, as `verbalizer-bench train` does.

    Example:
        ```python
        print(train("tiny/sft", seed=1, lora={"r": 8, "alpha": 16}, output="checkpoints/mine"))
        ```

    Args:
        recipe: A YAML file, or the name of a shipped recipe.
        overrides: What replaces its keys, as on the command line: `lora.r=64`.
        values: The same as Python's values.

    Raises:
        FileNotFoundError: The recipe, data or model are not there.
        ValueError: A key or a record is wrong, or the output folder holds something else.
        KeyboardInterrupt: It was interrupted; the text says which state is kept.
    """
    from verbalizer_bench.errors import Interrupted
    from verbalizer_bench.running.resume_hints import training_hint
    from verbalizer_bench.trainers.recipe import read_recipe

    words = [*overrides, *_overrides(values)]
    checked = read_recipe(recipe, words)
    # Not before: it imports models, of which transformers warns, and a mistake is one line.
    from verbalizer_bench.trainers.train import train

    try:
        return TrainedCheckpoint(train(checked))
    except KeyboardInterrupt as error:
        raise Interrupted(training_hint(checked, ["train", str(recipe), *words])) from error


def build_data(recipe: str | Path, *overrides: str, **values: Any) -> "Built":
    """Make a recipe's data set, or go on with it, as `verbalizer-bench build` does.

    Example:
        ```python
        print(build_data("data/format_oriented", limit=20, output="data/trial"))
        ```

    Args:
        recipe: A YAML file, or the name of a shipped recipe.
        overrides: What replaces its keys, as on the command line: `endpoints.default.model=NAME`.
        values: The same as Python's values.

    Raises:
        FileNotFoundError: The recipe or a file of it is not there.
        ValueError: A setting is wrong, the budget is spent, calls failed, or nothing was accepted.
        KeyboardInterrupt: It was interrupted; the text says how many responses are stored.
    """
    from verbalizer_bench.builders.build import build
    from verbalizer_bench.builders.pipeline.recipe import read_recipe
    from verbalizer_bench.errors import Interrupted
    from verbalizer_bench.running.resume_hints import build_hint

    words = [*overrides, *_overrides(values)]
    checked = read_recipe(recipe, words)
    try:
        return build(checked)
    except KeyboardInterrupt as error:
        raise Interrupted(build_hint(checked, ["build", str(recipe), *words])) from error


def _words(option: str, value: Any) -> list[str]:
    """Return an option of the command line; none for None and False."""
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{option}"]
    if isinstance(value, Mapping):
        value = json.dumps(value, default=str)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        # lm-eval has colons between folders, and commas between everything else.
        value = (":" if option == "include_path" else ",").join(map(str, value))
    text = str(value)
    # As a word of its own it would be an option.
    return [f"--{option}={text}"] if text.startswith("-") else [f"--{option}", text]


def _overrides(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield `key=value`, the value as JSON, which YAML reads; blocks key by key."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _overrides(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value, ensure_ascii=False, default=str)}"


@contextmanager
def _kept_arguments() -> Iterator[None]:
    """Give `sys.argv` back: lm-eval reads it, so that a run writes its own words there."""
    words = sys.argv
    try:
        yield
    finally:
        sys.argv = words
