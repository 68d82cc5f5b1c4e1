"""Scalar functions, elementwise, where torch's own has another convention or is not finite where the mathematics is."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def add(*terms: Tensor | float) -> Tensor | float:
    """The sum."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def mul(*factors: Tensor | float) -> Tensor | float:
    """The product."""
    total = factors[0]
    for factor in factors[1:]:
        total = total * factor
    return total


def weigh(x: Tensor, log: Tensor) -> Tensor:
    """x * log, and 0 where x is 0 and the logarithm has no finite value: 0 * log 0 = 0."""
    return x * torch.where((x == 0) & ~torch.isfinite(log), 0.0, log)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 (with the graph attached) where the denominator is 0."""
    empty = denominator == 0
    return torch.where(empty, numerator * 0.0, numerator / torch.where(empty, 1.0, denominator))


def row_log(x: Tensor) -> Tensor:
    """log x. On the CPU torch's own wakes all threads for a thousand numbers, which costs more than their logarithms."""
    return torch.special.xlogy(1.0, x) if x.dtype == torch.float64 and x.device.type == "cpu" else torch.log(x)


def row_exp(x: Tensor) -> Tensor:
    """exp x, likewise."""
    return torch.exp2(x * math.log2(math.e)) if x.dtype == torch.float64 and x.device.type == "cpu" else torch.exp(x)


def power(x: Tensor | float, y: Tensor | float) -> Tensor:
    """x^y; x^0 is 1 with slope 0."""
    return torch.pow(x, y)  # type: ignore[arg-type]


def minimum(*values: Tensor) -> Tensor:
    """The smallest; ties share the gradient evenly."""
    if len(values) == 2:
        return torch.minimum(values[0], values[1])
    return torch.stack(torch.broadcast_tensors(*values)).amin(dim=0)  # type: ignore[no-untyped-call]


def maximum(*values: Tensor) -> Tensor:
    """The largest; ties share the gradient evenly."""
    if len(values) == 2:
        return torch.maximum(values[0], values[1])
    return torch.stack(torch.broadcast_tensors(*values)).amax(dim=0)  # type: ignore[no-untyped-call]


def clip(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """min(max(x, low), high); at the bounds the gradient goes to x."""
    if isinstance(low, Tensor) and isinstance(high, Tensor) and (low.requires_grad or high.requires_grad):
        inside = torch.where(x < low, low, torch.where(x > high, high, x))
        return torch.where(low > high, high, inside)
    return torch.clamp(x, low, high)  # type: ignore[arg-type]


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1, and NaN of NaN, of which torch says 0; slope 0."""
    return torch.where(torch.isnan(x), x.detach(), torch.sign(x))


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return -torch.nn.functional.logsigmoid(-x)


def logsigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x)."""
    return torch.nn.functional.logsigmoid(x)


def logaddexp(x: Tensor, y: Tensor) -> Tensor:
    """log(exp(x) + exp(y)) = max + log1p(exp(min - max)); slope 0 where both are -inf, or both inf."""
    swap = y > x
    high, low = torch.where(swap, y, x), torch.where(swap, x, y)
    endless = (low == high) & torch.isinf(high)
    difference = torch.where(endless, 0.0, low - high)
    return torch.where(endless, high.detach(), high + torch.log1p(torch.exp(difference)))


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0: through expm1 near 0 and through log1p far from it."""
    near = x > -math.log(2)
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, x, -1.0))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, x))),
    )


def xlogy(x: Tensor, y: Tensor) -> Tensor:
    """x * log(y), and 0 where x is 0; its slopes log(y) and x / y are taken as 0 where they are 0 times infinity."""
    unseen = (x == 0) & ((y <= 0) | torch.isinf(y))
    return x * torch.log(torch.where(unseen, 1.0, y))


def log_normcdf(x: Tensor) -> Tensor:
    """log of the standard normal distribution function, exact in both tails."""
    tail = x < -1
    return torch.where(
        tail,
        torch.special.log_ndtr(torch.where(tail, x, -1.0)),
        torch.log1p(-torch.special.ndtr(torch.where(tail, 1.0, -x))),
    )


def trigamma(x: Tensor) -> Tensor:
    """The slope of digamma."""
    return torch.polygamma(1, x)
