"""Beams that branch share slots; a slot that no beam sees is used again."""

import torch

from verbalizer_bench.models.engine.attention import SharedPrefix

HEADS, SIZE = 2, 4


def visible_values(state: SharedPrefix, prompt: int, beam: int) -> list[float]:
    """Return what a beam sees, by the number that each token's key was made of."""
    key = state.slots[0][0][0, prompt, :, 0]
    return sorted(key[state.visible[prompt, beam]].tolist())


def put(state: SharedPrefix, numbers: torch.Tensor) -> None:
    """Store keys of (rows, tokens) numbers."""
    key = numbers[:, None, :, None].expand(-1, HEADS, -1, SIZE).float()
    state.store(0, key, key)


def test_beams_see_their_own_history_and_slots_are_used_again() -> None:
    lengths, beams = torch.tensor([2, 3]), 2
    state = SharedPrefix({}, lengths, beams)
    for row, numbers in enumerate(([1, 2], [3, 4, 5])):
        state.prompts(row, row + 1, len(numbers))
        put(state, torch.tensor([numbers]))
    histories = [[[1, 2], [1, 2]], [[3, 4, 5], [3, 4, 5]]]
    generator = torch.Generator().manual_seed(0)
    number = 10
    for step in range(60):
        # Now and then beams stay apart for long, so that more slots than at first are needed.
        apart = torch.arange(beams).repeat(2, 1)
        same = torch.randint(beams, (2, 1), generator=generator).expand(2, beams)
        origin = same if step % 25 == 24 else apart
        newest = number + torch.arange(2 * beams).view(2, beams)
        number += 2 * beams
        state.advance(origin)
        put(state, newest.view(-1, 1))
        histories = [
            [
                [*histories[prompt][int(origin[prompt, beam])], int(newest[prompt, beam])]
                for beam in range(beams)
            ]
            for prompt in range(2)
        ]
        for prompt in range(2):
            for beam in range(beams):
                assert visible_values(state, prompt, beam) == histories[prompt][beam]
    # 60 steps of two beams fit fewer slots than 120 new tokens would take.
    assert state.visible.shape[2] < 3 + 120
    state.keep(torch.tensor([1]))
    assert visible_values(state, 0, 1) == histories[1][1]


def test_queries_go_to_prompts_and_come_back_in_their_place() -> None:
    state = SharedPrefix({}, torch.tensor([2, 2, 2]), beams=4)
    state.advance(torch.zeros(3, 4, dtype=torch.long))
    query = torch.randn(12, 6, 1, SIZE)
    by_prompt = state.by_prompt(query, key_heads=HEADS)
    assert by_prompt.shape == (HEADS, 3, 4 * 3, SIZE)
    # Beam 2 of prompt 1, head 4: the second of the three heads of key head 1.
    assert torch.equal(by_prompt[1, 1, 2 * 3 + 1], query[1 * 4 + 2, 4, 0])
    assert torch.equal(state.by_row(by_prompt, 12, 6), query.transpose(1, 2))
    assert state.bias(4 * 3, torch.float32).shape == (3, 12, state.visible.shape[2])
