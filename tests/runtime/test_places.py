"""What is read outside an axis is absent, like what is read at a label that is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lossc
from lossc.compiler.core import ONE, Index, Node, Size, add, apply, const, neg
from lossc.compiler.elaborate.places import never_beyond, never_negative

T, U = Index("t"), Index("u")


@pytest.mark.parametrize(("position", "before", "behind"), [
    (T, True, True),
    (add(Size("t"), const(-1), neg(T)), True, True),
    (add(T, ONE), True, False),
    (add(T, const(-1)), False, True),
    (add(T, neg(U)), False, True),
    (add(T, U), True, False),
    (Size("t"), True, False),
    (apply("mod", add(T, ONE), Size("t")), True, True),
    (apply("min", add(T, ONE), add(Size("t"), const(-1))), True, True),
    (const(3), True, False),
    (const(0), True, True),
])  # fmt: skip
def test_what_is_known_of_a_position(position: Node, before: bool, behind: bool) -> None:
    assert (never_negative(position), never_beyond(position)) == (before, behind)



def _value(expression: str, backend: str = "reference", **tensors: Tensor) -> lossc.Result:
    spec = "axis b : batch\naxis t\naxis v\ninput x : real[b, t]\ndata y : label[b, t] in v\n"
    return lossc.loads(f"{spec}minimize\n  value : {expression}\n", backend=backend)(**tensors)


@pytest.mark.parametrize(("offset", "count", "mean"), [(1, 2, 2.5), (-1, 2, 1.5), (2, 1, 3), (3, 0, 0)])
def test_a_number_outside_leaves_the_mean(offset: int, count: int, mean: float) -> None:
    x = torch.tensor([[1.0, 2, 3]], requires_grad=True)
    result = _value(f"mean[b, t](x[t -> u][u = index[t] + {offset}])", x=x)
    assert result.counts["value"] == count and float(result.loss.detach()) == mean
    result.loss.backward()
    wanted = [1 / count if 0 <= at - offset < 3 else 0 for at in range(3)] if count else [0] * 3
    assert x.grad is not None and x.grad.tolist()[0] == pytest.approx(wanted)


def test_a_label_outside_fulfils_no_condition() -> None:
    x, y = torch.tensor([[1.0, 2, 3]]), torch.tensor([[0, 0, 0]])
    result = _value("sum[b, t where y[t -> u][u = index[t] + 1] >= 0](x)", x=x, y=y)
    assert float(result.loss) == 3


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_nothing_outside_reaches_a_gradient(backend: str) -> None:
    """Contrastive predictive coding: the future of the last steps does not exist."""
    spec = """
axis b : batch
axis t
axis d
input z : embedding[b, t, d]
input c : embedding[b, t, d]
let future = z[t -> u][u = index[t] + 2]
let s      = dot[d](c, future[b -> j])
minimize
  cpc : mean[b, t](-log_softmax[j](s)[j = index[b]])
"""
    draw = torch.Generator().manual_seed(0)
    z, c = (torch.randn(3, 4, 2, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss = lossc.loads(spec, backend=backend)(z=z, c=c).loss
    s = torch.einsum("itd,jtd->tij", c[:, :2], z[:, 2:])
    wanted = -s.log_softmax(-1).diagonal(dim1=1, dim2=2).mean()
    torch.testing.assert_close(loss, wanted)
    for found, right in zip(torch.autograd.grad(loss, (z, c)), torch.autograd.grad(wanted, (z, c)), strict=True):
        torch.testing.assert_close(found, right)
