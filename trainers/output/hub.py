"""Push a finished checkpoint and its card to the hub, if the recipe says so."""

import shlex
from typing import Any

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from verbalizer_bench.trainers.recipe import Recipe

# What training goes on from, and what is about to be moved.
_LEFT_OUT = ("state/**", "lock", "*.part", "checkpoint.part/**", ".cache/**")


def unpushable(recipe: Recipe) -> str | None:
    """Return why a checkpoint could not be pushed, as far as that is known without a network."""
    name = recipe.push_to_hub
    if name is None:
        return None
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        return f"push_to_hub={name}: {' '.join(str(error).split())}"
    if constants.HF_HUB_OFFLINE:
        return (
            f"push_to_hub={name}: HF_HUB_OFFLINE=1 keeps the hub from being asked; unset it, or "
            "leave push_to_hub out and push later"
        )
    if not get_token():
        return (
            f"push_to_hub={name}: there is no token for the hub; `hf auth login`, or set HF_TOKEN "
            "to one that may write"
        )
    return None


def push(recipe: Recipe) -> str:
    """Upload an output folder without its states; return the address.

    Raises:
        ConnectionError: It could not be pushed; says how to push it later.
    """
    name = str(recipe.push_to_hub)
    try:
        api = HfApi()
        api.create_repo(name, private=recipe.hub_private_repo, exist_ok=True)
        done: Any = api.upload_folder(
            repo_id=name,
            folder_path=recipe.output,
            ignore_patterns=list(_LEFT_OUT),
            commit_message=f"Trained by verbalizer-bench, method {recipe.method}",
        )
    # The hub's client raises what its transport does, another one in each of its versions.
    except Exception as error:
        raise ConnectionError(
            f"push_to_hub={name}: {' '.join(str(error).split())}. The checkpoint is whole in "
            f"{recipe.output}; `{later(recipe)}` pushes it later"
        ) from error
    return str(getattr(done, "repo_url", None) or f"{constants.ENDPOINT}/{name}")


def later(recipe: Recipe) -> str:
    """Return the command that pushes a recipe's output."""
    private = ["--private"] if recipe.hub_private_repo else []
    left_out = [word for pattern in _LEFT_OUT for word in ("--exclude", pattern)]
    words = ["hf", "upload", str(recipe.push_to_hub), str(recipe.output), ".", *private, *left_out]
    return shlex.join(words)
