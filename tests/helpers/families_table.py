"""Find out again what docs/families.md says: what the engine makes of each family of models.

    python -m tests.helpers.families_table docs/families.md

It writes the rows and the versions; the page's text stays. tests/models/engine/test_families.py
holds each row.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from tests.helpers.families import (
    Family,
    Outcome,
    build,
    image_prompts,
    language_prompts,
    outcome,
)
from tests.helpers.language_families import LANGUAGE_FAMILIES
from tests.helpers.vision_families import VISION_FAMILIES

# What stands below it is of another helper, `training_table.py`.
TRAINING = "\n## Training\n"


def outcomes(family: Family) -> list[Outcome]:
    """Return what the engine makes of a family: with images, if it takes any, and without."""
    model = build(family)
    if not family.images:
        return [outcome(model, language_prompts())]
    return [outcome(model, image_prompts(family)), outcome(model, language_prompts()[:2])]


def row(family: Family, found: Sequence[Outcome]) -> str:
    """Return a family's row."""
    cells = (f"`{family.model_type}`", family.known_as, *map(_cell, found), family.note)
    return f"| {' | '.join(cells)} |"


def _cell(found: Outcome) -> str:
    if found.reason:
        # How far it differs is not the same on every machine.
        return f"no: {re.sub(r' by [0-9.e+-]+$', '', found.reason)}"
    return r"yes \*" if found.mended else "yes"


def versions() -> str:
    """Return what a table made now is made with."""
    return f"transformers {transformers.__version__} and torch {torch.__version__.split('+')[0]}"


def with_rows_of_now(page: str) -> str:
    """Return the page with its rows and versions as they are found now, but for its training."""
    tables = iter((LANGUAGE_FAMILIES, VISION_FAMILIES))
    lines = []
    page, *training = page.partition(TRAINING)
    for line in page.splitlines():
        if not line.startswith("| `"):
            lines.append(line)
        if line.startswith("|---"):
            lines += [row(family, outcomes(family)) for family in next(tables)]
    page = re.sub(r"transformers \S+ and torch [0-9.]+[0-9]", versions(), "\n".join(lines))
    return "".join([page, "\n", *training])


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_rows_of_now(path.read_text(encoding="utf-8")), encoding="utf-8")
