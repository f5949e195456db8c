"""What a report says of a served model's run."""

import pytest

from verbalizer_bench.results.schema import RunRecord
from verbalizer_bench.results.served import served_warnings


@pytest.mark.parametrize(("mode", "said"), [("white", 1), ("none", 0)])
def test_a_report_says_that_a_server_may_drop_an_image(mode: str, said: int) -> None:
    served = {"address": "http://127.0.0.1/v1", "model": "m", "protocol": "greedy"}
    record = RunRecord.model_validate({"image": {"mode": mode}, "served": served})
    warnings = served_warnings(record)
    assert [f"an image ({mode}) was sent" in text for text in warnings] == [True] * said
