"""`make dinov2` reads a tower's weights out of an ONNX file."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.dinov2 import fields, tower_weights


def field(number: int, value: int | bytes) -> bytes:
    """Return a field as protocol buffers write it."""
    if isinstance(value, int):
        return integer(8 * number) + integer(value)
    return integer(8 * number + 2) + integer(len(value)) + value


def integer(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + integer(rest) if rest else bytes([low])


def weight(name: str, values: np.ndarray) -> bytes:
    shape = b"".join(field(1, side) for side in values.shape)
    content = values.astype(np.float32).tobytes()
    return field(5, shape + field(8, name.encode()) + field(9, content))


def test_names_and_matrices_are_found(tmp_path: Path) -> None:
    matrix, bias = np.arange(6).reshape(2, 3), np.arange(3) + 0.5
    token, patches = np.ones((1, 1, 2)), np.arange(600).reshape(1, 300, 2)
    inputs = field(1, b"/backbone/encoder/layer.0/norm2") + field(1, b"onnx::MatMul_7")
    node = field(1, inputs + field(3, b"/backbone/encoder/layer.0/mlp/fc1/MatMul"))
    other = field(1, field(1, b"a") + field(1, b"b") + field(3, b"/backbone/encoder/x/MatMul"))
    parts = [weight("backbone.encoder.layer.0.mlp.fc1.bias", bias), weight("decoder.w", bias)]
    parts += [weight("onnx::Reshape_9", patches), weight("onnx::Concat_8", token)]
    graph = b"".join([node, other, *parts, weight("onnx::MatMul_7", matrix)])
    (tmp_path / "model.onnx").write_bytes(field(1, 8) + field(7, graph))
    found = tower_weights(tmp_path / "model.onnx")
    assert found.keys() == {
        "encoder.layer.0.mlp.fc1.bias",
        "encoder.layer.0.mlp.fc1.weight",
        "embeddings.position_embeddings",
    }
    assert np.array_equal(found["encoder.layer.0.mlp.fc1.weight"], matrix.T)
    assert np.array_equal(
        found["embeddings.position_embeddings"], np.concatenate([token, patches], 1)
    )


def test_what_is_no_onnx_is_refused() -> None:
    with pytest.raises(ValueError, match="no ONNX: a field of kind 3"):
        list(fields(memoryview(b"\x0b")))
