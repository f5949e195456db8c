"""Attention over two blocks is plain attention over their concatenation, rounded once."""

import pytest
import torch

from verbalizer_bench.models.engine.two_blocks import Bias, attend, kept_dtype

HEADS = 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_rounds_no_more_than_sdpa(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    query = drawn(HEADS, 3, 5, 16)
    prefix = drawn(HEADS, 40, 16), drawn(HEADS, 40, 16)
    suffix = drawn(HEADS, 3, 7, 16), drawn(HEADS, 3, 7, 16)
    kept = [tuple(x.to(kept_dtype("cpu", dtype)) for x in pair) for pair in (prefix, suffix)]
    found = attend(query, *kept, Bias(None, torch.zeros(1, 5, 7)), 0.3)
    key, value = (
        torch.cat([shared[:, None].expand(-1, 3, -1, -1), own], dim=2)
        for shared, own in zip(prefix, suffix, strict=True)
    )
    sdpa = torch.nn.functional.scaled_dot_product_attention
    exact = sdpa(query.double(), key.double(), value.double(), scale=0.3)
    assert found.dtype == dtype
    errors = [
        (x.double() - exact).pow(2).mean() for x in (found, sdpa(query, key, value, scale=0.3))
    ]
    assert errors[0] <= errors[1] * 1.05
    # Half a unit in the last place: the output is rounded, and nothing before it.
    assert ((found.double() - exact).abs() <= torch.finfo(dtype).eps / 2 * exact.abs() + 1e-5).all()
