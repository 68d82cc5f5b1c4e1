"""A value that is compared with an entry of itself: no backend may let the rounding decide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lossc

SPEC = """
axis b : batch
axis v
input z : logits[b, v]
data  u : real[b, v]
data  y : label[b] in v
let p  = softmax[v](z)
let lp = log_softmax[v](z)
let h  = z + u * softplus(z)
minimize
  value : mean[b](sum[v where {condition}](h * z))
"""

CONDITIONS = (
    "p >= topk[v -> k](p, 3)[k = 2]",
    "lp >= topk[v -> k](lp, 3)[k = 2]",
    "h >= topk[v -> k](h, 3)[k = 2]",
    "sg(h) >= sort[v -> k](h)[k = 20]",
    "h <= median[v](h)",
    "h > quantile[v](h, 1 / 2)",
    "h < max[v](h)",
    "h < h[v = y]",
    "p < p[v = y]",
    "lp >= lp[v = y]",
    "z / 0.7 > z[v = y] / 0.7 or index[v] == y",
)


def _outcome(condition: str, backend: str, z: Tensor, **data: Tensor) -> tuple[Tensor, Tensor]:
    z = z.clone().requires_grad_()
    loss = lossc.loads(SPEC.format(condition=condition), backend=backend)(z=z, **data).loss
    (slope,) = torch.autograd.grad(loss, z)
    return loss.detach(), slope


@pytest.mark.parametrize(
    ("backend", "condition"), [*(("torch", each) for each in CONDITIONS), *(("c", each) for each in CONDITIONS[1::4])]
)
def test_an_entry_equals_itself(backend: str, condition: str) -> None:
    draw = torch.Generator().manual_seed(0)
    z, u = (torch.randn(40, 31, generator=draw, dtype=torch.float64) for _ in range(2))
    data = {"u": u, **({"y": torch.randint(31, (40,), generator=draw)} if "y" in condition else {})}
    for found, wanted in zip(_outcome(condition, backend, z, **data), _outcome(condition, "reference", z, **data), strict=True):
        torch.testing.assert_close(found, wanted)
