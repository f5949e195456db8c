"""What TRL's trainers are given alike: learning rates of parts, weights to go on from."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from torch.distributed.fsdp import FSDPModule

from verbalizer_bench.models.checkpoints.model_parts import parameter_parts
from verbalizer_bench.models.checkpoints.strict_loading import load_whole
from verbalizer_bench.trainers.checkpoints.quantized import is_quantized
from verbalizer_bench.trainers.training.non_finite import FiniteTrainer

# How far log-probabilities of weights that are not trained yet may be from the model's own, in
# float32 and with rounding to bfloat16: a share of them, and nats. Far less than another head or
# scale of the logits makes.
NEAR, NEAR_BF16 = (1e-3, 1e-3), (0.2, 2.0)


class RecipeTrainer(FiniteTrainer):
    """A trainer of a language model, with or without a vision tower and a connector.

    Attributes:
        evaluation: Evaluates the trainer's model where its control asks for it.
    """

    evaluation: Callable[[Any], Mapping[str, float]]

    def __init__(self, learning_rates: Mapping[str, float], **kwargs: Any):
        """Set up TRL's trainer, which comes behind this class.

        Args:
            learning_rates: Of the parts (`MODEL_PARTS`) that have their own.
            kwargs: The sampler, and arguments of TRL's trainer.
        """
        self._learning_rates = learning_rates
        super().__init__(**kwargs)
        if is_quantized(self.base_model):
            _hold_trained_in_float32(self.model)
        self.base_model.register_forward_pre_hook(_gather_output_layer)

    @property
    def base_model(self) -> Any:
        """Return the model without its adapter's wrapper."""
        return _without_wrapper(self.model)

    @contextmanager
    def lending(self) -> Iterator[Any]:
        """Yield the model without what only training puts into it."""
        yield self.base_model

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate between two steps, before a state is saved."""
        self.control.should_evaluate = False
        return dict(self.evaluation(self))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights that training goes on from.

        Trainer of transformers 5.23 reads the file's names as they are, but a LLaVA is saved under
        others than its own: with a warning, it would go on from the weights before training.
        """
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        model = self.model if model is None else model
        if sharded or isinstance(model, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        # Not "auto", which is the type of whichever weight comes first.
        what = f"resume_from_checkpoint={resume_from_checkpoint}"
        saved = load_whole(type(model), resume_from_checkpoint, what, dtype=torch.float32)
        model.load_state_dict(saved.state_dict())

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW, with separate parameter groups for parts that have their own rate."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if not self._learning_rates:
            return optimizer
        model = _without_wrapper(self.model if model is None else model)
        parts, weights = parameter_parts(model), dict(model.named_parameters())
        for part, rate in self._learning_rates.items():
            own = {id(weights[name]) for name, kind in parts.items() if kind == part}
            for group in list(optimizer.param_groups):
                moved = [weight for weight in group["params"] if id(weight) in own]
                if moved:
                    group["params"] = [w for w in group["params"] if id(w) not in own]
                    optimizer.add_param_group(group | {"params": moved, "lr": rate})
        return optimizer


def _without_wrapper(model: Any) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _hold_trained_in_float32(model: PeftModel) -> None:
    """Undo that TRL rounds what is trained on a quantised base to bfloat16: small updates are lost.

    The weights of a connector, which was rounded too, are taken from the copy that PEFT keeps; of
    an adapter's that are random at the start the rounding changes nothing.
    """
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            for copy in module.modules_to_save.values():
                copy.float().load_state_dict(module.original_module.state_dict())
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def _gather_output_layer(model: Any, _: Any) -> None:
    """Have FSDP2 gather the output layer before a forward pass, as if it was called in it.

    TRL 1.16 multiplies by its weights instead, and where they are spread gathers them in a way
    whose gradient is that of one process's samples: in a LLaVA, where accelerate wraps the layer by
    itself.
    """
    layer = model.get_output_embeddings()
    if isinstance(layer, FSDPModule):
        layer.unshard()
