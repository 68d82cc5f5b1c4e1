"""Garbage in a row that leaves the mean reaches no gradient, that of tensors which every row reads included."""

from __future__ import annotations

import pytest
import torch

import lossc

SPEC = """objective hidden_rows
axis b : batch
axis d
axis v
input x      : embedding[b, d]
input w      : embedding[v, d]
data  labels : label[b] in v

let z = {}

minimize
  loss : mean[b](logsumexp[v](z) - z[v = labels])
"""
SCORES = (
    "-norm[d](x - w)",
    "dot[d](x, w) / norm[d](x)",
    "dot[d](x, w) / (norm[d](x) * norm[d](w))",
    "-sum[d](abs(x - w)) / sum[d](abs(x + w))",
)


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
@pytest.mark.parametrize("scores", SCORES)
def test_a_row_without_a_label_is_unseen(scores: str, backend: str) -> None:
    objective = lossc.loads(SPEC.format(scores), backend=backend).double()
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (3, 4))
    found = []
    for rows in (slice(None), [0, 2]):
        given = {"x": x.clone(), "w": w.clone(), "labels": torch.tensor([1, -1, 2])}
        given["x"][1] = torch.nan
        held = {name: tensor[rows] if name != "w" else tensor for name, tensor in given.items()}
        leaves = [held[name].requires_grad_() for name in ("x", "w")]
        found.append(torch.autograd.grad(objective(**held).loss, leaves))
    (all_x, all_w), (kept_x, kept_w) = found
    torch.testing.assert_close(all_w, kept_w)
    torch.testing.assert_close(all_x[[0, 2]], kept_x)
    assert not all_x[1].any()


PAIRS = """objective hidden_pairs
use std.contrastive (cosine)
axis b : batch
axis d
axis k
input x : embedding[b, d]
data  y : label[b] in k

let s    = {}
let same = y == y[b -> j] and index[b] != index[j]

minimize
  loss : sum[b](log(1 + sum[j where same](exp(-s))) + log(1 + sum[j where y != y[b -> j]](exp(s))))
"""
OF_PAIRS = ("cosine(x, x[b -> j])", "dot[d](x, x[b -> j])", "-norm[d](x - x[b -> j])")


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
@pytest.mark.parametrize("scores", OF_PAIRS)
def test_a_row_without_a_label_is_unseen_among_all_pairs(scores: str, backend: str) -> None:
    """Row 4 is the only one of its class: the sum over its positives is empty, with slope 0."""
    objective = lossc.loads(PAIRS.format(scores), backend=backend).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    x[1] = torch.nan
    labels = torch.tensor([0, -1, 1, 0, 2])
    kept = [0, 2, 3, 4]
    leaves = [rows.clone().requires_grad_() for rows in (x, x[kept])]
    losses = [objective(x=leaf, y=y).loss for leaf, y in zip(leaves, (labels, labels[kept]), strict=True)]
    torch.testing.assert_close(losses[0], losses[1])
    whole, part = (torch.autograd.grad(loss, leaf)[0] for loss, leaf in zip(losses, leaves, strict=True))
    torch.testing.assert_close(whole[kept], part)
    assert not whole[1].any()


ROOTS = """objective hidden_roots
axis b : batch
axis l
axis d
input x   : embedding[b, d]
input w   : embedding[l, d]
data  hit : mask[b, l]

let s = dot[d](x, w)
let t = root[u in -40..40](sum[l](sigmoid(s + u)) - 1)

minimize
  loss : mean[b](mean[l where hit](-log(sigmoid(s + t))))
"""


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_a_row_that_leaves_is_unseen_through_its_root(backend: str) -> None:
    objective = lossc.loads(ROOTS, backend=backend).double()
    generator = torch.Generator().manual_seed(2)
    x, w = (torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (3, 4))
    x[1] = torch.nan
    hit = torch.tensor([[True, False, False, True], [False] * 4, [False, True, False, False]])
    found = []
    for rows in ([0, 1, 2], [0, 2]):
        leaves = [x[rows].requires_grad_(), w.clone().requires_grad_()]
        found.append(torch.autograd.grad(objective(x=leaves[0], w=leaves[1], hit=hit[rows]).loss, leaves))
    torch.testing.assert_close(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][0][[0, 2]], found[1][0])
    assert not found[0][0][1].any()
