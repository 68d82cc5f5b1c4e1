"""Functions of matrices, which are the last two dimensions; the others are batched.

`seen` is true where the value of a matrix is seen; elsewhere the identity stands in its place. A matrix with an entry that
is not finite gives NaN, and no other.
"""

from __future__ import annotations

import torch
from torch import Tensor


def svdvals(x: Tensor) -> Tensor:
    """Singular values, largest first; the slope of one that is 0 (to rounding) is 0, that of a sum of equal ones exact."""
    finite = torch.isfinite(x).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    if x.numel() == 0:
        return x.sum(dim=-1)[..., : min(x.shape[-2:])]
    values = torch.linalg.svdvals(torch.where(finite, x, 0.0))
    least = max(x.shape[-2:]) * torch.finfo(x.dtype).eps * values.detach().amax(dim=-1, keepdim=True)
    values = torch.where(values.detach() <= least, values.detach(), values)
    return torch.where(finite.squeeze(-1), values, torch.nan)


def eigvals(c: Tensor, seen: Tensor | None) -> Tensor:
    """Eigenvalues of the symmetric part, smallest first."""
    c = regular((c + c.mT) / 2, seen)
    finite = torch.isfinite(c).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    values = torch.linalg.eigvalsh(torch.where(finite, c, 0.0))
    return torch.where(finite.squeeze(-1), values, torch.nan)


def logdet(c: Tensor, seen: Tensor | None) -> Tensor:
    """log det c: -inf of a singular matrix, NaN where the determinant is negative."""
    sign, value = torch.linalg.slogdet(regular(c, seen))
    return torch.where(sign < 0, torch.nan, value)


def solve(a: Tensor, b: Tensor, seen: Tensor | None) -> Tensor:
    """The u with a u = b; not finite where a is singular."""
    a = regular(a, seen)
    shape = torch.broadcast_shapes(a.shape[:-1], b.shape)  # type: ignore[no-untyped-call]
    a, b = a.expand(*shape, a.shape[-1]), b.expand(shape)
    found: Tensor = torch.linalg.solve_ex(a, b.unsqueeze(-1)).result
    return found.squeeze(-1)


def regular(c: Tensor, seen: Tensor | None) -> Tensor:
    """The matrices, with the identity in place of those that are not seen."""
    if seen is None:
        return c
    return torch.where(seen, c, torch.eye(c.shape[-1], dtype=c.dtype, device=c.device))
