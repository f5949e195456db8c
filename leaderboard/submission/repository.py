"""Start a leaderboard's own GitHub repository: submissions in, a site out.

verbalizer-bench leaderboard init DIR
"""

from importlib.resources import files
from pathlib import Path

from verbalizer_bench import __version__

# The template's name in the package, and where it stands in the repository.
_FILES = {
    "workflow.yml": Path(".github/workflows/leaderboard.yml"),
    "repository.md": Path("README.md"),
}


def init(folder: Path) -> list[Path]:
    """Write the workflow, a README and an empty `submissions`; return the files.

    Raises:
        ValueError: One of the files is there.
    """
    written = [folder / place for place in _FILES.values()]
    for path in written:
        if path.exists():
            raise ValueError(f"leaderboard init: {path} is there; it would be overwritten")
    package = files("verbalizer_bench.leaderboard.submission")
    for name, path in zip(_FILES, written, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (package / name).read_text(encoding="utf-8")
        path.write_text(text.replace("==VERSION", f"=={__version__}"), encoding="utf-8")
    (folder / "submissions").mkdir(exist_ok=True)
    (folder / "submissions" / ".gitkeep").touch()
    return written
