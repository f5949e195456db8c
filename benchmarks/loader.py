"""What the loader of training data needs of memory, in a process of its own."""

import json
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.memory import reset_peak, status_mib
from benchmarks.training_data import RECIPES

# Distinct images, records of a batch, tokens of a record.
IMAGES, BATCH, TOKENS = 3_000, 8, 400


class FixedEncoder:
    """An encoder that takes no time: as many ids of any record, the first of them an image."""

    max_length = 1024

    def fingerprint(self) -> str:
        """Return what stands for the encoder in the cache's key."""
        return "fixed"

    def full_length(self, record: Any) -> int:
        """Return what is below `max_length`: nothing is cut."""
        return TOKENS + 15

    def encode(self, record: Any) -> Any:
        """Return made ids."""
        from verbalizer_bench.trainers.conversations.encoder import Encoded

        front = [3] * len(record.images)
        ids = [*front, *range(10, 10 + TOKENS - len(front))]
        return Encoded([min(token, 500) for token in ids], [True] * TOKENS, TOKENS + 15)


def loader_memory(records: int, batches: int, folder: Path) -> dict[str, Any]:
    """Return the peaks of building a data set of so many records and drawing random batches."""
    folder.mkdir()
    size = _write(records, folder)
    context = get_context("forkserver")
    context.set_forkserver_preload(["verbalizer_bench.trainers.train", __name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        measured: dict[str, Any] = pool.submit(_load, records, batches, folder).result()
    return {"records": records, "json_mib": size} | measured


def _write(records: int, folder: Path) -> float:
    """Write records as a stream, two in three with an image; return the file's MiB."""
    (folder / "images").mkdir()
    images = min(records, IMAGES)
    for number in range(images):
        colour = (number % 256, number // 256, 128)
        Image.new("RGB", (16, 16), colour).save(folder / "images" / f"{number}.png")
    with (folder / "records.json").open("w") as file:
        for number in range(records):
            image = number % 3 < 2
            question = ("<image>\n" if image else "") + f"What is {number}?"
            row: dict[str, Any] = {
                "id": str(number),
                "conversations": [
                    {"from": "human", "value": question},
                    {"from": "gpt", "value": f"It is the number {number}. " * 15},
                ],
            }
            row |= {"image": f"{number % images}.png"} if image else {}
            file.write(("," if number else "[") + json.dumps(row) + "\n")
        file.write("]")
    return (folder / "records.json").stat().st_size / 2**20


class _PeakMemory:
    """The highest resident and anonymous memory of this process in a block, in MiB (Linux).

    The kernel keeps the first; of the second samples are taken.
    """

    def __enter__(self) -> "_PeakMemory":
        reset_peak()
        self.anonymous, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.anonymous = max(self.anonymous, status_mib("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.anonymous = max(self.anonymous, status_mib("RssAnon"))
        self.resident = status_mib("VmHWM")


def _load(records: int, batches: int, folder: Path) -> dict[str, Any]:
    """Build, and draw batches in the order of training."""
    from transformers import AutoProcessor

    from verbalizer_bench.trainers.data.cache import build
    from verbalizer_bench.trainers.data.collator import Collator
    from verbalizer_bench.trainers.data.sampler import GroupedSampler

    processor = AutoProcessor.from_pretrained(RECIPES / "llava")
    collator = Collator(processor.image_processor, 0, 3, 16, folder / "images")
    started, before = time.perf_counter(), status_mib("VmRSS")
    with _PeakMemory() as peak:
        data = build(
            [folder / "records.json"],
            folder / "images",
            FixedEncoder(),
            skip_bad=False,
            cache=folder / "cache",
        )
        built = time.perf_counter()
        sampler = GroupedSampler(data.lengths, data.has_image, BATCH, 0)
        left = batches
        for epoch in count():
            sampler.set_epoch(epoch)
            order = sampler.order()
            for start in range(0, min(left * BATCH, len(order)), BATCH):
                collator(data.dataset.__getitems__(order[start : start + BATCH].tolist()))
                left -= 1
            if not left:
                break
    return {
        "rows_mib": (data.folder / "rows.arrow").stat().st_size / 2**20,
        "before_rss_mib": before,
        "peak_rss_mib": peak.resident,
        "peak_anonymous_mib": peak.anonymous,
        "build_seconds": built - started,
        "draw_seconds": time.perf_counter() - built,
    }
