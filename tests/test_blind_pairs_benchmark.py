"""The benchmark of blind pairs runs, and what it writes is whole. Its numbers mean nothing here."""

from benchmarks.blind_pairs import measure, render, spread


def test_it_finds_the_pairs_that_it_made() -> None:
    found = measure(400, 64, 64)
    # One in fifty has a near partner, of which half are far in the other tower.
    assert (found["near"], found["pairs"]) == (8, 4)
    case = {"vectors": 400, "memory": 64, "repetitions": 1, "rows_of_a_block": 64} | {
        key: spread([found[key]]) for key in ("wall", "cpu", "peak_mib")
    }
    machine = {"cpu": "c", "cores": 2, "load_average_at_start": [1.0], "versions": {"torch": "t"}}
    text = render({"width": 64, "environment": machine, "cases": [case | {"near": 8, "pairs": 4}]})
    assert "| 400     | 64" in text and "one core's work for" in text
