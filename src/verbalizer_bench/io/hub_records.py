"""A hub's data set as files of records: `hub:owner/name[:config][@revision][/split]`.

Without a split it is `train`, without a revision what `main` is when it is first asked for. Which
files a split has, its card says or their names do; `datasets` knows these rules. The files
themselves are downloaded into the hub's cache, and read from there without a network.
"""

import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_PREFIX = "hub:"
_NAME = re.compile(
    r"hub:(?P<repository>[\w.-]+/[\w.-]+)(:(?P<config>[^@/:]+))?(@(?P<revision>[\w.-]+))?"
    r"(/(?P<split>[\w.-]+))?"
)


class HubSplit(NamedTuple):
    """A split of a data set, at a commit.

    Attributes:
        name: What it is called, with its configuration, the commit and the split.
        repository: Owner and name.
        commit: 40 hexadecimal digits.
        files: Its files' paths in the repository.
    """

    name: str
    repository: str
    commit: str
    files: tuple[str, ...]


def is_hub(path: Path) -> bool:
    """Tell whether a name is that of a hub's data set."""
    return str(path).startswith(_PREFIX)


@cache
def resolved(path: Path) -> HubSplit:
    """Return which files a name stands for, at which commit; they are not downloaded.

    Raises:
        ConnectionError: The hub cannot be reached, and the cache lacks the data set.
        ValueError: The name is of no such form, or there is no such configuration or split.
    """
    match = _NAME.fullmatch(str(path))
    if match is None:
        raise ValueError(
            f"{path}: give hub:owner/name, with :configuration, @revision and /split where they "
            "are not the default one, main and train"
        )
    repository, config = match["repository"], match["config"]
    split = match["split"] or "train"
    try:
        commit, found = _splits(repository, config, match["revision"])
    # The libraries below raise dozens of types when a network is away.
    except Exception as error:
        raise _unreachable(path, repository, error) from error
    if split not in found:
        raise ValueError(f"{path}: no split {split}; there are {', '.join(sorted(found))}")
    named = f":{config}" if config else ""
    name = f"{_PREFIX}{repository}{named}@{commit}/{split}"
    return HubSplit(name, repository, commit, tuple(found[split]))


def _unreachable(path: Path, repository: str, error: Exception) -> Exception:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, ValueError):
        return ValueError(f"{path}: {reason}")
    return ConnectionError(
        f"{path}: cannot be had from the hub, and the cache lacks it ({type(error).__name__}: "
        f"{reason}); `hf download --repo-type dataset {repository}` where there is a network fills "
        "the cache, or give files"
    )


def _splits(
    repository: str, config: str | None, revision: str | None
) -> tuple[str, dict[str, list[str]]]:
    """Return a data set's commit, and each split's files."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        folder = Path(
            snapshot_download(
                repository, repo_type="dataset", revision=revision, local_files_only=True
            )
        )
        found = {
            split: [str(Path(file).relative_to(folder)) for file in files]
            for split, files in _data_files(str(folder), config, None).items()
        }
        return folder.name, found
    commit = HfApi().dataset_info(repository, revision=revision).sha
    assert commit
    root = f"hf://datasets/{repository}@{commit}/"
    found = {
        split: [file.removeprefix(root) for file in files]
        for split, files in _data_files(repository, config, commit).items()
    }
    return commit, found


def _data_files(place: str, config: str | None, commit: str | None) -> dict[str, list[str]]:
    from datasets import load_dataset_builder

    builder = load_dataset_builder(place, config, revision=commit)
    files = builder.config.data_files or {}
    return {str(split): [str(file) for file in found] for split, found in files.items()}


def downloaded(path: Path) -> list[Path]:
    """Return the files of a data set in the hub's cache, downloaded where it lacks them.

    Raises:
        As `resolved`.
    """
    from huggingface_hub import hf_hub_download

    found = resolved(path)
    try:
        return [
            Path(
                hf_hub_download(
                    found.repository,
                    str(PurePosixPath(file)),
                    repo_type="dataset",
                    revision=found.commit,
                )
            )
            for file in found.files
        ]
    except Exception as error:
        raise _unreachable(path, found.repository, error) from error
