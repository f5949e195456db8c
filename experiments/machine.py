"""Say on what machine numbers were made: another kind of processor rounds otherwise."""

import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> str:
    """Return what the sums of this machine's float32 depend on: processor and torch."""
    import torch

    return f"{processor()} ({torch.backends.cpu.get_cpu_capability()}), torch {torch.__version__}"
