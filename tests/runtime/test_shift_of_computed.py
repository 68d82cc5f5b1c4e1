"""What a shift passes over reaches no gradient, even where what is shifted is computed from it."""

from __future__ import annotations

import pytest
import torch

import lossc

TEXT = """
axis b : batch
axis t
axis v
input z    : logits[b, t, v]
data  mask : mask[b, t]
data  w    : real[b, t]

minimize
  s : sum[b, t where mask](w * shift[t where mask]({inner}[v](z), {n}, fill = 0))
"""


@pytest.mark.parametrize("inner", ["logsumexp", "max", "sum"])
@pytest.mark.parametrize("n", [1, -1, -2])
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_nothing_is_read_where_the_mask_is_false(inner: str, n: int, backend: str) -> None:
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1]]).bool()
    z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w = torch.arange(8.0).double().reshape(2, 4)
    slopes = []
    for hidden in (0.5, torch.nan):
        x = torch.where(mask[:, :, None], z, hidden).requires_grad_()
        objective = lossc.loads(TEXT.format(inner=inner, n=n), backend=backend).double()
        loss = objective(z=x, mask=mask, w=w).loss
        loss.backward()
        assert x.grad is not None
        slopes.append((loss.detach(), x.grad))
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-12, atol=1e-12)
    assert slopes[0][1].abs().sum() > 0
