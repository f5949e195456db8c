"""A real DINOv2 as the second tower beside a small CLIP: what it sees arrives, asked either way."""

import random
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoImageProcessor, AutoModel, CLIPImageProcessor, CLIPVisionConfig

from benchmarks.dinov2 import LAYER
from tests.helpers.asking_lvlm import load
from tests.helpers.mof import WIDE, crop, enlarge
from tests.helpers.processors import with_images
from tests.helpers.toy import TEMPLATE
from verbalizer_bench.models.checkpoints.compose import compose
from verbalizer_bench.models.checkpoints.connector import connectors
from verbalizer_bench.models.checkpoints.second_tower import SecondTower

pytestmark = pytest.mark.slow
COLOURS = [(220, 30, 30), (30, 180, 40), (40, 60, 220)]


def drawn(number: int) -> tuple[Image.Image, int, int]:
    """Return a coloured shape before a plain ground, and which shape and colour it has."""
    draw, shape, colour = random.Random(number), number % 3, number // 3 % 3
    ground = (draw.randrange(256), draw.randrange(256), draw.randrange(256))
    image = Image.new("RGB", (224, 224), ground)
    size = draw.randrange(25, 50)
    x, y = draw.randrange(size, 224 - size), draw.randrange(size, 224 - size)
    box = (x - size, y - size, x + size, y + size)
    pen = ImageDraw.Draw(image)
    if shape == 2:
        pen.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], COLOURS[colour])
    else:
        (pen.ellipse, pen.rectangle)[shape](box, COLOURS[colour])
    return image, shape, colour


@pytest.fixture(scope="module")
def folder(toys: tuple[Path, Path], dinov2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("real")
    clip = CLIPVisionConfig(**WIDE, image_size=224, patch_size=14)
    AutoModel.from_config(clip).save_pretrained(place / "clip")
    CLIPImageProcessor(**crop(224)).save_pretrained(place / "clip")
    second = SecondTower(str(dinov2), "interleaved", layer=LAYER, pixels="own")
    parts = (str(place / "clip"), str(toys[0]), "linear", place / "small")
    return enlarge(compose(*parts, chat_template=TEMPLATE, second=second), place / "checkpoint")


def test_colour_and_shape_can_be_read_from_its_features(folder: Path, dinov2: Path) -> None:
    """Of 60 drawings that a linear probe did not see: chance is a third."""
    lm = load(folder)
    model, processor = lm.model, lm.processor.image_processor
    tower = AutoModel.from_pretrained(dinov2)
    own = AutoImageProcessor.from_pretrained(dinov2)
    seen, labels = [], []
    for number in range(180):
        image, *kinds = drawn(number)
        pixels = processor(image, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            patches = model.model._second(pixels)
            if number < 3:
                states = tower(**own(image, return_tensors="pt"), output_hidden_states=True)
                expected = states.hidden_states[LAYER][:, 1:]
                assert patches.shape == (1, 256, 384)
                assert torch.allclose(patches, expected, atol=1e-2)
                odd = torch.stack(model.get_image_features(pixels).pooler_output)[:, 1::2]
                assert torch.allclose(odd, connectors(model)[1](patches), atol=1e-5)
        seen.append(patches.mean(1)[0])
        labels.append(kinds)
    features = torch.stack(seen)
    features = (features - features[:120].mean(0)) / (features[:120].std(0) + 1e-6)
    for kinds in torch.tensor(labels).T:
        wanted = torch.nn.functional.one_hot(kinds).float()[:120] - 1 / 3
        shared = features[:120].T @ features[:120] + 100 * torch.eye(384)
        probe = torch.linalg.solve(shared, features[:120].T @ wanted)
        right = (features[120:] @ probe).argmax(1) == kinds[120:]
        assert right.float().mean() > 0.85


def test_the_engine_answers_as_generate_does(folder: Path) -> None:
    lm = load(folder, batch_size=3)
    texts = [("USER: <image>\nwhat is it? ASSISTANT:", [drawn(number)[0]]) for number in range(3)]
    answers = lm.generate_until(with_images(texts), disable_tqdm=True)
    for (text, images), answer in zip(texts, answers, strict=True):
        inputs = lm.processor(text=text, images=images, return_tensors="pt")
        assert int((inputs["input_ids"] == lm.image_token_id).sum()) == 512
        output = lm.model.generate(**inputs, num_beams=3, do_sample=False, max_new_tokens=6)
        row = output[0, inputs["input_ids"].shape[1] :]
        assert answer == lm.tokenizer.decode(row, skip_special_tokens=True)
    assert lm.get_model_info()["verbalizer_bench"]["engine"]["shared_prefix"] == 3
