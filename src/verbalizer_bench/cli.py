"""The command line: reads arguments and calls what does the work."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from verbalizer_bench import __version__
from verbalizer_bench.errors import Interrupted, failed, interrupted, terminations
from verbalizer_bench.parsing import Commands, Parser, add_data_option, examples
from verbalizer_bench.publishing import add_leaderboard, add_submit
from verbalizer_bench.running.kept import of_build, of_training
from verbalizer_bench.task_commands import add_data, add_tasks

if TYPE_CHECKING:
    from verbalizer_bench.leaderboard.reports.compare import Comparison
    from verbalizer_bench.leaderboard.reports.report import Report

HARNESS = {
    "run": "evaluate a model (lm-eval's run and flags, our tasks, models and data)",
    "ls": "list tasks, groups and tags (lm-eval's)",
    "validate": "check that task names exist (lm-eval's)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code.

    A mistake is one line and code 2, Ctrl-C one line and 130; what nobody expected is one line too,
    and code 1.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with terminations():
            code = _run(arguments)
        _leave_process_group()
        return code
    except BrokenPipeError:
        # The reader, such as `head`, has enough; Python would say so again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        return interrupted(error)
    # Whatever it is, a user gets a line.
    except Exception as error:
        return failed(error)


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] and arguments[0] in HARNESS:
        return _harness(arguments[0], arguments[1:])
    args = _parsed(arguments)
    args.words = arguments
    command: Callable[[argparse.Namespace], int] = args.command
    return command(args)


def _leave_process_group() -> None:
    """End torchrun's process group: a thread of it that outlives the interpreter would abort it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command; argparse by itself takes no key=value behind an option."""
    parser = _parser()
    args, others = parser.parse_known_args(arguments)
    if wrong := [word for word in others if word.startswith("-") or "=" not in word]:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    if others and not hasattr(args, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if others:
        args.overrides += others
    return args


def _parser() -> Parser:
    parser = Parser(
        "verbalizer-bench",
        description="Does tuning hurt a model's ability to follow instructions?",
        **examples(
            "verbalizer-bench run --model verbalizer-llm --model_args pretrained=DIR \\",
            "    --tasks verbalizer --data sample --output_path out",
            "verbalizer-bench run --help",
        ),
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in HARNESS.items():
        commands.add_parser(name, help=text, add_help=False)
    report = commands.add_parser(
        "report",
        help="table and figure of runs",
        **examples("verbalizer-bench report out/llama out/llava-white -o comparison"),
    )
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="an --output_path")
    report.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="default: `report` in the first RUN"
    )
    report.set_defaults(command=_report)
    compare = commands.add_parser(
        "compare",
        help="paired differences of runs: did tuning hurt?",
        **examples(
            "verbalizer-bench compare out/llama out/llava-white out/llava-none -o comparison",
            "verbalizer-bench compare out/llava-white out/llava-noise --allow image",
        ),
    )
    compare.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="an --output_path; the first is the base"
    )
    compare.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="default: `compare` in the first RUN"
    )
    compare.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="image|template|engine",
        help="a difference to let through, named in the answer; more than one: repeat it, or a "
        "list with commas",
    )
    compare.set_defaults(command=_compare)
    merge = commands.add_parser(
        "merge",
        help="put the shards of a run together",
        **examples("verbalizer-bench merge out/1 out/2 -o out/all"),
    )
    merge.add_argument("shards", nargs="+", type=Path, metavar="OUT", help="an --output_path")
    merge.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    merge.set_defaults(command=_merge)
    demo = commands.add_parser(
        "demo", help="the paper in miniature: train, score, publish, offline"
    )
    demo.add_argument("-o", "--output", type=Path, default=Path("demo_out"), metavar="DIR")
    demo.set_defaults(command=_demo)
    add_submit(commands)
    add_leaderboard(commands)
    _add_checkpoints(commands)
    add_tasks(commands)
    add_data(commands)
    return parser


def _add_checkpoints(commands: "Commands[Parser]") -> None:
    compose = commands.add_parser(
        "compose",
        help="make a LLaVA of a vision tower and a language model",
        **examples(
            "verbalizer-bench compose --vision-tower openai/clip-vit-large-patch14 \\",
            "    --llm lmsys/vicuna-7b-v1.5 --connector mlp2x_gelu --format vicuna-v1 -o llava",
        ),
    )
    for name in ("vision-tower", "llm"):
        compose.add_argument(f"--{name}", required=True, metavar="DIR", help="a folder or hub id")
    compose.add_argument("--connector", required=True, metavar="linear|mlp2x_gelu")
    compose.add_argument(
        "--format",
        metavar="NAME",
        help="conversation format of its chat template: llama-2 or vicuna-v1 (default: the llm's)",
    )
    compose.add_argument("--seed", type=int, default=0, help="of the connector's weights")
    compose.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    compose.set_defaults(command=_compose)
    extract = commands.add_parser(
        "extract-llm",
        help="write a LLaVA's language model as a text model",
        **examples("verbalizer-bench extract-llm llava -o llm"),
    )
    extract.add_argument("checkpoint", metavar="DIR", help="a LLaVA's folder or hub id")
    extract.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    extract.set_defaults(command=_extract_llm)
    _add_recipe_command(
        commands,
        "train",
        _train,
        "make a recipe's checkpoint",
        "say what it would do, and touch no weights",
        "verbalizer-bench train recipes/tiny/sft.yaml",
        "verbalizer-bench train paper/llm_foit seed=1 output=checkpoints/foit-1 --dry-run",
    )
    build = _add_recipe_command(
        commands,
        "build",
        _build,
        "make a recipe's data set",
        "say how many calls it would make and what they would cost, and make none",
        "verbalizer-bench build recipes/data/format_oriented.yaml --dry-run",
        "verbalizer-bench build data/format_oriented --limit 20 output=data/trial",
    )
    build.add_argument("--limit", type=int, metavar="N", help="images, or records, to begin with")
    add_data_option(build)


def _add_recipe_command(
    commands: "Commands[Parser]",
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
    dry_run: str,
    *lines: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, **examples(*lines))
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a shipped one's name")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="replace the recipe's"
    )
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    parser.set_defaults(command=command)
    return parser


def _harness(command: str, argv: Sequence[str]) -> int:
    from verbalizer_bench.running.harness import harness

    folders = harness(command, argv)
    return _summary(folders) if folders else 0


def _summary(folders: Sequence[Path]) -> int:
    from verbalizer_bench.leaderboard.reports.report import write_report
    from verbalizer_bench.results.run import NotAVerbalizerRun, read_run

    try:
        runs = [read_run(folder) for folder in folders]
    except NotAVerbalizerRun as error:
        print(f"No summary: {error}")
        return 0
    _print_report(write_report(runs, folders[0] / "report"))
    return 0


def _report(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.reports.report import write_report
    from verbalizer_bench.results.run import find_runs

    _print_report(write_report(find_runs(args.runs), args.output or args.runs[0] / "report"))
    return 0


def _compare(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.reports.compare import compare
    from verbalizer_bench.results.contrast import parse_allowed
    from verbalizer_bench.results.run import find_runs

    allowed = parse_allowed(args.allow)
    folder = args.output or args.runs[0] / "compare"
    _print_report(compare(find_runs(args.runs), folder, allowed=allowed))
    return 0


def _print_report(report: "Report | Comparison") -> None:
    print(f"\n{report.markdown}\n")
    for file in report.files:
        print(f"Wrote {file}")


def _merge(args: argparse.Namespace) -> int:
    from verbalizer_bench.running.merge import merge

    return _summary([merge(args.shards, args.output)])


def _demo(args: argparse.Namespace) -> int:
    from verbalizer_bench.experiments.miniature.demo import demo

    demo(args.output)
    return 0


def _compose(args: argparse.Namespace) -> int:
    from transformers import AutoTokenizer

    from verbalizer_bench.models.checkpoints.compose import compose
    from verbalizer_bench.models.checkpoints.strict_loading import reading
    from verbalizer_bench.trainers.conversations.formats import chat_template

    template = None
    if args.format:
        with reading(f"llm={args.llm}"):
            tokenizer = AutoTokenizer.from_pretrained(args.llm)
        template = chat_template(args.format, tokenizer)
    folder = compose(
        args.vision_tower,
        args.llm,
        args.connector,
        args.output,
        chat_template=template,
        seed=args.seed,
    )
    print(f"Wrote {folder}; its connector is untrained: `verbalizer-bench train` trains it")
    return 0


def _extract_llm(args: argparse.Namespace) -> int:
    from verbalizer_bench.models.checkpoints.compose import extract_llm

    print(f"Wrote {extract_llm(args.checkpoint, args.output)}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from verbalizer_bench.trainers.recipe import read_recipe

    recipe = read_recipe(args.recipe, args.overrides)
    if args.dry_run:
        from verbalizer_bench.trainers.dry_run import dry_run

        print(dry_run(recipe, colour=sys.stdout.isatty()))
        return 0
    from verbalizer_bench.trainers.train import train

    try:
        folder = train(recipe)
    except KeyboardInterrupt as error:
        raise Interrupted(of_training(recipe, args.words)) from error
    if os.environ.get("RANK", "0") == "0":
        print(f"Wrote {folder}; {folder / 'README.md'} has the command that scores it")
    return 0


def _build(args: argparse.Namespace) -> int:
    from verbalizer_bench.builders.build import build, dry_run
    from verbalizer_bench.builders.pipeline.recipe import read_recipe
    from verbalizer_bench.tasks.data import check_data

    if args.data:
        check_data(args.data)
    options = {"limit": args.limit, "leakage.data": args.data}
    overrides = [f"{key}={value}" for key, value in options.items() if value is not None]
    recipe = read_recipe(args.recipe, [*args.overrides, *overrides])
    if args.dry_run:
        print(dry_run(recipe))
        return 0
    try:
        built = build(recipe)
    except KeyboardInterrupt as error:
        raise Interrupted(of_build(recipe, args.words)) from error
    print(built)
    for file in built.files:
        print(f"Wrote {file}")
    return 0
