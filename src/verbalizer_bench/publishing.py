"""The command line's `submit` and `leaderboard`: from a run to a row that others can check."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from verbalizer_bench.parsing import Commands, Parser, add_data_option, examples


def add_submit(commands: "Commands[Parser]") -> None:
    """Add `submit pack|validate|spot-check|export`."""
    submit = commands.add_parser("submit", help="submissions: pack, validate, spot-check, export")
    actions = submit.add_subparsers(metavar="ACTION", required=True)
    _add_pack(actions)
    validate = actions.add_parser(
        "validate",
        help="check submissions, and write what was found to verified.json",
        **examples("verbalizer-bench submit validate submissions/org__model/20260101-0123abcd"),
    )
    validate.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a submission")
    validate.add_argument(
        "--level",
        type=int,
        default=5,
        metavar="N",
        help="1 files, 2 complete, 3 prompts' identity, 4 scores, 5 protocol (default: 5)",
    )
    validate.add_argument("--json", action="store_true", help="a JSON object a line")
    validate.set_defaults(command=_validate)
    spot_check = actions.add_parser(
        "spot-check",
        help="run the model again on a few fresh documents, and sign what agrees",
        **examples(
            "verbalizer-bench submit spot-check submissions/org__model/20260101-0123abcd -k 20"
        ),
    )
    spot_check.add_argument("folder", type=Path, metavar="DIR", help="a submission")
    spot_check.add_argument("-k", type=int, default=20, metavar="K", help="documents (20)")
    spot_check.add_argument("--model_args", help="lm-eval's (default: the submission's hub commit)")
    spot_check.add_argument("--device", help="lm-eval's")
    spot_check.add_argument("--batch_size", default="8", help="lm-eval's (8)")
    spot_check.add_argument(
        "--seed", type=int, help="draw the documents of an earlier check (default: fresh ones)"
    )
    spot_check.add_argument(
        "--threshold",
        type=float,
        metavar="SHARE",
        help="the least share of equal responses that passes (0.9; below float32 0.75)",
    )
    spot_check.add_argument("--by", metavar="NAME", help="who signs (default: the account's name)")
    add_data_option(spot_check)
    spot_check.set_defaults(command=_spot_check)
    export = actions.add_parser(
        "export",
        help="write a submission for Every Eval Ever or the Hugging Face hub",
        **examples(
            "verbalizer-bench submit export DIR --to eee -o data",
            "verbalizer-bench submit export DIR --to hf --dataset org/benchmark -o .eval_results",
        ),
    )
    export.add_argument("folder", type=Path, metavar="DIR", help="a submission")
    export.add_argument("--to", required=True, choices=("eee", "hf"))
    export.add_argument("--dataset", metavar="ORG/NAME", help="of hf: the benchmark on the hub")
    export.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    export.set_defaults(command=_export)


def _add_pack(actions: "Commands[Parser]") -> None:
    pack = actions.add_parser(
        "pack",
        help="make a submission of a run",
        **examples(
            "verbalizer-bench submit pack out/llama --submitter 'A. Name' --licence CC-BY-4.0 \\",
            "    --model-id org/llama --revision 0123456789abcdef0123456789abcdef01234567 \\",
            "    -o submissions",
        ),
    )
    pack.add_argument("run", type=Path, metavar="RUN", help="an --output_path of a whole run")
    pack.add_argument("--submitter", required=True, metavar="NAME")
    pack.add_argument("--licence", required=True, help="of the responses")
    pack.add_argument("--model-id", metavar="ORG/NAME", help="default: the run's model")
    pack.add_argument("--revision", metavar="COMMIT", help="the model's hub commit (40 digits)")
    pack.add_argument("--weights-sha256", metavar="HASH", help="where there is no commit")
    pack.add_argument("--kind", choices=("llm", "lvlm"), help="default: the adapter's")
    pack.add_argument("--base", metavar="ORG/NAME", help="what the model was tuned from")
    pack.add_argument(
        "--base-weights",
        metavar="HASH|DIR",
        help="of the base: its run's hash, or its folder (default: as our training recorded it)",
    )
    pack.add_argument("--recipe", help="how it was tuned")
    pack.add_argument("--link", action="append", default=[], metavar="URL", help="paper, code")
    pack.add_argument("--notes", default="", help="what a reader should know")
    pack.add_argument("-o", "--output", type=Path, default=Path("submissions"), metavar="DIR")
    pack.set_defaults(command=_pack)


def add_leaderboard(commands: "Commands[Parser]") -> None:
    """Add `leaderboard build|init`."""
    leaderboard = commands.add_parser("leaderboard", help="the static site of submissions")
    actions = leaderboard.add_subparsers(metavar="ACTION", required=True)
    build = actions.add_parser(
        "build",
        help="validate submissions and make their site",
        **examples("verbalizer-bench leaderboard build submissions -o site"),
    )
    build.add_argument("submissions", type=Path, metavar="SUBMISSIONS")
    build.add_argument("-o", "--output", required=True, type=Path, metavar="SITE")
    build.add_argument(
        "--trust-verified",
        action="store_true",
        help="take each verified.json as it is: only where this job has just written them",
    )
    build.set_defaults(command=_build)
    init = actions.add_parser(
        "init",
        help="write a GitHub repository's workflow: validate pull requests, publish on merge",
        **examples(
            "verbalizer-bench leaderboard init my-leaderboard \\",
            "    --install git+https://github.com/OWNER/verbalizer-bench@COMMIT",
        ),
    )
    init.add_argument("folder", type=Path, metavar="DIR")
    init.add_argument(
        "--install",
        metavar="URL",
        help="where the workflow gets this package: git+https://…@COMMIT or a wheel with its hash",
    )
    init.set_defaults(command=_init)


def _pack(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.submission.pack import pack
    from verbalizer_bench.leaderboard.submission.validate import validate

    folder = pack(
        args.run,
        args.output,
        submitter=args.submitter,
        licence=args.licence,
        links=args.link,
        notes=args.notes,
        model_id=args.model_id,
        revision=args.revision,
        weights_sha256=args.weights_sha256,
        kind=args.kind,
        base=args.base,
        base_weights=args.base_weights,
        recipe=args.recipe,
    )
    print(f"Wrote {folder}")
    print("It is public once you publish it: results.json holds the run's model_args as they were.")
    found = validate(folder, write=False)
    print(found)
    if found.failed:
        shutil.rmtree(folder)
        print(f"Removed {folder}")
        return 1
    return 0


def _validate(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.submission.validate import validate

    failed = False
    for folder in args.folders:
        found = validate(folder, args.level)
        failed = failed or found.failed is not None
        print(json.dumps(found.as_json(), ensure_ascii=True) if args.json else found, flush=True)
    return 1 if failed else 0


def _spot_check(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.submission.reading import escaped
    from verbalizer_bench.leaderboard.submission.spot_check import spot_check
    from verbalizer_bench.running.regenerate import regenerate

    found = spot_check(
        args.folder,
        regenerate,
        args.k,
        model_args=args.model_args,
        data=args.data,
        device=args.device,
        batch_size=args.batch_size,
        seed=args.seed,
        threshold=args.threshold,
        by=args.by,
    )
    print(found)
    print(f"Wrote {escaped(args.folder / 'spot-check.json')}")
    return 1 if found.faults else 0


def _export(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.submission.export import export

    print(f"Wrote {export(args.folder, args.to, args.output, args.dataset)}")
    return 0


def _build(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.site.build import build_site

    site = build_site(args.submissions, args.output, trusted=args.trust_verified)
    for file in site.files:
        print(f"Wrote {file}")
    for line in site.left_out:
        print(f"Left out: {line}", file=sys.stderr)
    return 1 if site.left_out else 0


def _init(args: argparse.Namespace) -> int:
    from verbalizer_bench.leaderboard.submission.repository import init

    for file in init(args.folder, args.install):
        print(f"Wrote {file}")
    return 0
