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
"""
LAST = torch.tensor([1, 2, -1])
SOME = torch.tensor([[0, 0], [2, -1], [1, 0]])
USE = torch.tensor([[True, True], [True, True], [True, False]])
FORMS = {
    "mean[b where last >= 0](logsumexp[v](z)[t = last])": "last",
    "mean[b where last >= 0](max[v](z)[t = last])": "last",
    "mean[b](log_softmax[v](z)[t = last][v = 0])": "last",
    "mean[b](log_softmax[v](z)[v = 0][t = last])": "last",
    "mean[b](cumsum[v](exp(z))[t = last][v = 1])": "last",
    "mean[b](cumlogsumexp[t](z[v = 0])[t = last])": "before",
    "sum[b, k where use](logsumexp[v](z)[t = some]^2)": "some",
    "sum[b, k where use](softmax[v](z)[v = 1][t = some])": "some",
}


def read(which: str) -> Tensor:
    """The places [b, t] that a form reads."""
    at = torch.arange(3)
    if which == "last":
        return LAST[:, None] == at
    if which == "before":
        return at <= LAST[:, None]
    return ((SOME[:, :, None] == at) & USE[:, :, None]).any(1)


def slope(form: str, z: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    objective = lossc.loads(f"{DECLARATIONS}\nminimize\n  f : {form}\n", backend=backend).double()
    z = z.clone().requires_grad_()
    given = {"z": z, "last": LAST, "some": SOME, "use": USE}
    loss = objective(**{name: value for name, value in given.items() if name in objective.program.tensors}).loss
    loss.backward()
    assert z.grad is not None
    return loss.detach(), z.grad


CASES = [(form, backend) for form in FORMS for backend in ("reference", "torch", "c")
         if backend == "reference" or FORMS[form] != "before"]  # fmt: skip


@pytest.mark.parametrize(("form", "backend"), CASES)
def test_what_is_not_read_is_not_seen(form: str, backend: str) -> None:
    z = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = read(FORMS[form])[:, :, None].expand_as(z)
    loss, expected = slope(form, z, "reference")
    assert bool(expected[seen].any())
    assert not expected[~seen].any()
    found = slope(form, torch.where(seen, z, nan), backend)
    torch.testing.assert_close(found, (loss, expected), rtol=1e-12, atol=1e-12)
