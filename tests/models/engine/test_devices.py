"""The engine on one and on two devices that are simulated: nothing is mixed, nothing is otherwise.

This finds what a GPU would refuse; it does not say that a GPU's kernels do the same.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.simulated_devices import available

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    if not available():
        pytest.skip("this torch has no backends in Python")
    # In a process of its own: a backend is registered for good.
    run = subprocess.run(
        [sys.executable, "-m", "tests.models.engine.devices_script"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    results: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return results


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("devices", ["one", "two"])
def test_responses_and_scores_are_those_of_the_cpu(
    found: dict[str, Any], devices: str, dtype: str
) -> None:
    assert found[f"{devices}, {dtype}"]


def test_a_step_waits_for_the_device_as_seldom_as_it_can(found: dict[str, Any]) -> None:
    """Are logits finite, is a prompt done, is a slot free; and transformers looks at positions."""
    assert found["waits"] <= 4
