"""Group prompts by what they share in front: token ids in, groups out, pure Python.

Prompts of one data set and verbalizer share BOS, chat preamble, image and instruction; all prompts
share what comes before the instruction. Common prefixes are found on token ids, so a merge across
the border of two texts cannot make them wrong.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

# From so many saved tokens on another prefix is worth its pass through the model.
_MIN_SAVED_TOKENS = 32


class PrefixGroup(NamedTuple):
    """Prompts with a common prefix.

    Attributes:
        prefix: The tokens that the members share; each member has at least one more.
        members: Indices into the sequences that were grouped, shortest first.
    """

    prefix: tuple[int, ...]
    members: tuple[int, ...]


def common_prefix_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two sequences share in front."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


def group_by_prefix(sequences: Sequence[Sequence[int]]) -> list[PrefixGroup]:
    """Group sequences by a long common prefix.

    Sorted, sequences that share a prefix stand in a row, and what a row shares is what its first
    and last share. A row is cut where its neighbours share least, as long as the longer prefixes of
    the parts save more tokens than they cost. Groups are in the order of their tokens: the prefix
    of one shares as much as possible with that of the one before.

    Args:
        sequences: Token ids, none empty.
    """
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    shared = [common_prefix_length(sequences[a], sequences[b]) for a, b in pairwise(order)]
    groups = []
    for start, stop in _split(shared, 0, len(order)):
        members = order[start:stop]
        # The last token of a prompt is never in the prefix: its hidden state gives the next token.
        limit = min(len(sequences[i]) for i in members) - 1
        length = min([*shared[start : stop - 1], limit])
        members.sort(key=lambda i: len(sequences[i]))
        groups.append(PrefixGroup(tuple(sequences[members[0]][:length]), tuple(members)))
    return groups


def _split(shared: Sequence[int], start: int, stop: int) -> list[tuple[int, int]]:
    """Split a row of sorted sequences at its lowest neighbours, while that saves tokens."""
    if stop - start < 2:
        return [(start, stop)]
    lowest = min(shared[start : stop - 1])
    cuts = [i + 1 for i in range(start, stop - 1) if shared[i] == lowest]
    parts = list(zip([start, *cuts], [*cuts, stop], strict=True))
    saved_tokens = 0
    for first, last in parts:
        if last - first > 1:
            # Its members would not repeat these tokens, but the group pays for them once.
            saved_tokens += (min(shared[first : last - 1]) - lowest) * (last - first - 1)
    if saved_tokens < _MIN_SAVED_TOKENS * len(parts):
        return [(start, stop)]
    return [piece for first, last in parts for piece in _split(shared, first, last)]
