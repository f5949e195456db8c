"""Merge the language model of a tuned checkpoint with that of its base, without loading either.

    verbalizer-bench merge-weights --base LLM --tuned LVLM --coefficient 0.5 -o DIR

A coefficient is the share of the tuned model: merged = base + coefficient * (tuned - base), of
several tuned ones the sum of such task vectors, or TIES of them (`merge_rules`). 0 is the base's
language model and, of a sum, 1 the tuned one's, bit for bit where both are stored in one type.
Everything else (vision tower, connector, tokens that the base has not, configuration, tokenizer) is
the first tuned one's.

Each file of the tuned checkpoint is written once more with the same header: a piece of some
millions of values is read of each checkpoint, merged in float32, written in the tuned one's type.
"""

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch

from verbalizer_bench.models.checkpoints.language_weights import (
    EMBEDDINGS,
    HEAD,
    LanguageModel,
    check_same_architecture,
    common_rows,
    language_model,
)
from verbalizer_bench.models.checkpoints.lineage import warn_of_another_base
from verbalizer_bench.models.checkpoints.merge_record import write_record
from verbalizer_bench.models.checkpoints.merge_rules import (
    Point,
    add,
    add_ties,
    least_kept,
    task_vector,
)
from verbalizer_bench.models.checkpoints.safetensors_files import StoredTensor, damaged, header_size
from verbalizer_bench.models.checkpoints.stored_weights import (
    FLOATING,
    StoredWeights,
    pieces,
    read_bytes,
    stored_weights,
)
from verbalizer_bench.models.checkpoints.strict_loading import writing

# What is copied of the tuned folder: not its weights, nor what was said of its training.
_COPIED = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
_LEFT = ("training.json", "merge.json", "trainer_state.json")
_FOLDERS = ("additional_chat_templates",)


class Merge(NamedTuple):
    """What is merged with what.

    Attributes:
        base: The base.
        tuned: The tuned checkpoints; the first one's files are written once more.
        rows: Which rows of the vocabulary are merged (`common_rows`, of all of them).
        density: By TIES, the share of a task vector that is kept; None for the sum.
    """

    base: LanguageModel
    tuned: tuple[LanguageModel, ...]
    rows: torch.Tensor
    density: float | None = None

    @property
    def frame(self) -> StoredWeights:
        """Return the checkpoint whose files are written once more."""
        return self.tuned[0].stored

    def merged_names(self) -> dict[str, str]:
        """Return the common names of the weights that are merged, by their names in the files."""
        return {stored: name for name, stored in self.tuned[0].names.items()}


def merge_weights(
    base: str,
    tuned: Sequence[str],
    points: Sequence[Point],
    output: Path,
    density: float | None = None,
) -> list[Path]:
    """Write a checkpoint for each point of a grid of coefficients.

    Args:
        base: Folder or hub id of the base: a causal language model, or an LVLM with one.
        tuned: Folders or hub ids of what was tuned from it. The first has to be of safetensors.
        points: The coefficients of each output, one for each of `tuned`; by TIES one alone.
        output: A folder that is empty or not there; with several points it gets a folder for each,
            named after its coefficients: `0.25`, `0.3_0.5`.
        density: Merge by TIES, and keep this share of each task vector; None: the sum of all.

    Returns:
        The checkpoints' folders.

    Raises:
        ValueError: Coefficients do not fit; a checkpoint cannot be read, is an adapter or of
            another architecture; a weight is NaN or infinite; or the disk has no room.
    """
    _check(tuned, points, output, density)
    merge = plan(base, tuned)._replace(density=density)
    for one in merge.tuned:
        warn_of_another_base(merge.base, one)
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    folders = {point: part / _name(point) if len(points) > 1 else part for point in points}
    try:
        with writing(part):
            _check_room(merge.frame, part, len(points))
            for folder in folders.values():
                folder.mkdir(parents=True)
                _copy_files(merge.frame.folder, folder)
            for file in merge.frame.files:
                _write_file(merge, file, folders)
            write_record(merge.base, merge.tuned, merge.rows, folders, output, density)
            part.replace(output)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return [output / folder.relative_to(part) for folder in folders.values()]


def plan(base: str, tuned: Sequence[str]) -> Merge:
    """Find the language models and check that they fit; reads headers alone.

    Raises:
        ValueError: As `merge_weights`.
    """
    source = language_model(stored_weights(base, "--base"))
    models = tuple(language_model(stored_weights(name, "--tuned")) for name in tuned)
    _check_format(models[0].stored)
    rows = torch.ones(models[0].weight(EMBEDDINGS).shape[0], dtype=torch.bool)
    for model in (source, *models):
        _check_types(model)
    for model in models:
        check_same_architecture(source, model)
        common = common_rows(source, model)
        rows[: len(common)] &= common[: len(rows)]
        rows[len(common) :] = False
    _check_head(source, models)
    return Merge(source, models, rows)


def _check(
    tuned: Sequence[str], points: Sequence[Point], output: Path, density: float | None
) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"output={output}: is there and not an empty folder; give another")
    if density is not None and not 0 < density <= 1:
        raise ValueError(f"--ties {density:g}: give a share above 0, and 1 at most")
    for point in points:
        if density is not None and len(point) > 1:
            raise ValueError(
                f"--coefficient {','.join(map(str, point))}: by --ties there is one, of the mean; "
                "give one"
            )
        if density is None and len(point) != len(tuned):
            raise ValueError(
                f"--coefficient {','.join(map(str, point))}: {len(point)} coefficients for "
                f"{len(tuned)} --tuned; give one for each, with commas between, and --coefficient "
                "again for the next checkpoint of a grid"
            )
        if not all(map(math.isfinite, point)):
            raise ValueError(f"--coefficient {','.join(map(str, point))}: give finite numbers")
    if not points:
        raise ValueError("merge-weights: no --coefficient; give the tuned one's share, such as 0.5")
    if len(set(points)) < len(points):
        raise ValueError("--coefficient: give each point of the grid once")


def _check_format(frame: StoredWeights) -> None:
    if any(file.suffix != ".safetensors" for file in frame.files):
        raise ValueError(
            f"{frame.what}: is stored as {frame.files[0].name}, and the first --tuned has to be of "
            "safetensors; load it in transformers and save_pretrained it"
        )


def _check_types(model: LanguageModel) -> None:
    for name in model.names:
        if (kind := model.weight(name).dtype) not in FLOATING:
            raise ValueError(
                f"{model.stored.what}: {model.names[name]} is stored as {kind}, quantised; "
                "give the checkpoint in bfloat16, float16 or float32"
            )


def _check_head(base: LanguageModel, models: Sequence[LanguageModel]) -> None:
    """Raise ValueError where a head of its own would have to go into tied embeddings."""
    frame = models[0]
    if HEAD in frame.names and (not frame.tied or frame.has_own_head()):
        return
    separate = [one for one in (base, *models) if one.has_own_head()]
    if separate:
        raise ValueError(
            f"{models[0].stored.what}: its output head is its input embeddings, and that of "
            f"{separate[0].stored.what} is not; give the checkpoint that it was tuned from "
            "as --base"
        )


def _name(point: Point) -> str:
    # Six digits are enough for all but near neighbours.
    shown = [f"{coefficient:g}" for coefficient in point]
    exact = zip(shown, point, strict=True)
    return "_".join(text if float(text) == number else repr(number) for text, number in exact)


def _check_room(frame: StoredWeights, part: Path, copies: int) -> None:
    place = next(folder for folder in part.absolute().parents if folder.exists())
    needed = copies * sum(file.stat().st_size for file in frame.files)
    if (free := shutil.disk_usage(place).free) < needed:
        raise ValueError(
            f"output={part.with_suffix('')}: {needed / 1e9:.1f} GB are needed and "
            f"{free / 1e9:.1f} GB free; make room, or give another place"
        )


def _copy_files(source: Path, target: Path) -> None:
    for file in sorted(source.iterdir()):
        if file.is_dir() and file.name in _FOLDERS:
            shutil.copytree(file, target / file.name)
        elif file.is_file() and file.suffix in _COPIED and file.name not in _LEFT:
            shutil.copyfile(file, target / file.name)


def _write_file(merge: Merge, file: Path, folders: dict[Point, Path]) -> None:
    """Write a file of the frame for all points, in the order of its bytes."""
    names = merge.merged_names()
    weights = {name: w for name, w in merge.frame.tensors.items() if w.source.file == file}
    with ExitStack() as stack, file.open("rb") as source:
        streams = {
            point: stack.enter_context((folder / file.name).open("wb"))
            for point, folder in folders.items()
        }
        header = source.read(header_size(file))
        for stream in streams.values():
            stream.write(header)
        for name, weight in weights.items():
            if next(iter(streams.values())).tell() != weight.source.start:
                raise damaged(file, ValueError(f"{name} does not begin where the one before ends"))
            if name in names:
                _write_merged(merge, name, names[name], streams)
            else:
                _write_kept(weight.source, name, merge.frame.what, list(streams.values()))
        for stream in streams.values():
            stream.flush()
            os.fsync(stream.fileno())


def _write_kept(tensor: StoredTensor, name: str, what: str, streams: list[BinaryIO]) -> None:
    for piece in pieces(tensor.stop - tensor.start, 8):
        content = read_bytes(tensor, *piece)
        if tensor.dtype in FLOATING:
            _check_finite(torch.frombuffer(content, dtype=FLOATING[tensor.dtype]), name, what)
        for stream in streams:
            stream.write(content)


def _write_merged(merge: Merge, stored: str, name: str, streams: Mapping[Point, BinaryIO]) -> None:
    weight, numbers = merge.frame.tensors[stored], range(len(merge.tuned))
    least = []
    if merge.density is not None:
        vectors = [partial(_task_vector, merge, name, number) for number in numbers]
        least = [least_kept(vector, merge.density) for vector in vectors]
    for base, tuned, mask in _values(merge, name):
        for point, stream in streams.items():
            merged = add_ties(base, tuned, least, point[0]) if least else add(base, tuned, point)
            if mask is not None:
                merged = torch.where(mask, merged, tuned[0])
            if not _is_finite(merged):
                raise ValueError(
                    f"--coefficient {','.join(map(str, point))}: {stored} becomes infinite in "
                    f"{weight.dtype}; give a coefficient nearer to 0 and 1"
                )
            stream.write(merged.view(torch.uint8).numpy().data)


def _task_vector(merge: Merge, name: str, number: int) -> Iterator[torch.Tensor]:
    """Yield the values of a weight's task vector that are merged, a piece at a time."""
    for base, tuned, mask in _values(merge, name):
        vector = task_vector(base, tuned[number])
        yield vector if mask is None else vector[mask]


def _values(
    merge: Merge, name: str
) -> Iterator[tuple[torch.Tensor, list[torch.Tensor], torch.Tensor | None]]:
    """Yield a weight's values piece by piece: the base's, the tuned ones', and which are merged.

    These are None for all; values that are not there are the first tuned one's.
    """
    shape = merge.tuned[0].weight(name).shape
    rows = _rows(merge, name) if name in (EMBEDDINGS, HEAD) else None
    width = math.prod(shape[1:]) if rows is not None else 1
    for start, stop in pieces(math.prod(shape), width):
        kept = _read(merge.tuned[0], name, start, stop)
        base, *others = (
            _filled(_read(model, name, start, stop), kept)
            for model in (merge.base, *merge.tuned[1:])
        )
        mask = None
        if rows is not None:
            mask = rows[start // width : stop // width].repeat_interleave(width)
        yield base, [kept, *others], mask


def _rows(merge: Merge, name: str) -> torch.Tensor:
    """Return which rows of a matrix of the vocabulary are merged: those that all of them have."""
    sizes = [model.weight(name).shape[0] for model in (*merge.tuned, merge.base)]
    rows = torch.zeros(sizes[0], dtype=torch.bool)
    shared = min(len(merge.rows), *sizes)
    rows[:shared] = merge.rows[:shared]
    return rows


def _read(model: LanguageModel, name: str, start: int, stop: int) -> torch.Tensor:
    """Return values of a weight, fewer where it has fewer rows."""
    weight = model.weight(name)
    stop = min(stop, math.prod(weight.shape))
    values = weight.values(min(start, stop), stop)
    _check_finite(values, model.stored_name(name), model.stored.what)
    return values


def _filled(values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return values with those of rows that are not there, and are not merged, filled up."""
    if len(values) == len(kept):
        return values
    return torch.cat([values, kept[len(values) :].to(values.dtype)])


def _check_finite(values: torch.Tensor, name: str, what: str) -> None:
    if not _is_finite(values):
        raise ValueError(
            f"{what}: {name} holds NaN or infinite values; the checkpoint is broken: save it again"
        )


def _is_finite(values: torch.Tensor) -> bool:
    """Return whether no value is NaN or infinite: both show in the extremes, faster than in all."""
    return not values.numel() or all(
        map(math.isfinite, torch.stack(torch.aminmax(values)).tolist())
    )
