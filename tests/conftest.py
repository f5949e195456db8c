"""What the tests share: offline, small models made from a configuration, real data where it is."""

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Models here are tiny: threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("VERBALIZER_BENCH_DATA", None)

import pytest
from tqdm import tqdm


def own_lock_of_bars() -> None:
    """Have bars take turns by a lock of this process alone.

    tqdm's own lock is common to a process and its forks: a fork that is killed while it draws a bar
    leaves the lock taken, and every later bar of the others waits for ever. A fork gets a new one,
    since its parent's may have been taken by another thread, which the fork does not have.
    """
    tqdm.set_lock(threading.RLock())


own_lock_of_bars()
os.register_at_fork(after_in_child=own_lock_of_bars)

# A shell's background job ignores Ctrl-C, which tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]
# Seconds after which a process counts as stuck, on any machine; what a test says depends on none.
PATIENCE = 1800
SHARED = Path(os.environ.get("VERBALIZER_BENCH_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """Take back what a command, an adapter or another test's fixture set up of our log."""
    if utilities := sys.modules.get("lm_eval.utils"):
        # It sets up its own once a process.
        utilities._LOGGING_CONFIGURED = False
    for name in ("lm_eval", "verbalizer_bench"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder with the real rows of the nine data sets."""
    folder = SHARED / "data" / "verbalizer"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def stories() -> Path:
    """Return the folder of a real small Llama."""
    folder = SHARED / "models" / "stories260K-llama"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def smollm() -> Path:
    """Return the folder of SmolLM2-135M-Instruct."""
    from verbalizer_bench.models.checkpoints.smollm2 import is_whole, smollm_folder

    if not is_whole(smollm_folder()):
        pytest.skip(f"{smollm_folder()} is not there; `make smollm` makes it")
    return smollm_folder()


@pytest.fixture(scope="session")
def dinov2() -> Path:
    """Return the folder of a real DINOv2 ViT-S/14."""
    from benchmarks.dinov2 import model

    if not model().is_whole(model().folder()):
        pytest.skip(f"{model().folder()} is not there; `make dinov2` makes it")
    return model().folder()


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return folders of an untrained toy Llama and the toy LLaVA over it."""
    from tests.helpers.toy import make_llava, make_llm, make_tokenizer, records

    folder = tmp_path_factory.mktemp("toys")
    tokenizer = make_tokenizer([record.prompt for record in records()])
    llm = make_llm(tokenizer, seed=0)
    # Weights as they are initialised repeat the last token; larger ones answer each prompt its way.
    for weight in llm.parameters():
        if weight.dim() > 1:
            weight.data *= 12
    llm.save_pretrained(folder / "llama")
    tokenizer.save_pretrained(folder / "llama")
    llava, processor = make_llava(llm, tokenizer, seed=0)
    for weight in llava.model.multi_modal_projector.parameters():
        weight.data *= 12
    llava.save_pretrained(folder / "llava")
    processor.save_pretrained(folder / "llava")
    return folder / "llama", folder / "llava"


def write_set(folder: Path, **changes: Any) -> Path:
    """Write `_my_set.yaml` and its rows; `changes` replace keys of the YAML, None removes one."""
    import json

    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"remark": f"remark {i} is {'good' if i % 2 else 'bad'}", "kind": i % 2} for i in range(8)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config: dict[str, Any] = {
        "dataset": "my_set",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test",
        "label_column": "kind",
        "classes": {"good": 1, "bad": 0},
        "doc_to_text": 'Say "{{first}}" if it is good, "{{second}}" if it is bad.'
        "\n\n{{remark}}\nAnswer:",
        "metadata": {"version": 1.0},
    }
    config = {key: value for key, value in (config | changes).items() if value is not None}
    text = "class: !function verbalizer_bench.tasks.task.VerbalizerTask\n" + yaml.safe_dump(
        config, sort_keys=False
    )
    path = folder / f"_{config.get('dataset', 'my_set')}.yaml"
    path.write_text(text)
    return path


def comparable(output: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return what must be the same in runs that are to be identical: scores, and every response.

    Fields of the results file that are left out: dates, durations, host, paths.
    """
    import json

    (results,) = output.rglob("results_*.json")
    table = json.loads(results.read_text())
    rows = {
        file.name.partition("_2")[0]: sorted(
            file.read_text().splitlines(), key=lambda line: json.loads(line)["doc_id"]
        )
        for file in results.parent.glob("samples_*.jsonl")
    }
    return {key: table.get(key) for key in ("results", "groups", "n-samples", "task_hashes")}, rows
