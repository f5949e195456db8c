"""Find what a recipe needs and lacks: files, packages, and checkpoints that other recipes make."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from transformers.utils import (
    is_bitsandbytes_available,
    is_flash_attn_2_available,
    is_flash_attn_3_available,
    is_liger_kernel_available,
)

from verbalizer_bench.config import shipped
from verbalizer_bench.io.record_files import lacking
from verbalizer_bench.trainers.optimizers import OPTIMIZERS
from verbalizer_bench.trainers.recipe import Recipe

_FLASH = {
    "flash_attention_2": is_flash_attn_2_available,
    "flash_attention_3": is_flash_attn_3_available,
}
_TOKENIZER = ("tokenizer_config.json", "tokenizer.json")
_OUTPUT = re.compile(r"^output:\s*['\"]?([^\s'\"#]+)", re.MULTILINE)


def missing_files(recipe: Recipe) -> list[str]:
    """Return a line for each file and folder of data that is missing."""
    missing, folder = [], recipe.images_folder
    if folder is not None and not folder.is_dir():
        missing.append(f"images={folder}: no such folder; give the records' images")
    replayed = recipe.text_replay.data if recipe.text_replay else ()
    files = {"data": recipe.data, "text_replay.data": replayed, "held_out": recipe.held_out or ()}
    for key, paths in files.items():
        for path in paths:
            if problem := lacking(path):
                fix = "" if ";" in problem else f"; {_built(path) or 'give a file of records'}"
                missing.append(f"{key}={problem}{fix}")
    return missing


def missing_packages(recipe: Recipe) -> list[str]:
    """Return a line for each package that a recipe needs and that is not here."""
    optional = {
        "quantization": recipe.quantization is not None,
        f"optim={recipe.optim}": OPTIMIZERS[recipe.optim].package is not None,
    }
    missing = []
    if not is_bitsandbytes_available():
        missing = [
            f"{key}: needs bitsandbytes; pip install bitsandbytes, or leave it out"
            for key, wanted in optional.items()
            if wanted
        ]
    attention = recipe.attn_implementation
    if attention in _FLASH and not _FLASH[attention]():
        missing.append(
            f"attn_implementation={attention}: it is not installed, or there is no GPU; pip "
            "install flash-attn where there is one, or give sdpa"
        )
    if recipe.use_liger_kernel:
        if not is_liger_kernel_available():
            missing.append("use_liger_kernel: needs liger-kernel; pip install it, or leave it out")
        elif not torch.cuda.is_available():
            missing.append("use_liger_kernel: there is no GPU for its kernels; leave it out")
    return missing


def _built(path: Path) -> str | None:
    """Return which recipe builds a file's folder; None if none does."""
    name = maker(str(path.parent), "kind")
    return f"build it first: `verbalizer-bench build {name}`" if name else None


def missing_checkpoints(recipe: Recipe) -> dict[str, str]:
    """Return a line for each checkpoint that is not at hand, by the key that names it.

    Of a name that is no folder the hub is asked once, and only what the cache lacks.
    """
    keys = ("config",) if recipe.model.config else ("path", "llm", "vision_tower")
    places = {f"model.{key}": getattr(recipe.model, key) for key in keys}
    if recipe.model.second and not recipe.model.config:
        places["model.second.tower"] = recipe.model.second.tower
    places["tokenizer"] = recipe.tokenizer
    missing = {}
    for key, place in places.items():
        files = _TOKENIZER if key == "tokenizer" else ("config.json",)
        if place is None or any((Path(place) / file).is_file() for file in files):
            continue
        if line := _made_elsewhere(place) or _not_on_hub(place, files):
            missing[key] = f"{key}={place}: {line}"
    return missing


def _made_elsewhere(place: str) -> str | None:
    """Return which recipe makes a folder that is not there or not finished; None if none does."""
    name = maker(place)
    if name is None:
        return None
    begun = Path(place).is_dir() and any(Path(place).iterdir())
    state = "its training is not finished" if begun else "not there yet"
    again = " resume=true" if begun else ""
    return f"{state}; train {name} first: `verbalizer-bench train {name}{again}`"


def _not_on_hub(place: str, files: Sequence[str]) -> str | None:
    """Return why a hub's checkpoint cannot be had; None if it can, or if a folder is meant.

    transformers would ask again and again, for minutes, and for each of its files.

    Args:
        place: A folder or hub id.
        files: Of which one tells that the cache has it; the hub is asked for the first.
    """
    if Path(place).is_dir():
        return None
    download = f"`hf download {place}` where there is a network fills the cache"
    try:
        # What is known not to be there is no text, and was asked for before.
        if any(try_to_load_from_cache(place, file) is not None for file in files):
            return None
        get_hf_file_metadata(hf_hub_url(place, files[0]))
    except HFValidationError:
        return "no such folder, and no name on the hub; give a folder or a hub id"
    except RepositoryNotFoundError:
        return (
            "no such folder, and the hub has none of that name that is open to you; correct it, or "
            "`hf auth login` with an account that has access"
        )
    except OfflineModeIsEnabled:
        return (
            "no such folder, not in the cache, and HF_HUB_OFFLINE keeps the hub from being asked; "
            f"unset it, or give a folder; {download}"
        )
    except HfHubHTTPError as error:
        # Which of its files are there is for whoever loads it to say.
        status = error.response.status_code
        return None if status == 404 else f"the hub answers {status}; try again, or give a folder"
    # The hub's client raises what its transport does, another one in each of its versions.
    except Exception as error:
        return (
            f"no such folder, not in the cache, and the hub cannot be reached "
            f"({type(error).__name__}); give a folder; {download}"
        )
    return None


def maker(place: str, key: str = "method") -> str | None:
    """Return the name of the recipe whose output a folder is, None if there is none.

    Args:
        place: The folder.
        key: What such a recipe has: `method` of a training, `kind` of a data set.

    Looked for are YAML files of the working folder, of its `recipes`, and those that are shipped.
    """
    here = [*sorted(Path().glob("*.yaml")), *sorted(Path("recipes").rglob("*.yaml"))]
    for name, file in [*((str(file), file) for file in here), *shipped().items()]:
        text = file.read_text(encoding="utf-8", errors="replace")
        match = _OUTPUT.search(text) if re.search(rf"^{key}:", text, re.MULTILINE) else None
        if match and Path(match[1]).expanduser().absolute() == Path(place).expanduser().absolute():
            return name
    return None
