"""Beams that branch share slots; a slot that no beam sees is used again."""

import torch

from verbalizer_bench.models.engine.attention import Prefix, SharedPrefixCache

HEADS, SIZE = 2, 4


def visible_values(cache: SharedPrefixCache, prompt: int, beam: int) -> list[float]:
    """Return what a beam sees, by the number that each token's key was made of."""
    key = cache.slots[0][0][0, prompt, :, 0]
    return sorted(key[cache.visible[prompt, beam]].tolist())


def put(cache: SharedPrefixCache, numbers: torch.Tensor) -> None:
    """Store keys of (rows, tokens) numbers."""
    key = numbers[:, None, :, None].expand(-1, HEADS, -1, SIZE).float()
    cache.update(0, key, key)


def test_beams_see_their_own_history_and_slots_are_used_again() -> None:
    lengths, beams = torch.tensor([2, 3]), 2
    cache = SharedPrefixCache(Prefix(0, {}), lengths, beams)
    for row, numbers in enumerate(([1, 2], [3, 4, 5])):
        cache.begin_prefill(row, row + 1, len(numbers))
        put(cache, torch.tensor([numbers]))
    histories = [[[1, 2], [1, 2]], [[3, 4, 5], [3, 4, 5]]]
    generator = torch.Generator().manual_seed(0)
    number = 10
    for step in range(60):
        # Now and then beams stay apart for long, so that more slots than at first are needed.
        apart = torch.arange(beams).repeat(2, 1)
        same = torch.randint(beams, (2, 1), generator=generator).expand(2, beams)
        parents = same if step % 25 == 24 else apart
        newest = number + torch.arange(2 * beams).view(2, beams)
        number += 2 * beams
        cache.begin_decode(parents)
        put(cache, newest.view(-1, 1))
        histories = [
            [
                [*histories[prompt][int(parents[prompt, beam])], int(newest[prompt, beam])]
                for beam in range(beams)
            ]
            for prompt in range(2)
        ]
        for prompt in range(2):
            for beam in range(beams):
                assert visible_values(cache, prompt, beam) == histories[prompt][beam]
    # 60 steps of two beams fit fewer slots than 120 new tokens would take.
    assert cache.visible.shape[2] < 3 + 120
    cache.keep(torch.tensor([1]))
    assert visible_values(cache, 0, 1) == histories[1][1]


def test_queries_go_to_prompts_and_come_back_in_their_place() -> None:
    cache = SharedPrefixCache(Prefix(0, {}), torch.tensor([2, 2, 2]), beams=4)
    cache.begin_decode(torch.zeros(3, 4, dtype=torch.long))
    query = torch.randn(12, 6, 1, SIZE)
    by_prompt = cache.group_queries(query, key_heads=HEADS)
    assert by_prompt.shape == (HEADS, 3, 4 * 3, SIZE)
    # Beam 2 of prompt 1, head 4: the second of the three heads of key head 1.
    assert torch.equal(by_prompt[1, 1, 2 * 3 + 1], query[1 * 4 + 2, 4, 0])
    assert torch.equal(cache.ungroup(by_prompt, 12, 6), query.transpose(1, 2))
    bias = cache.bias(None, 4 * 3, query)
    assert (bias.prefix, bias.suffix.shape) == (None, (3, 12, cache.visible.shape[2]))
