"""The rank over several axes: the place among all their entries, of equal ones in the order of the axes named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lossc

SPEC = """
axis b : batch
axis t
axis c
input x : real[b, t, c]
data  m : mask[b, t]
minimize
  value : sum[b, t, c where {seen}](({rank} + 1) * x)
"""


def _places(x: Tensor) -> Tensor:
    return x.argsort(stable=True).argsort(stable=True).to(x.dtype)


def _of(rank: str, x: Tensor, m: Tensor) -> Tensor:
    """The ranks, by sorting one list of entries after the other."""
    places = torch.zeros_like(x)
    if rank == "rank[b, t, c](x)":
        return _places(x.flatten()).reshape(x.shape)
    if rank == "rank[t, b](x)":
        for c in range(x.shape[2]):
            places[:, :, c] = _places(x[:, :, c].T.flatten()).reshape(x.shape[1], x.shape[0]).T
        return places
    for c in range(x.shape[2]):
        places[:, :, c][m] = _places(x[:, :, c][m])
    return places


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
@pytest.mark.parametrize("rank", ["rank[b, t, c](x)", "rank[t, b](x)", "rank[b, t where m](x)"])
def test_rank_over_several_axes(rank: str, backend: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 6, (3, 5, 2), generator=draw).double().requires_grad_()
    m = torch.rand(3, 5, generator=draw) < 0.6
    masked = "m" in rank
    spec = SPEC.format(seen="m" if masked else "x == x", rank=rank)
    given = {"x": x, "m": m} if masked else {"x": x}
    loss = lossc.loads(spec, backend=backend)(**given).loss
    weight = (_of(rank, x.detach(), m) + 1) * (m[..., None] if masked else 1)
    torch.testing.assert_close(loss, (weight * x).sum())
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], weight.expand_as(x))


def test_what_is_excluded_has_no_place() -> None:
    """NaN in padding neither orders the others nor reaches a gradient."""
    nll = torch.tensor([[3.0, torch.nan, 1.0], [2.0, 5.0, torch.nan]], dtype=torch.float64, requires_grad=True)
    spec = """
axis b : batch
axis t
input nll : real[b, t]
data  m : mask[b, t]
minimize
  hard : mean[b, t where rank[b, t where m](-nll) < 2](nll)
"""
    result = lossc.loads(spec)(nll=nll, m=torch.tensor([[True, False, True], [True, True, False]]))
    result.loss.backward()
    assert float(result.loss.detach()) == 4
    assert nll.grad is not None and nll.grad.tolist() == [[0.5, 0, 0], [0, 0.5, 0]]
