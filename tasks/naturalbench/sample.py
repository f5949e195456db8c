"""Write the sample: six made groups in our layout, of the drawings of MMVP's sample (CC0).

python -m verbalizer_bench.tasks.naturalbench.sample
"""

import csv
from pathlib import Path

from verbalizer_bench.tasks.mmvp.sample import PAIRS, picture
from verbalizer_bench.tasks.naturalbench.groups import COLUMNS, FILE, IMAGES, TYPES
from verbalizer_bench.tasks.spec import TASKS_FOLDER

SAMPLE = TASKS_FOLDER / "samples" / "naturalbench"
# Which drawings, of which type, the two questions: a is right of question 0 for the first image.
GROUPS = (
    (0, "yes_no", "Does the arrow point left?", "Does the arrow point right?"),
    (2, "yes_no", "Is there no chimney on the house?", "Is there a chimney on the house?"),
    (3, "yes_no", "Is the box open?", "Is the box closed?"),
    (8, "yes_no", "Is the disc red?", "Is the disc blue?"),
    *(
        (
            pair,
            "multiple_choice",
            f"{text} Option: A: {a}; B: {b};",
            f"{text} Option: A: {b}; B: {a};",
        )
        for pair, text, a, b in (
            (6, "Where is the ball?", "above the line", "below the line"),
            (9, "What is in the image?", "a square", "a disc"),
        )
    ),
)


def write(folder: Path = SAMPLE) -> None:
    """Write the sample's table and images."""
    images = folder / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow((*COLUMNS, "Question_Type", "Source"))
        for index, (pair, kind, *questions) in enumerate(GROUPS):
            yes, no = TYPES[kind]
            table.writerow((index, *questions, yes, no, no, yes, kind, "drawn"))
            for place, drawing in enumerate(PAIRS[pair].drawings):
                picture(drawing).save(images / f"{index}_{place}.png", optimize=True)


if __name__ == "__main__":
    write()
