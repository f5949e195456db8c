"""Write what docs/families.md says of training vision-language models.

    python -m tests.helpers.image_training_table docs/families.md

It writes the rows; the page's text stays. tests/trainers/test_families.py holds each row, by a
training.
"""

import sys
from pathlib import Path

from tests.helpers.other_processors import OTHER_PROCESSORS
from tests.helpers.own_processors import OWN_PROCESSORS, ProcessorFamily

HEADER = "| family | checkpoints | trained | answers before the last | its processor needs |"


def row(family: ProcessorFamily) -> str:
    """Return a family's row."""
    trained = "yes" if family.refusal is None else f"no: {family.refusal}"
    if family.batch:
        trained = f"yes, with per_device_batch_size={family.batch}"
    earlier = "context" if family.last_alone else "trained"
    needs = "torchvision" if family.videos or family.needs_torchvision else "PIL"
    cells = (
        *(f"`{family.model_type}`", family.known_as, trained),
        *("" if family.refusal else earlier, needs),
    )
    return f"| {' | '.join(cells)} |"


def with_rows_of_now(page: str) -> str:
    """Return the page with its rows as the families are described now."""
    start = page.index(HEADER)
    table = page[start:].partition("\n\n")[0].rstrip()
    rows = map(row, (*OWN_PROCESSORS, *OTHER_PROCESSORS))
    return page.replace(table, "\n".join([HEADER, table.splitlines()[1], *rows]))


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_rows_of_now(path.read_text(encoding="utf-8")), encoding="utf-8")
