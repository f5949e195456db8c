import numpy as np
import pytest

from verbalizer_bench.results.means import FEWEST, mean_of


def test_one_question_a_category_is_not_certain() -> None:
    """A category of one question has no variance of its own, and the mean of three has some."""
    few = mean_of({"writing": [[2, 4]], "math": [[9, 9]], "stem": [[1, 2]]})
    assert (few.value, few.record()["interval"]) == (4.5, None)
    assert str(few) == "4.50 (3 questions: too few for an interval)"
    many = {str(number): [[float(number)]] for number in range(1, 11)}
    together = mean_of({"all": [row for rows in many.values() for row in rows]})
    alone = mean_of(many)
    assert alone == together
    assert alone.low < 4.5 and alone.high > 6.5


def test_large_categories_are_drawn_apart() -> None:
    """What differs between categories of enough questions is no uncertainty."""
    rows = [[float(number)] for number in range(FEWEST)]
    apart = mean_of({"low": rows, "high": [[100 + value] for [value] in rows]})
    assert apart.high - apart.low < 5


@pytest.mark.parametrize("count", [1, FEWEST, 80])
def test_questions_all_alike_have_no_interval(count: int) -> None:
    mean = mean_of({"all": [[7.0]] * count})
    assert np.isnan(mean.low) and np.isnan(mean.high)
    why = "1 question: too few" if count == 1 else f"{count} questions: all alike"
    assert str(mean) == f"7.00 ({why} for an interval)"
