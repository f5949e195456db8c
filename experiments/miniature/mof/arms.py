"""Train the arms of the study of mixtures: what is composed, aligned on captions, and tuned."""

from verbalizer_bench.experiments.miniature.arms import BASE, train_recipe
from verbalizer_bench.experiments.miniature.mof.grid import ADDITIVE, MofPlace, MofPoint
from verbalizer_bench.experiments.miniature.mof.towers import TOWERS
from verbalizer_bench.models.checkpoints.vision_tower import FEATURE_LAYER


def align(place: MofPlace, point: MofPoint) -> None:
    """Compose an arm of the base and its towers, and align its connectors, unless it was done."""
    assert point.seed is not None
    words = [f"model.llm={BASE}", *_towers(place, point.seed, point.arm)]
    words += [f"seed={point.seed}", "resume=true"]
    train_recipe("connector", place.world(point.seed), place.aligned(point), *words)


def tune(place: MofPlace, point: MofPoint) -> None:
    """Tune an arm whose connectors are aligned, unless it was done."""
    assert point.seed is not None
    world = place.world(point.seed)
    words = [f"model.path={place.aligned(point)}", f"learning_rate={point.rate}"]
    words += [f"held_out={world / 'choose' / 'fovit.json'}", f"seed={point.seed}", "resume=true"]
    train_recipe("lvlm_fovit", world, place.checkpoint(point), *words)


def _towers(place: MofPlace, seed: int, arm: str) -> list[str]:
    """Return the overrides that name an arm's towers, and how they are mixed."""
    if arm in TOWERS:
        return [f"model.vision_tower={place.tower(seed, arm)}"]
    first, second = (place.tower(seed, name) for name in TOWERS)
    # The layer whose features the tower was trained with, and which it has alone.
    mixed = [f"model.second.tower={second}", f"model.second.layer={FEATURE_LAYER}"]
    if arm.startswith(ADDITIVE):
        mixed += ["model.second.mixture=additive"]
        mixed += [f"model.second.alpha={arm.removeprefix(ADDITIVE)}"]
    else:
        mixed += [f"model.second.mixture={arm.lower()}"]
    return [f"model.vision_tower={first}", *mixed]
