"""Find what a recipe needs and lacks: files, and checkpoints that other recipes make."""

import re
from pathlib import Path

from verbalizer_bench.config import shipped
from verbalizer_bench.trainers.recipe import Recipe

_OUTPUT = re.compile(r"^output:\s*['\"]?([^\s'\"#]+)", re.MULTILINE)


def missing_files(recipe: Recipe) -> list[str]:
    """Return a line for each file and folder that is missing, or that another recipe makes."""
    missing, folder = _missing_checkpoints(recipe), recipe.images_folder
    if folder is not None and not folder.is_dir():
        missing.append(f"images={folder}: no such folder; give the records' images")
    for key, paths in (("data", recipe.data), ("held_out", recipe.held_out or ())):
        missing += [
            f"{key}={path}: no such file; give a file of records"
            for path in paths
            if not path.is_file()
        ]
    return missing


def _missing_checkpoints(recipe: Recipe) -> list[str]:
    if recipe.model.config:
        return []
    missing = []
    for key in ("path", "llm", "vision_tower"):
        place = getattr(recipe.model, key)
        if place is None or (Path(place) / "config.json").is_file():
            continue
        if name := maker(place):
            begun = Path(place).is_dir() and any(Path(place).iterdir())
            state = "its training is not finished" if begun else "not there yet"
            again = " resume=true" if begun else ""
            missing.append(
                f"model.{key}={place}: {state}; train {name} first: "
                f"`verbalizer-bench train {name}{again}`"
            )
    return missing


def maker(place: str) -> str | None:
    """Return the name of the recipe whose output a folder is, None if there is none.

    Looked for are YAML files of the working folder, of its `recipes`, and those that are shipped.
    """
    here = [*sorted(Path().glob("*.yaml")), *sorted(Path("recipes").rglob("*.yaml"))]
    for name, file in [*((str(file), file) for file in here), *shipped().items()]:
        match = _OUTPUT.search(file.read_text(encoding="utf-8", errors="replace"))
        if match and Path(match[1]).expanduser().absolute() == Path(place).expanduser().absolute():
            return name
    return None
