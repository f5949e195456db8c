"""The order of records in an epoch: from the seed and the epoch alone, on any number of processes.

accelerate deals consecutive micro-batches to the processes in turn, so that a block of
`global_batch_size` consecutive indices is one optimiser step, whatever the processes and the
accumulation that make it up. A last block that would not be full is filled with records of the same
kind, which are then seen twice in the epoch: left to itself, accelerate would fill it too, with
others on each number of processes.

What stands together in a step is what the loss is a mean over. Sorting many steps' records by
length together makes steps of short answers and steps of long ones: a short answer then counts as
much as a long one, where in steps that are drawn at random it counts by its tokens.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from verbalizer_bench.trainers.choices import MEGA_BATCHES


def permutation(size: int, *seeds: int) -> np.ndarray:
    """Return a permutation of `range(size)`, int64, that no library version changes.

    It sorts the raw 64-bit words of PCG64, whose stream numpy keeps; what numpy's generators make
    of such words may change between releases (NEP 19).
    """
    words = np.random.PCG64(np.random.SeedSequence(seeds)).random_raw(size)
    return np.argsort(words, kind="stable")


class SeededSampler(Sampler[int]):
    """A seeded permutation in full blocks, another one each epoch.

    Args:
        size: Records.
        global_batch_size: Records of an optimiser step over all processes.
        seed: With the epoch, all that the order depends on.

    Raises:
        ValueError: There is no record, or `global_batch_size` is not positive.
    """

    def __init__(self, size: int, global_batch_size: int, seed: int):
        if size < 1 or global_batch_size < 1:
            raise ValueError(
                f"{size} records, global_batch_size={global_batch_size}: give at least 1 of each"
            )
        self.size, self.global_batch_size, self.seed, self.epoch = size, global_batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def order(self) -> np.ndarray:
        """Return the epoch's order: every index at least once, int64."""
        return self._filled(permutation(self.size, self.seed, self.epoch))

    @property
    def seen_twice(self) -> int:
        """Return how many records an epoch shows once more, to fill a last step."""
        return len(self) - self.size

    def _filled(self, indices: np.ndarray) -> np.ndarray:
        """Repeat indices from the first on until the last block is full."""
        blocks = -(-len(indices) // self.global_batch_size)
        return np.resize(indices, blocks * self.global_batch_size)

    def __len__(self) -> int:
        return len(self.order())

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())


class GroupedSampler(SeededSampler):
    """Blocks of one modality, in a seeded order (LLaVA-1.5, section A).

    The records of a modality are shuffled and filled up to full blocks; all blocks are shuffled.
    With `modality` a block is what the shuffling brought together, in the order of length, as in
    LLaVA's `LengthGroupedSampler` (which mixes what is left of both modalities into a last batch
    instead of filling). With `length` 50 blocks' records are sorted together first: less padding,
    and other weights of records; see above.

    Args:
        lengths: Expanded tokens of each record.
        has_image: Of each record, bool.
        global_batch_size: As in `SeededSampler`.
        seed: As in `SeededSampler`.
        group: `modality` or `length`.
        micro_batch: Deal the records of a block of `modality` to micro-batches of so many, so that
            each has about as many tokens (LLaVA's), rather than in the order of length. For a loss
            that is a mean over micro-batches; it changes nothing of one over tokens.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        has_image: np.ndarray,
        global_batch_size: int,
        seed: int,
        group: str = "modality",
        micro_batch: int | None = None,
    ):
        if len(lengths) != len(has_image):
            raise ValueError(f"{len(lengths)} lengths and {len(has_image)} in has_image")
        super().__init__(len(lengths), global_batch_size, seed)
        self.lengths, self.has_image = np.asarray(lengths), np.asarray(has_image, bool)
        self.mega_batch = MEGA_BATCHES[group]
        self.micro_batch = micro_batch if group == "modality" else None

    def order(self) -> np.ndarray:
        """Return the epoch's order: every index at least once, int64."""
        shuffled = permutation(self.size, self.seed, self.epoch)
        kinds = (shuffled[self.has_image[shuffled] == kind] for kind in (True, False))
        blocks = np.concatenate([self._blocks(self._filled(kind)) for kind in kinds])
        return blocks[permutation(len(blocks), self.seed, self.epoch, 1)].ravel()

    def _blocks(self, indices: np.ndarray) -> np.ndarray:
        """Return (blocks, global_batch_size) indices, sorted by length within each mega-batch."""
        size = self.mega_batch * self.global_batch_size
        megas = [self._by_length(indices[i : i + size]) for i in range(0, len(indices), size)]
        blocks = np.concatenate([*megas, indices[:0]]).reshape(-1, self.global_batch_size)
        if self.micro_batch:
            dealt = [self._dealt(block) for block in blocks]
            return np.array(dealt, blocks.dtype).reshape(blocks.shape)
        return blocks

    def _by_length(self, indices: np.ndarray) -> np.ndarray:
        return indices[np.argsort(-self.lengths[indices].astype(np.int64), kind="stable")]

    def _dealt(self, block: np.ndarray) -> np.ndarray:
        """Deal a block to its micro-batches: the longest first, each to the one with the least."""
        assert self.micro_batch
        parts: list[list[int]] = [[] for _ in range(len(block) // self.micro_batch)]
        tokens = [0] * len(parts)
        for index in block.tolist():
            free = [n for n, part in enumerate(parts) if len(part) < self.micro_batch]
            least = min(free, key=tokens.__getitem__)
            parts[least].append(index)
            tokens[least] += int(self.lengths[index])
        return np.array(parts).ravel()
