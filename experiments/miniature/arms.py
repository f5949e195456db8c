"""The checkpoints of the miniature: how each is trained from a base, and how it is scored."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from verbalizer_bench import api
from verbalizer_bench.experiments.asking import run_suite

if TYPE_CHECKING:
    from verbalizer_bench.results.run import Run

ALIGNED = "LVLM-aligned"
BASE = Path(__file__).parent / "recipes" / "base"


class Arm(NamedTuple):
    """A tuned checkpoint.

    Attributes:
        recipe: Its name in `recipes`.
        adapter: What asks it.
        data: Its kind of records, a file of each split of a world.
    """

    recipe: str
    adapter: str
    data: str


ARMS = {
    "LLM-FOIT": Arm("llm_foit", "verbalizer-llm", "foit"),
    "LLM-NoFOIT": Arm("llm_nofoit", "verbalizer-llm", "nofoit"),
    "LVLM-FOVIT": Arm("lvlm_fovit", "verbalizer-lvlm", "fovit"),
    "LVLM-NoFOVIT": Arm("lvlm_nofovit", "verbalizer-lvlm", "nofovit"),
    "LVLM-LLaVA": Arm("lvlm_llava", "verbalizer-lvlm", "llava"),
}


def train_recipe(name: str, world: Path, output: Path, *overrides: str) -> Path:
    """Train one of the miniature's recipes on the data of a world.

    Args:
        name: Its name in `recipes`.
        world: What `world` wrote.
        output: The checkpoint's folder.
        overrides: key=value.

    Returns:
        The checkpoint's folder.
    """
    from verbalizer_bench.trainers.recipe import read_recipe

    shipped = read_recipe(f"miniature/{name}")
    data = [str(world / Path(file).relative_to("data/miniature")) for file in shipped.data]
    words = [f"data={json.dumps(data)}", f"output={output}", f"cache={output.parent / 'cache'}"]
    if shipped.images:
        words.append(f"images={world / 'images'}")
    return api.train(f"miniature/{name}", *words, *overrides).path


def train_connector(world: Path, base: Path, tower: Path, output: Path, *overrides: str) -> Path:
    """Compose a LLaVA of a base and a tower, and align its connector."""
    parts = (f"model.llm={base}", f"model.vision_tower={tower}")
    return train_recipe("connector", world, output, *parts, *overrides)


def prepare_cell(
    seed: int,
    world: Path,
    tower: Path,
    connectors: Mapping[Path, Path],
    items: dict[str, int],
    captions: int | None,
) -> None:
    """Write a tuning seed's world, and train its tower and a LLaVA of each base.

    Args:
        seed: Of what is drawn, and of the trainings.
        world: Where the world goes.
        tower: Where the tower goes; where it is, the world is not written again.
        connectors: Of each base, where the LLaVA goes whose connector is aligned.
        items: How many instruction items each split has.
        captions: Captions that tower and connector are trained on; None for one a scene.
    """
    from verbalizer_bench.experiments.miniature.world.build import write_world

    if not tower.exists():
        write_world(world, seed, items=items, stages=(), texts=2, captions=captions)
    overrides = (f"seed={seed}", "resume=true")
    train_recipe("tower", world, tower, *overrides)
    for base, output in connectors.items():
        train_connector(world, base, tower, output, *overrides)


def train_arm(
    name: str, world: Path, base: Path, connector: Path, output: Path, *overrides: str
) -> Path:
    """Tune an arm: a text model from the base, the others from the LLaVA with its connector."""
    arm = ARMS[name]
    start = base if arm.adapter == "verbalizer-llm" else connector
    return train_recipe(arm.recipe, world, output, f"model.path={start}", *overrides)


def score(
    checkpoint: Path, adapter: str, data: Path, output: Path, log: Path, image: str | None = None
) -> "Run":
    """Run the 108 tasks on a folder of stand-ins, with 10 beams.

    Args:
        checkpoint: A checkpoint folder.
        adapter: `verbalizer-llm` or `verbalizer-lvlm`.
        data: A folder for `--data`.
        output: Where the run goes.
        log: The file that lm-eval's tables go to.
        image: What `verbalizer-lvlm` shows; None for its own choice, white.
    """
    shown = {"image": image} if image else {}
    return run_suite({"pretrained": checkpoint, **shown}, adapter, log, output=output, data=data)


def ask_mmvp(checkpoint: Path, output: Path, log: Path) -> "Run":
    """Ask an LVLM MMVP's sample, by the paper's prompt and greedily.

    Args:
        checkpoint: A checkpoint folder.
        output: Where the run goes.
        log: The file that lm-eval's tables go to.
    """
    model_args, tasks = {"pretrained": checkpoint}, "mmvp_options"
    return run_suite(model_args, "verbalizer-lvlm", log, output=output, data="sample", tasks=tasks)
