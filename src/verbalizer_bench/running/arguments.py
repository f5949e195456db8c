"""Parse the arguments of `run`, `ls` and `validate`: lm-eval's flags, ours, a `--config` file.

lm-eval turns values such as `pretrained=1200` or `pretrained=nan` into numbers. Here the values of
`_TEXTS`, which name things, stay texts.
"""

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lm_eval._cli.utils import MergeDictAction, key_val_to_dict, split_top_level, try_parse_json

from verbalizer_bench.io.yaml_reading import read_yaml

# Arguments of models that name folders, files, commits and the like.
_TEXTS = (
    *("pretrained", "model", "tokenizer", "peft", "delta", "revision", "subfolder", "image"),
    *("processor", "base_url", "gguf_file", "dtype", "device", "engine", "tokenizer_backend"),
    *("key_variable", "store"),
)
# Options that are texts in a `--config` file, and those that are numbers.
_TEXT_OPTIONS = (
    *("model", "output_path", "use_cache", "device", "system_instruction", "verbosity"),
    *("data", "shard"),
)
_NUMBER_OPTIONS = ("limit", "num_fewshot", "max_batch_size")
_JSON_EXAMPLE = '{"key": "a,b"}'
_BLOCKS = ("model_args", "metadata", "gen_kwargs")

_EXAMPLES = {
    "run": (
        "verbalizer-bench run --model verbalizer-llm --tasks verbalizer --batch_size auto \\",
        "    --model_args pretrained=DIR,dtype=bfloat16 --apply_chat_template --output_path out/a",
        "verbalizer-bench run --model verbalizer-lvlm --tasks verbalizer_sst2 --data sample \\",
        "    --model_args pretrained=DIR,image=white --limit 3 --output_path out/b",
        "verbalizer-bench run --model verbalizer-api --tasks verbalizer --apply_chat_template \\",
        "    --model_args model=NAME,base_url=http://localhost:8000/v1,image=none -o out/c",
        "verbalizer-bench run --resume out/a",
    ),
    "ls": ("verbalizer-bench ls tasks", "verbalizer-bench ls tasks --include_path my_set"),
    "validate": (
        "verbalizer-bench validate --tasks verbalizer",
        "verbalizer-bench validate --tasks verbalizer_my_set --include_path my_set",
    ),
}


def our_options(command: str, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split off our options; `--help` shows ours and then lm-eval's."""
    ours = argparse.ArgumentParser(
        f"verbalizer-bench {command}", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS
    )
    if command == "run":
        group = ours.add_argument_group("options of verbalizer-bench (all others are lm-eval's)")
        group.add_argument(
            "--data",
            metavar="hub|sample|DIR",
            help="where the rows are (default: VERBALIZER_BENCH_DATA, else hub)",
        )
        group.add_argument(
            "--resume",
            metavar="OUT",
            help="go on with the killed run in OUT, with its own arguments unless others are given",
        )
        group.add_argument(
            "--shard",
            metavar="I/N",
            help="run every N-th document only, from the I-th on; `merge` puts shards together",
        )
        group.add_argument(
            "--verbose",
            action="store_true",
            help="show lm-eval's log lines, bars and tables too; they are in OUT/run.log anyway",
        )
    known, rest = ours.parse_known_args(list(argv))
    if command == "run" and {"-h", "--help"} & set(rest):
        ours.print_help()
    return known, rest


def parse(parser: Any, command: str, argv: Sequence[str]) -> argparse.Namespace:
    """Parse with lm-eval's parser, whole option names only.

    Args:
        parser: A `lm_eval._cli.HarnessCLI`.
        command: `run`, `ls` or `validate`.
        argv: The arguments behind it, without ours.

    Raises:
        ValueError: An option is unknown or its value wrong.
    """

    def fail(message: str) -> NoReturn:
        raise ValueError(f"{command}: {message}; `verbalizer-bench {command} --help` lists all")

    known = parser._subparsers.choices[command]
    for each in (parser._parser, known):
        each.prog, each.error, each.allow_abbrev = f"verbalizer-bench {command}", fail, False
    _word(known, command)
    for action in known._actions:
        if isinstance(action, MergeDictAction):
            action.__class__ = _ModelArguments if action.dest == "model_args" else _KeyValues
    ours = ["--data", "--resume", "--shard", "--verbose"] if command == "run" else []
    if problem := unknown_option(known, argv, ours):
        fail(problem)
    # lm-eval reads the command line in places of its own.
    sys.argv = ["verbalizer-bench", command, *argv]
    args, unknown = parser._parser.parse_known_args(sys.argv[1:])
    if unknown:
        fail(f"unknown argument {unknown[0]}")
    namespace: argparse.Namespace = args
    return namespace


def unknown_option(
    parser: argparse.ArgumentParser, words: Sequence[str], others: Iterable[str] = ()
) -> str | None:
    """Describe the first word that is an option of neither the parser nor `others`, if any."""
    known = {name for action in parser._actions for name in action.option_strings}
    for word in words[: words.index("--")] if "--" in words else words:
        name = word.partition("=")[0]
        # A number may be negative, a lone dash is a name, and -oDIR is -o DIR.
        if not re.match(r"-[^\d.]", word) or " " in name or {name, word[:2]} & known:
            continue
        near = difflib.get_close_matches(name, [*known, *others], n=1)
        return f"unknown argument {word}" + (f" (did you mean {near[0]}?)" if near else "")
    return None


def _word(known: argparse.ArgumentParser, command: str) -> None:
    """Put our name and our examples into lm-eval's help text."""
    known.epilog = "\n  ".join(["examples:", *_EXAMPLES[command]])
    known.usage = f"verbalizer-bench {command} [options]"
    for action in known._actions:
        action.help = re.sub(r"\blm-eval\b(?!uation)", "verbalizer-bench", action.help or "")
        if action.type not in (None, str, int, float):
            action.type = _saying_why(action.type)


def _saying_why(convert: Any) -> Callable[[str], Any]:
    """Wrap a converter so that its error says what is wrong, instead of naming the converter."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error

    return converted


class _KeyValues(MergeDictAction):
    """lm-eval's key=value options, with errors that name the option."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            if not isinstance(try_parse_json(values[0]), dict):
                for value in values:
                    key_val_to_dict(value)
        except ValueError as error:
            raise argparse.ArgumentError(
                self, f"{error}; write values with commas or braces as JSON: {_JSON_EXAMPLE}"
            ) from error
        try:
            for value in values:
                _check_spaces(value)
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        super().__call__(parser, namespace, values, option_string)


class _ModelArguments(_KeyValues):
    """lm-eval's `--model_args`, in which names stay texts."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        arguments = getattr(namespace, self.dest) or {}
        if isinstance(try_parse_json(values[0]), dict):
            check_texts(arguments, "--model_args", "put it between quotation marks")
            return
        for value in values:
            arguments |= _texts(value, key_val_to_dict(value))


def model_arguments(text: str, option: str = "--model_args") -> dict[str, Any]:
    """Parse `key=value,key=value` as lm-eval does, except that names stay texts.

    Args:
        text: What was given.
        option: Where, for errors.

    Raises:
        ValueError: A part has no `=`, or a space stands beside a key.
    """
    try:
        arguments = key_val_to_dict(text)
        _check_spaces(text)
    except ValueError as error:
        raise ValueError(f"{option} {text}: {error}") from error
    return arguments | _texts(text, arguments)


def _check_spaces(text: str) -> None:
    """Raise ValueError for `key=value, key=value`: lm-eval takes the space into the key."""
    if isinstance(try_parse_json(text), dict):
        return
    for part in split_top_level(text):
        key = part.split("=", 1)[0]
        if key != key.strip():
            raise ValueError(f"{part!r}: leave out the space beside {key.strip()}")


def _texts(text: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the names in `text` that lm-eval parsed as something other than text."""
    raw = dict(part.split("=", 1) for part in split_top_level(text))
    return {
        key: value
        for key, value in raw.items()
        if key in _TEXTS
        and not isinstance(arguments[key], str)
        and (arguments[key] is not None or key == "pretrained")
    }


def check_texts(arguments: Mapping[str, Any], where: str, fix: str) -> None:
    """Raise ValueError for a name that JSON or YAML read as a number."""
    for key, value in arguments.items():
        if key in _TEXTS and not isinstance(value, (str, type(None))):
            raise ValueError(f"{where} {key}: {value!r} is a {type(value).__name__}; {fix}")


def merge_config(args: argparse.Namespace, ours: argparse.Namespace) -> None:
    """Add the options of lm-eval's `--config` file that no flag sets; it may contain ours too.

    lm-eval then does not see the file, since it would interpret parts of it differently.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, or an option is unknown or of the wrong type.
    """
    if not args.config:
        return
    for key, value in _read_config(Path(args.config)).items():
        if key in ("data", "shard"):
            setattr(ours, key, getattr(ours, key) or value)
        elif key == "include_path":
            paths = value if isinstance(value, list) else [value]
            args.include_path = ":".join(str(p) for p in (args.include_path, *paths) if p)
        elif getattr(args, key, None) in (None, "", [], {}):
            setattr(args, key, value)
    args.config = None


def _read_config(file: Path) -> dict[str, Any]:
    from lm_eval.config.evaluate_config import EvaluatorConfig

    where = f"--config {file}:"
    if not file.is_file():
        raise FileNotFoundError(f"{where} no such file; give a YAML file of options")
    config = read_yaml(file)
    if not isinstance(config, dict):
        raise ValueError(f"{where} options and values are expected, got {type(config).__name__}")
    known = {field.name for field in dataclasses.fields(EvaluatorConfig)} - {"config"}
    for key, value in config.items():
        if key not in known | {"data", "shard"}:
            near = difflib.get_close_matches(str(key), sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else "remove it"
            raise ValueError(f"{where} {key}={value!r}: no option of a file; {hint}")
        _check_type(where, key, value)
        if key in _BLOCKS and isinstance(value, str):
            config[key] = model_arguments(value)
        if key == "model_args":
            check_texts(config[key] or {}, f"{where} model_args", "quote it")
    return config


def _check_type(where: str, key: str, value: Any) -> None:
    """Raise ValueError if YAML did not read a value as the option's type."""
    if value is None:
        return
    kind = type(value).__name__
    if key in _TEXT_OPTIONS and not isinstance(value, str):
        raise ValueError(f"{where} {key}: {value!r}: YAML read it as {kind}; quote it")
    if key in _NUMBER_OPTIONS and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ValueError(f"{where} {key}: {value!r}: a number is needed")
    if key == "num_fewshot" and not isinstance(value, int):
        raise ValueError(f"{where} {key}: {value!r}: a whole number is needed")
    if key == "apply_chat_template" and not isinstance(value, (bool, str)):
        raise ValueError(f"{where} {key}: {value!r}: true, false or a template's name is needed")
    if key in _BLOCKS and not isinstance(value, (str, dict)):
        raise ValueError(f"{where} {key}: {value!r}: a block of keys is needed")
    if key == "tasks" and not (
        isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(name, str) for name in value))
    ):
        raise ValueError(f"{where} tasks: {value!r}: names are needed; quote them")
