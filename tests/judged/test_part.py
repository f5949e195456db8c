import pytest

from verbalizer_bench.judged.record import TITLES, WHOLE, part_warning


@pytest.mark.parametrize("benchmark", TITLES)
def test_fewer_questions_are_not_the_benchmark(benchmark: str) -> None:
    whole = WHOLE[benchmark]
    assert part_warning(benchmark, 3) == [f"3 of {whole} questions: not the benchmark"]
    assert part_warning(benchmark, whole) == []
