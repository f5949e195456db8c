"""Make a recipe's checkpoint; methods differ in what they train, and on what.

verbalizer-bench train recipes/tiny/vit.yaml

Loop, loss, distribution and adapters are TRL's, transformers', accelerate's and PEFT's; its
`SFTTrainer` or `DPOTrainer` is given encoded records, an order of them, and a second learning rate.
"""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from transformers import TrainerState
from trl import DPOConfig, SFTConfig

from verbalizer_bench.io.files import removed_if_empty
from verbalizer_bench.trainers.checkpoints.context import too_long
from verbalizer_bench.trainers.checkpoints.export import export
from verbalizer_bench.trainers.checkpoints.finite_weights import check_finite
from verbalizer_bench.trainers.checkpoints.load import Checkpoint, load
from verbalizer_bench.trainers.checkpoints.quantized import check_distribution
from verbalizer_bench.trainers.curve.evaluator import Evaluator
from verbalizer_bench.trainers.data.cache import TrainingData
from verbalizer_bench.trainers.data.pair_collator import PairRows
from verbalizer_bench.trainers.output.folder import OutputFolder
from verbalizer_bench.trainers.output.hub import push, unpushable
from verbalizer_bench.trainers.prerequisites import (
    missing_checkpoints,
    missing_files,
    missing_packages,
)
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training import state_saving
from verbalizer_bench.trainers.training.inputs import (
    held_out_data,
    make_collator,
    sample_order,
    training_data,
)
from verbalizer_bench.trainers.training.interruption import Interruption
from verbalizer_bench.trainers.training.memory_errors import memory_keys_named
from verbalizer_bench.trainers.training.reference import reference
from verbalizer_bench.trainers.training.resources import lacking_room
from verbalizer_bench.trainers.training.resume_states import ResumeState
from verbalizer_bench.trainers.training.schedule import check_schedule, check_steps, total_steps
from verbalizer_bench.trainers.training.trainer import (
    held_out_loss,
    make_trainer,
    training_arguments,
)

log = logging.getLogger(__name__)


def train(recipe: Recipe) -> Path:
    """Make a recipe's checkpoint; with torchrun or accelerate launch, on all processes.

    Returns:
        The checkpoint's folder.

    Raises:
        FileNotFoundError: Data or model are not there.
        ValueError: The output folder holds something else, the batch cannot be dealt to the
            processes, a record cannot be trained on, or the model is not the method's.
        MemoryError: There was too little memory; says which keys take less.
        ConnectionError: It is made, and could not be pushed to the hub.
        KeyboardInterrupt: It was interrupted, and a state is saved.
    """
    check_schedule(recipe)
    check_distribution(recipe)
    arguments = training_arguments(recipe)
    folder = OutputFolder(recipe, main=arguments.process_index == 0)
    if problem := unpushable(recipe):
        raise ValueError(problem)
    if not folder.finished:
        with memory_keys_named(recipe), warnings.catch_warnings():
            # PEFT asks transformers by a name that it has given up, at the start and at the end.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            _make(recipe, folder, arguments)
    if recipe.push_to_hub and folder.main:
        print(f"Pushed to {push(recipe)}", file=sys.stderr)
    return recipe.output


def _make(recipe: Recipe, folder: OutputFolder, arguments: SFTConfig | DPOConfig) -> None:
    packages, places = missing_packages(recipe), missing_checkpoints(recipe)
    if missing := [*packages, *places.values(), *missing_files(recipe)]:
        raise FileNotFoundError(missing[0])
    checkpoint = load(recipe)
    # Buffers too, which a base has and training leaves as they are.
    check_finite(checkpoint.model.state_dict(), "of the base, before training; give another one")
    # Processes wait for the one that encodes, hours if need be: no barrier, which would time out.
    data = training_data(recipe, checkpoint)
    held_out = held_out_data(recipe, checkpoint, data)
    folder.check_data(data)
    _check_data(recipe, checkpoint.model.config, data, held_out)
    if folder.main and (warning := lacking_room(recipe, checkpoint.model)):
        log.warning("%s", warning)
    with removed_if_empty(recipe.output), folder.held():
        _train(recipe, checkpoint, data, held_out, folder, arguments)


def _check_data(
    recipe: Recipe, config: Any, data: TrainingData, held_out: TrainingData | None
) -> None:
    """Refuse what can be known to go wrong once the records are encoded."""
    for name, records in (("data", data), ("held_out", held_out)):
        if records and (fault := too_long(config, records.lengths)):
            raise ValueError(f"{name}: {fault}")
    samples = len(sample_order(recipe, data.lengths, data.has_image))
    check_steps(recipe, data.has_image, total_steps(recipe, samples))


def _train(
    recipe: Recipe,
    checkpoint: Checkpoint,
    data: TrainingData,
    held_out: TrainingData | None,
    folder: OutputFolder,
    arguments: SFTConfig | DPOConfig,
) -> None:
    collator = make_collator(recipe, checkpoint)
    if isinstance(collator, PairRows):
        pairs = [data, held_out] if held_out else [data]
        stored = reference(recipe, checkpoint, pairs, collator, arguments)
        collator.reference, folder.reference = stored.logps, stored.record()
    state = folder.last_state()
    run = folder.start(checkpoint, data, arguments.world_size) if folder.main else folder.run
    trainer = make_trainer(recipe, checkpoint, data, arguments, collator)
    trainer.timer = state_saving.AttemptTimer(run)
    if state:
        trainer.timer = state_saving.AttemptTimer(run, state.record["attempts"], state.step)
        state_saving.restore_token_count(trainer, state.folder)
    evaluator = None
    if recipe.evaluation:
        evaluator = Evaluator(recipe, checkpoint, held_out, state.step if state else 0, folder.main)
        evaluator.attach(trainer)
    _run(trainer, state, evaluator)
    trainer.check_weights()
    loss = held_out_loss(trainer, held_out) if held_out else None

    def write() -> None:
        export(recipe, checkpoint, trainer)
        if folder.main:
            folder.finish(checkpoint, trainer, loss, evaluator)

    state_saving.write_or_keep(trainer, write, recipe.output, folder.places)


def _run(trainer: Any, state: ResumeState | None, evaluator: Evaluator | None) -> None:
    """Train, from a state if there is one, to the last step or where early stopping ends it."""
    verdict = evaluator.verdict if evaluator else None
    if state and verdict and verdict.stop:
        # It was stopped early before it was interrupted: a step more would be one too many.
        trainer.state = TrainerState.load_from_json(str(state.folder / "trainer_state.json"))
        trainer._load_from_checkpoint(str(state.folder))
    else:
        # Where evaluations end training, one that is made up for would end it a step late.
        interruption = Interruption(evaluates_first=verdict is not None)
        trainer.add_callback(interruption)
        with interruption.awaited():
            trainer.train(resume_from_checkpoint=str(state.folder) if state else None)
    if evaluator:
        evaluator.settle(trainer)
