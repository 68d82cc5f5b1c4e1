"""Rank and order over several axes: of all their entries, of equal ones in the order of the axes named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.runtime.modules import as_module
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


# ------------------------------------------------------------------------------------------------ orders

OF_CLASSES = """
axis b : batch
axis t
input z    : logits[b, t, v]
data  y    : label[b, t] in v
data  keep : mask[b]
data  m    : mask[b, t]
minimize
  value : {}
"""


def _weighted(entries: Tensor) -> Tensor:
    """Each entry of the last dimension by its place, from 0."""
    return (entries * torch.arange(entries.shape[-1])).sum()


def _nll(z: Tensor, y: Tensor) -> Tensor:
    return -z.log_softmax(-1).gather(-1, y.clamp(min=0).unsqueeze(-1)).squeeze(-1)


ORDERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "sum[v, r](index[r] * sort[b, t -> r](z))": lambda z, y, m: _weighted(z.flatten(0, 1).sort(0).values.T),
    "sum[v, r](index[r] * sort[t, b -> r where m](z))": lambda z, y, m: _weighted(
        z.transpose(0, 1)[m.T].sort(0).values.T
    ),
    "sum[v, r](index[r] * sort[b, t -> r](z, by = round(z[v = 0])))": lambda z, y, m: _weighted(
        z.flatten(0, 1)[z[..., 0].round().flatten().argsort(stable=True)].T
    ),
    "sum[b, r](index[r] * sort[t, v -> r](z)) + mean[b, t](-log_softmax[v](z)[v = y])": lambda z, y, m: (
        _weighted(z.flatten(1).sort(1).values) + _nll(z, y)[y >= 0].mean()
    ),
    "mean[r where index[r] >= 0.5 * size[r]](sort[b, t -> r](log_softmax[v](z)[v = 1]))": lambda z, y, m: (
        z.log_softmax(-1)[..., 1].flatten().sort().values[6:].mean()
    ),
    "sum[r](index[r] * sort[b, t -> r where m](-log_softmax[v](z)[v = y]))": lambda z, y, m: _weighted(
        _nll(z, y)[m & (y >= 0)].sort().values
    ),
}


def _batch() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        "z": torch.randn(3, 4, 5, generator=draw, dtype=torch.float64).requires_grad_(),
        "y": torch.randint(-1, 5, (3, 4), generator=draw), "m": torch.rand(3, 4, generator=draw) < 0.6,
        "keep": torch.tensor([True, False, True]),
    }  # fmt: skip


@pytest.mark.parametrize("form", ORDERS)
def test_order_over_several_axes(form: str) -> None:
    given = _batch()
    wanted = ORDERS[form](given["z"], given["y"], given["m"])
    for backend in ("reference", "torch", "c"):
        objective = lossc.loads(OF_CLASSES.format(form), backend=backend).double()
        loss = objective({name: x for name, x in given.items() if name in objective.program.tensors}).loss
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(*(torch.autograd.grad(value, given["z"], retain_graph=True)[0] for value in (loss, wanted)))


def test_a_row_that_is_left_out_of_what_reads_an_order_is_unseen(tmp_path: Path) -> None:
    form = "sum[b where keep](sum[r where index[r] < 3](-sort[t, v -> r](-z)) + mean[t](-log_softmax[v](z)[v = y]))"
    given = {name: x for name, x in _batch().items() if name != "m"}
    found = []
    for garbage in (torch.nan, 0.0):
        z = torch.where(given["keep"][:, None, None], given["z"], garbage).detach().requires_grad_()
        for backend in ("reference", "torch", "c"):
            loss = lossc.loads(OF_CLASSES.format(form), backend=backend).double()({**given, "z": z}).loss
            found.append((loss.detach(), torch.autograd.grad(loss, z)[0]))
        alone = as_module(lossc.loads(OF_CLASSES.format(form)).double(), tmp_path).Objective()(**{**given, "z": z}).loss
        found.append((alone.detach(), torch.autograd.grad(alone, z)[0]))
    for each in found[1:]:
        torch.testing.assert_close(each, found[0])
