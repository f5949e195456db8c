"""Tell setuptools where the packages are; what else it needs stands in pyproject.toml.

The folders at the top are packages below `verbalizer_bench`, by links in `src/verbalizer_bench`:
an editable install is then one path, which type checkers and editors follow. A clone without
links (git on Windows has them only if told to) gets the folders named one by one.
"""

from pathlib import Path

from setuptools import find_packages, setup

LINKS = ("builders", "experiments", "leaderboard", "lmms", "models")
LINKS += ("recipes", "tasks", "trainers")
packages, places = find_packages("src"), {"": "src"}
if not all(Path("src/verbalizer_bench", name).is_dir() for name in LINKS):
    places = {"verbalizer_bench": "src/verbalizer_bench"}
    for name in LINKS:
        places[f"verbalizer_bench.{name}"] = name
        packages += [f"verbalizer_bench.{name}"]
        packages += [f"verbalizer_bench.{name}.{inner}" for inner in find_packages(name)]
setup(packages=packages, package_dir=places)
