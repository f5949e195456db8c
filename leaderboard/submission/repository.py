"""Start a leaderboard's own GitHub repository: submissions in, a site out.

verbalizer-bench leaderboard init DIR --install git+https://github.com/OWNER/NAME@COMMIT
"""

import re
from importlib.resources import files
from pathlib import Path

# The template's name in the package, and where it stands in the repository.
_FILES = {
    "workflow.yml": Path(".github/workflows/leaderboard.yml"),
    "repository.md": Path("README.md"),
}
# What nobody else can replace: a repository at a commit, or a wheel with its hash.
_PINNED = re.compile(
    r"git\+https://[\w./~-]+@[0-9a-f]{40}|https://[\w./~+%-]+\.whl#sha256=[0-9a-f]{64}"
)


def init(folder: Path, install: str | None = None) -> list[Path]:
    """Write the workflow, a README and an empty `submissions`; return the files.

    Args:
        folder: The repository's folder.
        install: What the workflow's pip installs, pinned; None leaves a mark, with which the
            workflow refuses to run.

    Raises:
        ValueError: One of the files is there, or `install` is not pinned.
    """
    if install is not None and not _PINNED.fullmatch(install):
        raise ValueError(
            f"leaderboard init: --install {install}: give git+https://HOST/OWNER/NAME@COMMIT (40 "
            "digits) or https://….whl#sha256=HASH, which nobody else can replace"
        )
    written = [folder / place for place in _FILES.values()]
    for path in written:
        if path.exists():
            raise ValueError(f"leaderboard init: {path} is there; it would be overwritten")
    package = files("verbalizer_bench.leaderboard.submission")
    for name, path in zip(_FILES, written, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (package / name).read_text(encoding="utf-8")
        path.write_text(text.replace('"INSTALL"', f'"{install or ""}"'), encoding="utf-8")
    (folder / "submissions").mkdir(exist_ok=True)
    (folder / "submissions" / ".gitkeep").touch()
    return written
