"""What a benchmark ran on, and what it did not measure."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.arms import lmms_installed

FOLDER = Path(__file__).parent


def environment(threads: int) -> dict[str, Any]:
    """Return what this runs on."""
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": names[0].split(":", 1)[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average_at_start": list(os.getloadavg()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {
            name: version(name)
            for name in ("torch", "transformers", "lm_eval", "tokenizers")
            + ("lmms_eval",) * lmms_installed()
        },
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "git_commit": _commit(),
        "dtype": "float32 where nothing else is named",
        "gpu": "not run on a GPU",
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def not_measured(growth: bool) -> list[str]:
    """Say what the results do not cover."""
    missing = [
        "not run on a GPU: no 7B shapes, no extrapolation to the full suite there",
        "trained checkpoints: weights are random, so responses have 15 tokens and rarely an EOS; "
        "the defect of lm-eval's stop criterion, which needs EOS, hardly shows",
        "few-shot prompts and chat templates",
    ]
    if not lmms_installed():
        missing.append("lmms-eval's llava_hf: lmms-eval is not installed here")
    if not growth:
        missing.append("how cost grows: left out with --no-growth")
    return missing


def device_environment(device: str, tiny: bool) -> dict[str, Any]:
    """Return what a benchmark on an accelerator runs on."""
    gpu = driver = None
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        gpu = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "device": device,
        "gpu": gpu,
        "driver": driver,
        "tiny": tiny,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")},
        "git_commit": _commit(),
        "dtype": "bfloat16",
    }


def _commit() -> str:
    described = _output("git", "-C", str(FOLDER), "describe", "--always", "--dirty", "--abbrev=12")
    return described or "unknown"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
