"""Load a checkpoint only if what is loaded is what its folder holds: no weight made up or left out.

transformers fills weights that a checkpoint lacks with random numbers, drops what it does not know,
and says so in a table that a run's log buries. Here every load asks for that table and refuses.
"""

import logging
import pickle
import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import GenerationConfig
from transformers.utils import cached_file

# Whoever loads a checkpoint here can load one of two towers: transformers learns of it.
import verbalizer_bench.models.mof  # noqa: F401
from verbalizer_bench.models.checkpoints.load_log import true_lines_only

# What a checkpoint may hold without the model's using it, beside the lists that transformers'
# classes have: tables that old versions stored and new ones compute (rotations, and the masks of
# GPT-J and its kin), the value head of reinforcement learning, and heads that only guess several
# tokens at once.
UNUSED_KEYS = re.compile(
    r"(^|\.)(inv_freq|cos_cached|sin_cached|masked_bias|causal_mask|position_ids)$"
    r"|(^|\.)attn\.(attention\.)?bias$|^v_head\.|(^|\.)mtp(_\w+)?\."
)
# A language model may be read from a checkpoint that sees or hears besides.
OTHER_MODALITIES = re.compile(r"(^|[._])(vision|visual|audio|image|multi_?modal|mm|speech)")
_WRAPPERS = ("_orig_mod.", "module.", "base_model.model.")
_FIX = "give a folder that save_pretrained wrote, or a hub id"
_UNREADABLE = (
    *(OSError, ValueError, RuntimeError, KeyError, EOFError, SyntaxError),
    *(SafetensorError, StrictDataclassError, pickle.UnpicklingError),
)
_SAVE_AGAIN = "copy or save the checkpoint again, or give one of that class"
# What an error of the hub means where a name is no folder.
_HUB_SAYS = {
    r"couldn't connect|cached snapshot|outgoing traffic|offline": (
        "it cannot be reached (or HF_HUB_OFFLINE is set), and the cache lacks it"
    ),
    r"valid model identifier|Repository Not Found|Repo id must": (
        "it has none of that name that is open to you"
    ),
}
_HUB_OPTIONS = ("revision", "subfolder", "cache_dir", "token", "local_files_only")
_COLOUR_CODE = re.compile(r"\x1b\[\d*m")


def load_whole(
    auto_class: Any,
    name: str,
    what: str,
    *,
    unused: str | None = None,
    part: bool = False,
    **kwargs: Any,
) -> Any:
    """Load a model, all of it.

    Args:
        auto_class: A model class of transformers, or an auto class.
        name: A folder or a hub id.
        what: The argument that named it, with its value: `model_args pretrained=DIR`.
        unused: Pattern of weights that the caller does not use and that may be missing.
        part: Whether the checkpoint may hold more than the model, as a CLIP of whose halves one is
            loaded.
        kwargs: Other arguments of `from_pretrained`.

    Returns:
        The model.

    Raises:
        ValueError: It cannot be read; weights are missing, of another shape, or none of the
            model's; or the folder holds an adapter.
    """
    _check_files(name, what, kwargs)
    # So that all weights of another shape are in the report, instead of an error that names none.
    kwargs["ignore_mismatched_sizes"] = True
    with _quiet_report(what), true_lines_only(kwargs) as log_true_lines, reading(what):
        loaded = auto_class.from_pretrained(name, output_loading_info=True, **kwargs)
    if not isinstance(loaded, tuple):
        raise ValueError(
            f"{what}: its own code does not say which weights it found (output_loading_info); "
            "load it with --model hf"
        )
    model, report = loaded
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(f"{what}: holds an adapter; give its base there, and peft={name}")
    _check_report(model, report, what, unused, part)
    log_true_lines(model)
    _untie_config(model)
    return model


@contextmanager
def reading(what: str, fix: str = _FIX) -> Iterator[None]:
    """Turn an error while something is read into one line that names it.

    Raises:
        ValueError: With `what`, the reason and the fix.
    """
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{what}: a package is missing: {_missing_package(error)}") from error
    except (TypeError, AttributeError) as error:
        # Of an argument that is not known the caller says more.
        if "keyword argument" in str(error):
            raise
        reason = f"a value of another kind is expected: {one_line(error)}"
        raise ValueError(f"{what}: cannot be read: {reason}; {fix}") from error
    except Exception as error:
        # The tokenizers library has no type of its own for a file that it cannot read.
        if not isinstance(error, _UNREADABLE) and type(error) is not Exception:
            raise
        if "trust_remote_code" in str(error):
            fix = "give trust_remote_code=True if you trust the code in it"
        reason = _not_found(what, error) or one_line(error)
        raise ValueError(f"{what}: cannot be read: {reason}; {fix}") from error


def _not_found(what: str, error: Exception) -> str | None:
    """Return that no such folder or nothing to load is in it; None for another error."""
    named = Path(re.split(r"[ =]", what.partition(": ")[0])[-1])
    if named.is_dir() and "model_type" in str(error) and not (named / "config.json").exists():
        return "the folder has no config.json"
    if named.exists():
        return None
    for pattern, said in _HUB_SAYS.items():
        if re.search(pattern, str(error)):
            return f"no such folder here, and the hub was asked for it: {said}"
    return None


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Leave no half of a checkpoint where a disk refuses it.

    Raises:
        ValueError: It does, with `output` and the reason.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(output, ignore_errors=True)
        raise ValueError(
            f"output={output}: cannot be written: {one_line(error)}; make room, or give another "
            "place"
        ) from error


def _missing_package(error: ImportError) -> str:
    """Return which package is missing, as far as the error says it, and what to install."""
    named = re.search(r"(\w+) requires the (\w+) library", str(error))
    if not named:
        return one_line(error)
    package = named[2].lower()
    # Its binaries fit one release of torch.
    release = (
        f", of the release for torch {torch.__version__} (https://pytorch.org/get-started)"
        if package == "torchvision"
        else ""
    )
    return f"{named[1]} needs {package}: pip install {package}{release}"


def one_line(error: Exception) -> str:
    """Return an error's text in one line, without its end if it is long."""
    return textwrap.shorten(str(error), 200, placeholder=" …") or type(error).__name__


def raise_for_weights(what: str, faults: Mapping[str, Collection[str]], fix: str) -> None:
    """Raise ValueError if there are faulty weights: their number and one of each kind.

    Args:
        what: The argument that named the checkpoint, with its value.
        faults: What is wrong with weights, as it stands behind their number, and their names.
        fix: What to do.
    """
    counted = [f"{len(names)} {kind} {min(names)}" for kind, names in faults.items() if names]
    if counted:
        raise ValueError(f"{what}: {', and '.join(counted)}; {fix}")


def check_no_adapter(name: str, what: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError where a folder holds an adapter: alone, it has no config.json to read."""
    folder = Path(name, options.get("subfolder") or "")
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{what}: is an adapter; give its base there, and peft={folder}")


def _check_files(name: str, what: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for what transformers would pass over without a word."""
    check_no_adapter(name, what, options)
    path = cached_file(
        name,
        "generation_config.json",
        **{key: options[key] for key in _HUB_OPTIONS if options.get(key)},
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is not None:
        with reading(f"{what}: generation_config.json", "correct the file"):
            GenerationConfig.from_pretrained(Path(path).parent)


@contextmanager
def _quiet_report(what: str) -> Iterator[None]:
    """Keep transformers' table of weights out of the log: `_check_report` says it in a line.

    Raises:
        ValueError: The load failed over weights that are made of several in the file (the experts
            of a layer), which the table alone names.
    """
    log = logging.getLogger("transformers.modeling_utils")
    level, wanted = log.level, log.getEffectiveLevel()
    torn: list[str] = []

    def passes(record: logging.LogRecord) -> bool:
        table = str(record.msg)
        if "LOAD REPORT" not in table:
            return record.levelno >= wanted
        torn.extend(re.findall(r"^(\S.*?) *\|.*\bCONVERSION\b", _COLOUR_CODE.sub("", table), re.M))
        return False

    log.addFilter(passes)
    log.setLevel(min(wanted, logging.WARNING))
    try:
        yield
    except ValueError:
        raise_for_weights(
            what, {"weights cannot be put together from those in it, such as": torn}, _SAVE_AGAIN
        )
        raise
    finally:
        log.setLevel(level)
        log.removeFilter(passes)


def _check_report(
    model: Any, report: Mapping[str, Any], what: str, unused: str | None, part: bool
) -> None:
    """Raise ValueError unless the model's weights and the checkpoint's are the same.

    transformers has left out of the report what ties provide and what a model's class lists as
    harmless. A quantised checkpoint may hold scales that the backend does not use.
    """
    missing = {key for key in report["missing_keys"] if not (unused and re.search(unused, key))}
    lenient = part or getattr(model, "hf_quantizer", None) is not None
    unneeded = _unneeded(model)
    unexpected = {key for key in report["unexpected_keys"] if not lenient and not unneeded(key)}
    shapes = {
        f"{key}: {tuple(stored)} in it, {tuple(wanted)} by its config.json"
        for key, stored, wanted in report["mismatched_keys"]
    }
    name = type(model).__name__
    raise_for_weights(
        what,
        {
            f"weights of {name} are not in it, such as": missing,
            f"weights in it are none of {name}'s, such as": unexpected,
            f"weights have another shape than {name}'s, such as": shapes,
        },
        _fix(missing, unexpected, bool(shapes)),
    )


def _unneeded(model: Any) -> Callable[[str], bool]:
    """Return a function: whether the model can do without a key of its checkpoint."""
    text = model.config.get_text_config()
    buffers = {name for name, _ in model.named_buffers()}
    layers = getattr(text, "num_hidden_layers", 0)
    # DeepSeek's layers that predict several tokens at once stand behind the others.
    extra = range(layers, layers + (getattr(text, "num_nextn_predict_layers", None) or 0))
    text_only = not any(OTHER_MODALITIES.search(key) for key in model.state_dict())

    def unneeded(key: str) -> bool:
        number = re.search(r"(?:^|\.)layers\.(\d+)\.", key)
        return (
            key in buffers
            or bool(UNUSED_KEYS.search(key))
            or bool(number and int(number[1]) in extra)
            or bool(text_only and OTHER_MODALITIES.search(key))
        )

    return unneeded


def _fix(missing: Collection[str], unexpected: Collection[str], shapes: bool) -> str:
    for wrapper in _WRAPPERS:
        bare = {key.removeprefix(wrapper) for key in unexpected if key.startswith(wrapper)}
        if bare & set(missing):
            return f"names begin with {wrapper}: save the model without its wrapper"
    if shapes:
        return "give the config.json that belongs to the weights"
    return _SAVE_AGAIN


def _untie_config(model: Any) -> None:
    """Correct a configuration that says one matrix where two were loaded.

    transformers keeps both if they differ; but whoever ties weights again, as lm-eval does after
    every load, would drop one of them.
    """
    head = model.get_output_embeddings()
    # A tower has none.
    if head is None or not hasattr(head, "weight"):
        return
    if model.get_input_embeddings().weight is not head.weight:
        for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
            if getattr(config, "tie_word_embeddings", False):
                config.tie_word_embeddings = False
