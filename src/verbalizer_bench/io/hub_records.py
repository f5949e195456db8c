"""A hub's data set as files of records: `hub:owner/name[:config][@revision][/split]`.

Without a split it is `train`, without a revision what `main` is when it is first asked for. Which
files a split has, its card says or their names do; `datasets` knows these rules. The files
themselves are downloaded into the hub's cache, and with HF_HUB_OFFLINE read from there: what it has
of a commit is taken for all of it then, but for shards that say how many they are.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_PREFIX, _SPLIT = "hub:", "train"
_NAME = re.compile(
    r"hub:(?P<repository>[\w.-]+/[\w.-]+)(:(?P<config>[^@/:]+))?(@(?P<revision>[\w.-]+))?"
    r"(/(?P<split>[\w.-]+))?"
)


class HubSplit(NamedTuple):
    """A split of a data set, at a commit.

    Attributes:
        name: What it is called, with its configuration, the commit and the split.
        repository: Owner and name.
        revision: What was asked for; None for `main`.
        commit: 40 hexadecimal digits.
        files: Its files' paths in the repository.
    """

    name: str
    repository: str
    revision: str | None
    commit: str
    files: tuple[str, ...]


def is_hub(path: Path) -> bool:
    """Tell whether a name is that of a hub's data set."""
    return str(path).startswith(_PREFIX)


def without_revision(value: Any) -> Any:
    """Return a recipe's value, in which names of hub data sets are whole, without a revision."""
    if isinstance(value, dict):
        return {key: without_revision(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_revision(inner) for inner in value]
    match = _NAME.fullmatch(value) if isinstance(value, str) else None
    return _named(match, None) if match else value


def _named(match: re.Match[str], revision: str | None) -> str:
    config = f":{match['config']}" if match["config"] else ""
    at = f"@{revision}" if revision else ""
    return f"{_PREFIX}{match['repository']}{config}{at}/{match['split'] or _SPLIT}"


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
    split = match["split"] or _SPLIT
    try:
        commit, found = _splits(repository, config, match["revision"])
    # The libraries below raise dozens of types when a network is away.
    except Exception as error:
        raise _unreachable(path, repository, error) from error
    if split not in found:
        raise ValueError(f"{path}: no split {split}; there are {', '.join(sorted(found))}")
    return HubSplit(
        _named(match, commit), repository, match["revision"], commit, tuple(found[split])
    )


def _unreachable(path: Path, repository: str, error: Exception) -> Exception:
    from huggingface_hub import constants

    reason = " ".join(str(error).split()) or type(error).__name__
    # Of a cache that lacks files, `datasets` says what it would of a wrong name.
    if isinstance(error, ValueError) and not constants.HF_HUB_OFFLINE:
        return ValueError(f"{path}: {reason}")
    return ConnectionError(
        f"{path}: cannot be had from the hub ({type(error).__name__}: {reason[:160]}); `hf "
        f"download --repo-type dataset {repository}` where there is a network fills the cache, "
        "which HF_HUB_OFFLINE=1 reads, or give files"
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
    found = resolved(path)
    try:
        # By the name that was asked for the first time: the cache remembers its commit then.
        first, *others = found.files
        files = [_file(found, first, found.revision)]
        if found.commit not in files[0].parts:
            raise LookupError("it has changed just now; run the command again")
        return [*files, *(_file(found, other, found.commit) for other in others)]
    except Exception as error:
        raise _unreachable(path, found.repository, error) from error


def _file(split: HubSplit, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(split.repository, file, repo_type="dataset", revision=revision))
