"""A selection sees only what it reads: what is computed elsewhere, from whatever stands there, reaches no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lossc

nan = torch.nan
DECLARATIONS = """
axis b : batch
axis t
axis v
axis k
input z    : real[b, t, v]
data  last : label[b] in t
data  some : label[b, k] in t
data  use  : mask[b, k]
data  part : label[b, t] in group
data  m    : mask[b, t]
"""
GIVEN = {
    "last": torch.tensor([3, 2, -1]),
    "some": torch.tensor([[0, 0], [3, -1], [1, 0]]),
    "use": torch.tensor([[True, True], [True, True], [True, False]]),
    "part": torch.tensor([[0, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]),
    "m": torch.tensor([[True, True, False, True], [False, True, True, True], [True, True, True, True]]),
}
LAST, PART, M = (GIVEN[name] for name in ("last", "part", "m"))
AT = torch.arange(4)
OWN = LAST[:, None] == AT
BEFORE = LAST[:, None] >= AT
SAME = PART.gather(1, LAST.clamp(min=0)[:, None]) == PART
SOME = ((GIVEN["some"][:, :, None] == AT) & GIVEN["use"][:, :, None]).any(1)
ONE_BEFORE = torch.tensor([[2], [1], [-1]]) == AT

FORMS = {
    "mean[b where last >= 0](logsumexp[v](z)[t = last])": OWN,
    "mean[b where last >= 0](max[v](z)[t = last])": OWN,
    "mean[b](log_softmax[v](z)[t = last][v = 0])": OWN,
    "mean[b](log_softmax[v](z)[v = 0][t = last])": OWN,
    "mean[b](cumsum[v](exp(z))[t = last][v = 1])": OWN,
    "mean[b](norm[v](z)[t = last])": OWN,
    "mean[b](norm[v](z)[t -> u][u = last + 0])": OWN,
    "mean[b](exp(logsumexp[v](z))[t -> u][u = last + 0])": OWN,
    "mean[b](fold[v, a : real](exp(z) * tanh(a), 1)[t = last])": OWN,
    "mean[b](cumsum[t](logsumexp[v](z))[t = last])": BEFORE,
    "mean[b](cumprod[t](exp(z[v = 0]))[t = last])": BEFORE,
    "mean[b](cummax[t](z[v = 1]^2)[t = last])": BEFORE,
    "mean[b](cumlogsumexp[t](z[v = 0])[t = last])": BEFORE,
    "mean[b](scan[t](logsumexp[v](z), sigmoid(z[v = 2]))[t = last])": BEFORE,
    "mean[b](cumlogsumexp[t where m](logsumexp[v](z))[t = last])": BEFORE & M,
    "mean[b](cumlogsumexp[t by part](logsumexp[v](z))[t = last])": BEFORE & SAME,
    "mean[b](shift[t](logsumexp[v](z), 1)[t = last])": ONE_BEFORE,
    "mean[b](shift[t where m](logsumexp[v](z), 1)[t = last])": torch.tensor([[1], [1], [-1]]) == AT,
    "mean[b](shift[t by part](logsumexp[v](z), 1)[t = last])": ONE_BEFORE & SAME,
    "mean[b](cumlogsumexp[t](z[v = 0])[t = 1])": (AT <= 1).expand(3, 4),
    "mean[b, t where index[t] < 2](cumlogsumexp[t](z[v = 0]))": (AT <= 1).expand(3, 4),
    "mean[b](cumlogsumexp[v](exp(z))[v = 1][t = last])": OWN,
    "sum[b, k where use](logsumexp[v](z)[t = some]^2)": SOME,
    "sum[b, k where use](softmax[v](z)[v = 1][t = some])": SOME,
}


def slope(form: str, z: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    objective = lossc.loads(f"{DECLARATIONS}\nminimize\n  f : {form}\n", backend=backend).double()
    z = z.clone().requires_grad_()
    loss = objective(z=z, **{name: x for name, x in GIVEN.items() if name in objective.program.tensors}).loss
    loss.backward()
    assert z.grad is not None
    return loss.detach(), z.grad


def scores() -> Tensor:
    return torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_read_is_not_seen(form: str) -> None:
    seen = FORMS[form][:, :, None].expand(3, 4, 4)
    loss, expected = slope(form, scores(), "reference")
    assert bool(expected[seen].any())
    assert not expected[~seen].any()
    for backend in ("reference", "torch", "c"):
        for garbage in (nan, torch.inf):
            found = slope(form, torch.where(seen, scores(), garbage), backend)
            torch.testing.assert_close(found, (loss, expected), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracing does so
@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_nor_is_it_in_one_graph(backend: str) -> None:
    for form in ("mean[b](cumlogsumexp[t](z[v = 0])[t = last])", "mean[b](cumlogsumexp[v](exp(z))[v = 1][t = last])"):
        objective = lossc.loads(f"{DECLARATIONS}\nminimize\n  f : {form}\n", backend=backend).double()
        compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
        z = torch.where(FORMS[form][:, :, None], scores(), nan).requires_grad_()
        (gradient,) = torch.autograd.grad(compiled(z=z, last=LAST).loss, z)
        torch.testing.assert_close(gradient, slope(form, scores(), "reference")[1])
