"""What a recipe begins with and another recipe makes."""

import re
from pathlib import Path

from verbalizer_bench.config import shipped
from verbalizer_bench.trainers.recipe import Recipe

_OUTPUT = re.compile(r"^output:\s*['\"]?([^\s'\"#]+)", re.MULTILINE)


def missing_parts(recipe: Recipe) -> list[str]:
    """Return a line for each part of the model that another recipe makes and that is not there."""
    own = recipe.model
    if own.config:
        return []
    found = []
    for key in ("path", "llm", "vision_tower"):
        place = getattr(own, key)
        if place is None or (Path(place) / "config.json").is_file():
            continue
        if name := maker(place):
            begun = Path(place).is_dir() and any(Path(place).iterdir())
            state = "its training is not finished" if begun else "not there yet"
            again = " resume=true" if begun else ""
            found.append(
                f"model.{key}={place}: {state}; train {name} first: "
                f"`verbalizer-bench train {name}{again}`"
            )
    return found


def maker(place: str) -> str | None:
    """Return the name of the recipe whose output a folder is: a shipped one, or one beneath here.

    Looked for are YAML files of the working folder, of its `recipes`, and those that are shipped.
    """
    here = [*sorted(Path().glob("*.yaml")), *sorted(Path("recipes").rglob("*.yaml"))]
    for name, file in [*((str(file), file) for file in here), *shipped().items()]:
        match = _OUTPUT.search(file.read_text(encoding="utf-8", errors="replace"))
        if match and Path(match[1]).expanduser().absolute() == Path(place).expanduser().absolute():
            return name
    return None
