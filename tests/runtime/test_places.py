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


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_sorted_probabilities_of_two_vocabularies(backend: str) -> None:
    """Universal logit distillation: what the smaller vocabulary lacks counts as 0, and its NaN behind the mask as nothing."""
    spec = """
axis b : batch
axis u
axis v
input z    : logits[b, v]
data  w    : logits[b, u]
data  mask : mask[b]
let p = -sort[v -> r](-softmax[v](z))
let q = -sort[u -> s](-softmax[u](w))
minimize
  uld : mean[b where mask](sum[r](abs(p - fill(q[s = index[r]], 0))) + sum[s where index[s] >= size[r]](q))
"""
    draw = torch.Generator().manual_seed(0)
    for wide, narrow in ((4, 3), (3, 4), (3, 3)):
        z, w = (torch.randn(3, n, generator=draw, dtype=torch.float64) for n in (wide, narrow))
        p, q = (x.softmax(-1).sort(descending=True).values for x in (z.clone().requires_grad_(), w))
        pad = torch.nn.functional.pad
        wanted = (pad(p, (0, 4 - wide)) - pad(q, (0, 4 - narrow))).abs().sum(-1)[:2].mean()
        z, w = (torch.cat([x[:2], torch.full_like(x[2:], torch.nan)]) for x in (z, w))
        loss = lossc.loads(spec, backend=backend)(z=z.requires_grad_(), w=w, mask=torch.tensor([True, True, False])).loss
        torch.testing.assert_close(loss, wanted)
        loss.backward()
        assert z.grad is not None and bool(z.grad.isfinite().all()) and not bool(z.grad[2].any())


def test_a_diagonal_without_a_column() -> None:
    """Of tensors and of what is made of them alike, with what to write in its place."""
    head = "axis b : batch\naxis v\naxis k\ninput x : real[b, v]\ninput y : real[b, k]\n"
    spec = head + "minimize\n  value : mean[b](sum[%s](%s))\n"
    x, y = torch.ones(2, 3), torch.ones(2, 2)
    for axis, read in (("v", "x * y[k = index[v]]"), ("r", "sort[v -> r](x) * sort[k -> s](y)[s = index[r]]")):
        with pytest.raises(lossc.LosscError, match=r"E704.*3 rows, and 2 columns(.|\n)*fill"):
            lossc.loads(spec % (axis, read))(x=x, y=y)
        assert float(lossc.loads(spec % (axis, read.replace("* ", "* fill(") + ", 0)"))(x=x, y=y).loss) == 2
