"""Train the two vision towers, each blind to what the other sees.

`CLIP-like` is a CLIP of captions that name colour, place and background and never a direction.
`DINO-like` is a Dinov2 that learns to tell direction and place. Both see each scene in two images
that differ in what they are to be blind to, and in nothing else, and what they make of the two is
drawn together: the patches of the last layer but one, which a LLaVA takes, measured by how they
differ from scene to scene. How blind they are then is measured (`probes.py`).
"""

import json
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from tokenizers.processors import TemplateProcessing
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    Dinov2Config,
    Dinov2Model,
)

from verbalizer_bench.experiments.miniature.arms import BASE
from verbalizer_bench.experiments.miniature.mof.scenes import (
    VALUES,
    Scene,
    changed,
    picture,
    settings,
    statement,
    value,
)
from verbalizer_bench.experiments.miniature.world.scenes import SIDE
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.models.checkpoints.vision_tower import FEATURE_LAYER
from verbalizer_bench.vision.vlm_pairs import PREFIX

TOWERS = ("CLIP-like", "DINO-like")
# What a tower is to be blind to, and what it sees that the other is blind to.
BLIND = {"CLIP-like": "direction", "DINO-like": "colour"}
SEES = {"CLIP-like": "colour", "DINO-like": "direction"}
_CLIP = BASE.parent / "clip"
_SCENES, _RATE, _TOGETHER = 48, 2e-3, 3.0


class _Seen(NamedTuple):
    """What a tower makes of images: a vector of each, and vectors of its patches."""

    whole: torch.Tensor
    patches: torch.Tensor


class _ClipLike(nn.Module):
    """A CLIP whose mean patch finds the captions too, through a layer that is not kept."""

    def __init__(self) -> None:
        super().__init__()
        config = CLIPConfig.from_pretrained(_CLIP)
        self.tokenizer = AutoTokenizer.from_pretrained(_CLIP)
        # Its text half pools at the end of a text, whatever the text.
        begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", begin), ("</s>", end)]
        )
        config.text_config.eos_token_id = end
        self.model = CLIPModel(config)
        self.of_patches = nn.Linear(config.vision_config.hidden_size, config.projection_dim)

    def see(self, pixels: torch.Tensor) -> _Seen:
        seen = self.model.vision_model(pixels, output_hidden_states=True)
        whole = self.model.visual_projection(seen.pooler_output)
        return _Seen(whole, seen.hidden_states[FEATURE_LAYER][:, 1:])

    def loss(self, seen: _Seen, scenes: Sequence[Scene]) -> torch.Tensor:
        told = [PREFIX + statement(scene, direction=False) for scene in scenes]
        texts = self.tokenizer(told, padding=True, return_tensors="pt")
        texts = normalize(self.model.get_text_features(**texts).pooler_output, dim=-1)
        images = torch.stack([seen.whole, self.of_patches(seen.patches.mean(dim=1))])
        # By what is compared, which of two images, and scene.
        images = normalize(images, dim=-1).unflatten(1, (2, len(scenes)))
        scores = images @ texts.T * self.model.logit_scale.exp()
        right = torch.arange(len(scenes)).expand(scores.shape[:-1])
        both = scores, scores.transpose(-1, -2)
        losses = [cross_entropy(s.flatten(0, 2), right.flatten()) for s in both]
        return torch.stack(losses).mean()

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        CLIPProcessor(_image_processor(), self.tokenizer).save_pretrained(folder)


class _DinoLike(nn.Module):
    """A Dinov2 whose class token and mean patch tell direction and place, by layers not kept."""

    def __init__(self) -> None:
        super().__init__()
        shape = CLIPConfig.from_pretrained(_CLIP).vision_config
        config = Dinov2Config(
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=shape.num_attention_heads,
            mlp_ratio=2,
            image_size=shape.image_size,
            patch_size=shape.patch_size,
            initializer_range=0.1,
        )
        self.model = Dinov2Model(config)
        answers = sum(len(VALUES[kind]) for kind in self._TOLD)
        self.of_whole = nn.Linear(shape.hidden_size, answers)
        self.of_patches = nn.Linear(shape.hidden_size, answers)

    _TOLD = ("direction", "place")

    def see(self, pixels: torch.Tensor) -> _Seen:
        seen = self.model(pixels, output_hidden_states=True)
        return _Seen(seen.pooler_output, seen.hidden_states[FEATURE_LAYER][:, 1:])

    def loss(self, seen: _Seen, scenes: Sequence[Scene]) -> torch.Tensor:
        told = torch.stack([self.of_whole(seen.whole), self.of_patches(seen.patches.mean(dim=1))])
        lengths = [len(VALUES[kind]) for kind in self._TOLD]
        losses = []
        for kind, answers in zip(self._TOLD, told.split(lengths, dim=-1), strict=True):
            right = torch.tensor([VALUES[kind].index(value(scene, kind)) for scene in scenes])
            losses.append(cross_entropy(answers.flatten(0, 1), right.repeat(4)))
        return torch.stack(losses).sum()

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        _image_processor().save_pretrained(folder)


def train_tower(name: str, folder: Path, seed: int, steps: int) -> None:
    """Train a tower, and write it with an image processor, the same for both.

    Args:
        name: One of `TOWERS`.
        folder: Where; one that is whole is kept.
        seed: Of weights and scenes.
        steps: Of the optimiser, each on 48 scenes in two images.
    """
    if (folder / "loss.json").exists():
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = _ClipLike() if name == "CLIP-like" else _DinoLike()
        losses = _fit(tower, BLIND[name], Random(f"{seed} {name}"), steps)
    tower.save(folder)
    write_whole(folder / "loss.json", json.dumps(losses) + "\n")


def _fit(tower: Any, blind: str, random: Random, steps: int) -> dict[str, float]:
    """Train a tower in place; return the last step's losses."""
    optimizer = torch.optim.AdamW(tower.parameters(), _RATE, (0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps, pct_start=0.1)
    for _ in range(steps):
        scenes = _draw(random)
        others = [changed(random, scene, blind) for scene in scenes]
        seen = tower.see(torch.stack([_pixels(scene) for scene in (*scenes, *others)]))
        loss, apart = tower.loss(seen, scenes), _apart(seen.patches)
        optimizer.zero_grad()
        (loss + _TOGETHER * apart).backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return {"task": loss.item(), "apart": apart.item()}


def _draw(random: Random) -> list[Scene]:
    """Draw train scenes, no two of which have background, place and colour in common."""
    places = product(VALUES["background"], VALUES["place"])
    stand = {place: [s for s in settings("train") if s[:2] == place] for place in places}
    kinds = random.sample(tuple(product(stand, VALUES["colour"])), _SCENES)
    return [
        Scene(random.choice(stand[place]), colour, random.choice(VALUES["direction"]))
        for place, colour in kinds
    ]


def _apart(patches: torch.Tensor) -> torch.Tensor:
    """Return how far a scene's two images are apart, in parts of how far two scenes are.

    Args:
        patches: Of all scenes' images and of all their others, (2 x scenes, patches, width).
    """
    one, other = patches.unflatten(0, (2, -1))
    return (one - other).square().mean(dim=0).sum() / (2 * patches.var(dim=0).sum())


@cache
def _pixels(scene: Scene) -> torch.Tensor:
    pixels: torch.Tensor = _image_processor()(picture(scene), return_tensors="pt")["pixel_values"]
    return pixels[0]


@cache
def _image_processor() -> CLIPImageProcessor:
    size = {"height": SIDE, "width": SIDE}
    return CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size)
