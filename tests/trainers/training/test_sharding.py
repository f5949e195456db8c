"""The tiny recipes are trained under FSDP2, on two processes, and end where one process ends.

accelerate silently ignores FSDP on a CPU. Here one type of device is given to it for another, in
forked processes over gloo, so that everything else is as on GPUs: it reads fsdp2.yaml, wraps the
model and the optimiser, clips gradients, and gathers what is saved.
"""

import csv
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from accelerate import PartialState
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from tests.conftest import REPOSITORY
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256
from verbalizer_bench.trainers import train as training
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="on a GPU accelerate shards by itself"
)
PROCESSES = 2
SECONDS = 90
# Twelve steps of vit, on images and on text alone; eight of sft.
EPOCHS = {"vit": 1.0, "vit_lora": 0.5, "sft": 1.0}


class Made(NamedTuple):
    """A recipe that was trained by one process and by two.

    Attributes:
        recipe: What one process trained.
        one: Its output.
        two: The output of two processes.
        seen: What the model was just after training: of one process, then of each of the two.
    """

    recipe: Recipe
    one: Path
    two: Path
    seen: list[dict[str, Any]]


def seen_in(model: Any) -> dict[str, Any]:
    weights = dict(model.named_parameters())
    spread = [weight for weight in weights.values() if isinstance(weight, DTensor)]
    return {
        "weights": len(weights),
        "trained": sorted(name for name, weight in weights.items() if weight.requires_grad),
        "sharded": sum(
            weight.placements == (Shard(0),) and weight.device_mesh.size() == PROCESSES
            for weight in spread
        ),
        "elements": sum(weight.numel() for weight in weights.values()),
        "here": sum(weight.to_local().numel() for weight in spread),
        "wrapped": sorted(type(m).__name__ for m in model.modules() if isinstance(m, FSDPModule)),
    }


def watch(found: list[dict[str, Any]]) -> Callable[..., Any]:
    """Return `training.export` that looks at the model first."""
    export = training.export

    def watched(recipe: Any, checkpoint: Any, trainer: Any) -> Any:
        found.append(seen_in(trainer.model))
        return export(recipe, checkpoint, trainer)

    return watched


def environment(port: int) -> dict[str, str]:
    """Return what `accelerate launch` gives the processes that it starts."""
    words = ["--config_file", str(REPOSITORY / "recipes" / "accelerate" / "fsdp2.yaml")]
    arguments = launch_command_parser().parse_args([*words, "-m", "verbalizer_bench"])
    launched: dict[str, str] = prepare_multi_gpu_env(_validate_launch_command(arguments)[0])
    world = {"WORLD_SIZE": str(PROCESSES), "LOCAL_WORLD_SIZE": str(PROCESSES)}
    return launched | world | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def call_it_a_gpu() -> None:
    """Have accelerate shard on a CPU: it does so for types of device that it lists."""
    make = PartialState.__init__

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = made
    # This process was forked from one that may have trained already.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def child(rank: int, port: int, recipe: Recipe, folder: Path) -> None:
    """Train as one of the processes, and leave what it saw in the folder."""
    log = (folder / f"{rank}.log").open("w")
    os.dup2(log.fileno(), sys.stdout.fileno() if sys.stdout is sys.__stdout__ else 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    code, found = 1, []
    try:
        os.environ.update(environment(port) | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        torch.set_num_threads(1)
        call_it_a_gpu()
        training.export = watch(found)
        training.train(recipe)
        (folder / f"{rank}.json").write_text(json.dumps(found[0]))
        code = 0
    except Exception:
        traceback.print_exc()
    log.flush()
    # Neither pytest's exit nor the parent's.
    os._exit(code)


def train_sharded(recipe: Recipe, folder: Path) -> list[dict[str, Any]]:
    """Train in forked processes, which have imported everything; none outlives this."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = range(PROCESSES)
    processes = [context.Process(target=child, args=(r, port, recipe, folder)) for r in ranks]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.join()
    logs = "".join((folder / f"{rank}.log").read_text()[-2000:] for rank in ranks)
    assert [process.exitcode for process in processes] == [0] * PROCESSES, logs
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in ranks]


EVALUATED = ("evaluation.steps=4", "evaluation.tasks=[]", "early_stopping.metric=held_out_loss")
EVALUATED += ("early_stopping.keep=last", "early_stopping.patience=null")


def recipe_of(name: str, folder: Path, *overrides: str) -> Recipe:
    words = [
        f"num_train_epochs={EPOCHS[name]}",
        f"output={folder}",
        f"cache={folder.parent / 'cache'}",
    ]
    if name == "sft":
        held_out = folder.parent / "held_out.jsonl"
        held_out.write_text(json.dumps({"conversations": QUESTION}) + "\n")
        words += [f"held_out={held_out}", *EVALUATED]
    if name != "sft":
        words += ["model.path=null", f"model.config={REPOSITORY / 'recipes' / 'tiny' / 'llava'}"]
    return read_recipe(REPOSITORY / "recipes" / "tiny" / f"{name}.yaml", [*words, *overrides])


QUESTION = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "A girl named Lily."}]
Make = Callable[..., Made]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return what trains a tiny recipe once with one process and once with two.

    Overrides are for both; where `spread` is given, these are for the two processes only.
    """
    root = tmp_path_factory.mktemp("sharding")
    made: dict[tuple[str, ...], Made] = {}

    def train(name: str, *overrides: str, spread: tuple[str, ...] = ()) -> Made:
        key = (name, *overrides)
        if key not in made:
            folder = Path(tempfile.mkdtemp(dir=root))
            recipe = recipe_of(name, folder / "one", *overrides)
            seen: list[dict[str, Any]] = []
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(training, "export", watch(seen))
                training.train(recipe)
            other = recipe_of(name, folder / "two", *overrides, *spread)
            seen += train_sharded(other, folder / "processes")
            made[key] = Made(recipe, folder / "one", folder / "two", seen)
        return made[key]

    return train


def vit(make: Make) -> Made:
    """Return the recipe that the most is asked of: gradients accumulated, activations made anew."""
    return make("vit", spread=("per_device_batch_size=2", "gradient_checkpointing=true"))


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def model_of(folder: Path, name: str) -> Any:
    auto: Any = AutoModelForCausalLM if name.startswith("sft") else AutoModelForImageTextToText
    model, notes = auto.from_pretrained(folder, output_loading_info=True)
    assert not any(notes.values()), notes
    return model


@pytest.mark.parametrize("name", ["vit", "vit_lora", "sft"])
def test_every_weight_is_spread_and_the_same_ones_are_trained(make: Make, name: str) -> None:
    one, *two = (vit(make) if name == "vit" else make(name)).seen
    for rank in two:
        assert rank["sharded"] == rank["weights"] == one["weights"]
        assert rank["trained"] == one["trained"]
        assert rank["wrapped"].count("FSDPLlamaDecoderLayer") == 2
        # Of an odd number of rows one process has the larger half.
        assert rank["here"] / rank["elements"] == pytest.approx(0.5, abs=0.05)
    assert sum(rank["here"] for rank in two) == one["elements"] and not one["here"]


@pytest.mark.parametrize("name", ["vit", "vit_lora", "sft"])
def test_losses_and_weights_are_those_of_one_process(make: Make, name: str) -> None:
    made = vit(make) if name == "vit" else make(name)
    assert losses(made.two) == pytest.approx(losses(made.one), abs=1e-4)
    before = load(made.recipe).model.state_dict()
    one, two = (model_of(folder, name).state_dict() for folder in (made.one, made.two))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=0, atol=1e-5, msg=key)
    moved = {key for key in before if not torch.equal(before[key], two[key])}
    assert moved == {key for key in before if not torch.equal(before[key], one[key])}
    assert len(moved) >= 14


def test_the_held_out_loss_is_measured_while_weights_are_spread(make: Make) -> None:
    one, two = (list(csv.DictReader((folder / "curve.csv").open())) for folder in make("sft")[1:3])
    assert [row["step"] for row in one] == ["0", "4", "8"]
    for row, other in zip(one, two, strict=True):
        assert float(row["held_out_loss"]) == pytest.approx(float(other["held_out_loss"]), rel=1e-4)


def test_the_identity_and_the_tower_are_what_they_were(make: Make) -> None:
    made = vit(make)
    before, after = load(made.recipe).model.state_dict(), model_of(made.two, "vit").state_dict()
    weight = after["model.multi_modal_projector.linear_2.weight"]
    assert torch.equal(weight, torch.eye(len(weight)))
    assert not after["model.multi_modal_projector.linear_2.bias"].any()
    tower = [key for key in before if "vision_tower" in key]
    assert len(tower) > 30 and all(torch.equal(before[key], after[key]) for key in tower)


@pytest.mark.parametrize("name", ["vit", "vit_lora", "sft"])
def test_the_folder_is_a_stock_checkpoint(make: Make, name: str) -> None:
    made = vit(make) if name == "vit" else make(name)
    one, two = (load_file(folder / "model.safetensors") for folder in (made.one, made.two))
    assert {k: v.dtype for k, v in two.items()} == {k: v.dtype for k, v in one.items()}
    configs = [(folder / "config.json").read_text() for folder in (made.one, made.two)]
    assert configs[0] == configs[1]
    record = json.loads((made.two / "training.json").read_text())
    assert record["processes"] == PROCESSES
    assert record["weights"] == checkpoint_sha256(made.two)


def test_a_base_in_bfloat16_with_an_adapter_in_float32(make: Make) -> None:
    """Weights of two types in a layer: only those that are trained have to be of one."""
    made = make("vit_lora", "precision=bf16")
    assert losses(made.two) == pytest.approx(losses(made.one), abs=0.05)
    one, *two = made.seen
    assert all(rank["sharded"] == one["weights"] for rank in two)
    one, two = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in made[1:3])
    assert one.keys() == two.keys() and {value.dtype for value in two.values()} == {torch.float32}


class Stopped(Exception):
    """Stands for a kill."""


def test_resumed_training_goes_on(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = vit(make)
    recipe = recipe_of("vit", tmp_path / "out", "save_steps=4", f"cache={made.recipe.cache}")

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 10:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(TrainingProgressBar, "on_step_end", stop)
        with pytest.raises(AssertionError, match="Stopped"):
            train_sharded(recipe, tmp_path / "first")
    # What one process has written of the newest state is cut off: the one before is whole.
    random = tmp_path / "out" / "state" / "checkpoint-8" / "rng_state_1.pth"
    random.write_bytes(random.read_bytes()[: random.stat().st_size // 2])
    train_sharded(read_recipe(tmp_path / "out" / "recipe.yaml", ["resume=true"]), tmp_path / "next")
    assert losses(tmp_path / "out") == pytest.approx(losses(made.two), abs=1e-4)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert [one["from_step"] for one in record["attempts"]] == [0, 4]
    assert record["weights"] == checkpoint_sha256(tmp_path / "out")
