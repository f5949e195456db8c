"""Where the rows and images of a task with images stand: the hub, a local folder, the sample."""

from functools import cache
from pathlib import Path

from verbalizer_bench.tasks.data import OFFLINE, SAMPLES, read_sources


def picture_folder(
    data: str, name: str, repository: str, patterns: tuple[str, ...]
) -> tuple[Path, str]:
    """Return the folder of a benchmark's files, and its source's name.

    Args:
        data: `hub`, `sample`, or a folder: of the benchmark, or of several, each under its name.
        name: The benchmark's name.
        repository: Its data set on the hub.
        patterns: Of the files that are needed of it.

    Raises:
        FileNotFoundError: There is no such folder.
        ConnectionError: The hub cannot be reached, and its files are not in the cache.
    """
    if data == "sample":
        return SAMPLES / name, "sample"
    if data == "hub":
        folder = _downloaded(name, repository, patterns)
        # A snapshot's folder is named after its revision.
        return folder, f"hub: {repository} at {folder.name}"
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"--data {data}: no such folder; give hub, sample or a folder")
    inner = folder / name
    source = read_sources(folder).get(name, {}).get("source", "local")
    return (inner if inner.is_dir() else folder), source


@cache
def _downloaded(name: str, repository: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=list(patterns))
        return Path(folder)
    # The libraries below raise dozens of types when a network is away.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConnectionError(
            f"{name}: cannot load {repository} from the hub ({type(error).__name__}: {reason}); "
            f"without a network {OFFLINE}"
        ) from error
