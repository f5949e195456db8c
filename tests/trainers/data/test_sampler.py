"""The order of an epoch: blocks, seeds, and the same steps on any number of processes."""

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, DataLoader

from verbalizer_bench.trainers.data.sampler import GroupedSampler, SeededSampler, permutation


def made_data(images: int, texts: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    has_image = np.arange(images + texts) % (images + texts) < images
    generator.shuffle(has_image)
    return generator.integers(10, 2000, images + texts, np.int32), has_image


def test_the_permutation_is_pinned() -> None:
    """PCG64's raw words are numpy's promise; this is what they sort to."""
    assert permutation(8, 0, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert sorted(permutation(1000, 3, 1)) == list(range(1000))
    assert permutation(0, 1).tolist() == []


def test_an_epoch_has_every_index_and_another_order() -> None:
    lengths, has_image = made_data(500, 311)
    for sampler, size in (
        (SeededSampler(811, 16, 5), 816),
        (GroupedSampler(lengths, has_image, 16, 5), 512 + 320),
    ):
        first, again = list(sampler), list(sampler)
        sampler.set_epoch(1)
        second = list(sampler)
        assert len(sampler) == len(first) == len(second) == size
        assert set(first) == set(second) == set(range(811))
        assert first == again != second
    assert list(SeededSampler(811, 16, 6)) != list(SeededSampler(811, 16, 5))
    grouped = [GroupedSampler(lengths, has_image, 16, seed) for seed in (5, 5, 6)]
    assert list(grouped[0]) == list(grouped[1]) != list(grouped[2])


def test_blocks_are_full_of_one_modality_and_of_similar_length() -> None:
    lengths, has_image = made_data(1650, 1330)
    order = np.array(list(GroupedSampler(lengths, has_image, 16, 0, "length")))
    # 1650 = 103 x 16 + 2, 1330 = 83 x 16 + 2: fourteen of each modality are seen twice.
    blocks = order.reshape(104 + 84, 16)
    assert all(len(set(has_image[block])) == 1 for block in blocks)
    seen = np.bincount(order)
    assert [int(np.sum(seen[has_image == kind] - 1)) for kind in (True, False)] == [14, 14]
    assert seen.max() == 2
    kinds = has_image[blocks[:, 0]]
    assert kinds.sum() == 104
    assert 40 < np.count_nonzero(kinds[1:] != kinds[:-1]) < 150
    # 800 lengths sorted, of 2,000: 16 of them span some 40, unsorted ones some 1,750.
    assert np.median(np.ptp(lengths[blocks], axis=1)) < 100
    means = lengths[blocks].mean(axis=1)
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25


def test_blocks_of_modality_alone_are_of_any_length() -> None:
    lengths, has_image = made_data(1650, 1330)
    order = np.array(list(GroupedSampler(lengths, has_image, 16, 0)))
    blocks = order.reshape(104 + 84, 16)
    assert all(len(set(has_image[block])) == 1 for block in blocks)
    # In the order of length, so that micro-batches need little padding.
    assert all((np.diff(lengths[block]) <= 0).all() for block in blocks)
    # 16 of 2,000 lengths span 15 / 17 of them.
    assert 1650 < np.median(np.ptp(lengths[blocks], axis=1)) < 1850


def weight_of_short(order: np.ndarray, answers: np.ndarray, global_batch_size: int) -> float:
    """Return what share of the loss short answers have: a step's loss is a mean over its tokens."""
    blocks = answers[order].reshape(-1, global_batch_size)
    short = np.where(blocks == answers.min(), blocks, 0).sum(axis=1)
    return float((short / blocks.sum(axis=1)).mean())


def test_what_short_answers_weigh() -> None:
    """Half of the answers have 2 tokens, half have 164: 2 / 166 is 0.012 of a mix.

    Sorted over 50 steps, nearly all steps are of one kind, and short answers weigh a half.
    """
    answers = np.tile([2, 164], 6400)
    prompts = np.full(12800, 600)
    with_images = np.ones(12800, bool)
    found = {
        group: weight_of_short(
            GroupedSampler(answers + prompts, with_images, 128, 0, group).order(), answers, 128
        )
        for group in ("modality", "length")
    }
    plain = weight_of_short(SeededSampler(12800, 128, 0).order(), answers, 128)
    assert found["modality"] == pytest.approx(2 / 166, abs=0.0005)
    assert plain == pytest.approx(2 / 166, abs=0.0005)
    assert found["length"] == pytest.approx(0.49, abs=0.02)


def test_micro_batches_are_dealt_evenly() -> None:
    """As LLaVA's: the longest first, each to the micro-batch with the fewest tokens so far.

    9 to the first, 8 to the second, 7 to the second (8 < 9, 15), 3 and 2 to the first (9, 12, 14),
    which is full; 1 to the second.
    """
    lengths = np.array([1, 2, 3, 7, 8, 9])
    images = np.ones(6, bool)
    order = GroupedSampler(lengths, images, 6, 0, "modality", micro_batch=3).order()
    assert lengths[order].tolist() == [9, 3, 2, 8, 7, 1]
    assert GroupedSampler(lengths, images, 6, 0).order().tolist() == [5, 4, 3, 2, 1, 0]


def test_what_is_seen_twice_changes_with_the_epoch() -> None:
    lengths = np.arange(103, dtype=np.int32)
    sampler = GroupedSampler(lengths, np.zeros(103, bool), 10, 0)
    twice = set()
    for epoch in range(40):
        sampler.set_epoch(epoch)
        twice.update(np.flatnonzero(np.bincount(list(sampler)) == 2).tolist())
    assert len(twice) > 70


def test_small_and_wrong_inputs() -> None:
    assert list(GroupedSampler(np.array([3]), np.array([True]), 8, 0)) == [0] * 8
    mixed = GroupedSampler(np.array([3, 9, 5]), np.array([False, True, False]), 2, 0)
    assert sorted(map(sorted, np.reshape(list(mixed), (2, 2)).tolist())) == [[0, 2], [1, 1]]
    with pytest.raises(ValueError, match="2 lengths and 1 in has_image"):
        GroupedSampler(np.array([1, 2]), np.array([True]), 4, 0)
    with pytest.raises(ValueError, match="global_batch_size=0"):
        GroupedSampler(np.array([1]), np.array([True]), 0, 0)
    with pytest.raises(ValueError, match="0 records"):
        SeededSampler(0, 4, 0)


def steps(
    sampler: SeededSampler, processes: int, micro: int, global_batch_size: int
) -> list[set[int]]:
    """Return the indices of each optimiser step, over all processes, as accelerate deals them."""
    shards = [
        list(BatchSamplerShard(BatchSampler(sampler, micro, False), processes, rank))
        for rank in range(processes)
    ]
    per_step = global_batch_size // micro // processes
    return [
        {index for shard in shards for batch in shard[i : i + per_step] for index in batch}
        for i in range(0, len(shards[0]), per_step)
    ]


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("micro", [2, 4])
def test_a_step_is_the_same_on_any_number_of_processes(grouped: bool, micro: int) -> None:
    lengths, has_image = made_data(101, 59)
    sampler = GroupedSampler(lengths, has_image, 16, 2) if grouped else SeededSampler(155, 16, 2)
    order = list(sampler)
    expected = [set(order[i : i + 16]) for i in range(0, len(order), 16)]
    assert len(expected) == 11 if grouped else 10
    assert all(steps(sampler, processes, micro, 16) == expected for processes in (1, 2, 4))


def test_accelerate_sets_the_epoch() -> None:
    from accelerate.data_loader import prepare_data_loader

    for processes in (1, 2):
        sampler = SeededSampler(32, 8, 0)
        loader = prepare_data_loader(
            DataLoader(list(range(32)), batch_size=4, sampler=sampler),
            num_processes=processes,
            process_index=0,
            put_on_device=False,
        )
        loader.set_epoch(3)
        assert sampler.epoch == 3
