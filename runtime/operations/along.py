"""Operations along the dimension `dim`, which stays.

`mask` None admits every entry, and entries outside it do not exist for the others. `label` None is one sequence; else each
value of the label is a sequence of its own, in the order of the positions. What stands at excluded entries means nothing,
but for `softmax`, `log_softmax`, `sort` and `topk`: 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lossc.runtime.operations.elementwise import logaddexp


def log_softmax(x: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """(x - m) - log sum exp(x - m), m the largest x.

    Torch's own loses digits of long sums (at 128k entries it is 15 times less exact), and on other devices it adds m to the
    logarithm before it subtracts.
    """
    if x.shape[dim] == 0:
        return x
    x = x if mask is None else torch.where(mask, x, -torch.inf)
    if x.shape[dim] <= 4096 and x.device.type == "cpu":
        value = torch.log_softmax(x, dim=dim)
    else:
        centred = x - x.detach().amax(dim=dim, keepdim=True)
        value = centred - torch.log(torch.exp(centred).sum(dim=dim, keepdim=True))
    return value if mask is None else torch.where(mask, value, 0.0)


def softmax(x: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """exp(x - m) / sum exp(x - m), m the largest x; 0 where the mask excludes."""
    if x.shape[dim] == 0:
        return x
    x = x if mask is None else torch.where(mask, x, -torch.inf)
    if x.shape[dim] <= 4096:
        value = torch.softmax(x, dim=dim)
    else:
        powers = torch.exp(x - x.detach().amax(dim=dim, keepdim=True))
        value = powers / powers.sum(dim=dim, keepdim=True)
    return value if mask is None else torch.where(mask, value, 0.0)


def cumsum(x: Tensor, mask: Tensor | None, label: Tensor | None, dim: int) -> Tensor:
    """y_i = sum of x_j for j <= i."""
    x = x if mask is None else torch.where(mask, x, 0.0)
    return x.cumsum(dim=dim) if label is None else running(x, label, torch.add, 0.0, dim)


def cumprod(x: Tensor, mask: Tensor | None, label: Tensor | None, dim: int) -> Tensor:
    """y_i = product of x_j for j <= i."""
    x = x if mask is None else torch.where(mask, x, 1.0)
    return running(x, label, torch.mul, 1.0, dim)


def cumlogsumexp(x: Tensor, mask: Tensor | None, label: Tensor | None, dim: int) -> Tensor:
    """y_i = log of the sum of exp(x_j) for j <= i."""
    x = x if mask is None else torch.where(mask, x, -torch.inf)
    return running(x, label, logaddexp, -torch.inf, dim)


def cummax(x: Tensor, mask: Tensor | None, label: Tensor | None, dim: int) -> Tensor:
    """y_i = the largest x_j for j <= i; ties share the gradient evenly."""
    x = x if mask is None else torch.where(mask, x, -torch.inf)
    top = running(x.detach(), label, torch.maximum, -torch.inf, dim)
    place = torch.ones_like(top, dtype=torch.int64).cumsum(dim=dim)
    risen = top != shift(top, None, label, torch.nan, 1, dim)
    level = running(torch.where(risen, place, -1), label, torch.maximum, -1, dim)
    tied = (x == top) & torch.isfinite(x)
    shared = running(torch.where(tied, x, 0.0), level, torch.add, 0.0, dim)
    count = running(tied.to(x.dtype), level, torch.add, 0.0, dim)
    slope = shared / torch.where(count == 0, 1.0, count)
    return top + (slope - slope.detach())


def scan(x: Tensor, mask: Tensor | None, label: Tensor | None, decay: Tensor, dim: int) -> Tensor:
    """y_i = decay_i * y_(i-1) + x_i, y before the first entry being 0."""
    x, decay = torch.broadcast_tensors(x, decay)  # type: ignore[no-untyped-call]
    if mask is not None:
        x, decay = torch.where(mask, x, 0.0), torch.where(mask, decay, 1.0)
    order, segment = arranged(x, label, None, dim)
    x, decay = permuted(x, order, dim), permuted(decay, order, dim)
    step = 1
    while step < x.shape[dim]:
        joined = before(segment, step, -2, dim) == segment
        x = x + decay * torch.where(joined, before(x, step, 0, dim), 0.0)
        decay = decay * torch.where(joined, before(decay, step, 1, dim), 1.0)
        step *= 2
    return restored(x, order, dim)


def running(
    x: Tensor, label: Tensor | None, combine: Callable[[Tensor, Tensor], Tensor], identity: float, dim: int
) -> Tensor:
    """y_i = x_j combined over j <= i of the same label, by an associative function, in log2(extent) steps."""
    order, segment = arranged(x, label, None, dim)
    x = permuted(x, order, dim)
    step = 1
    while step < x.shape[dim]:
        joined = before(segment, step, -2, dim) == segment
        x = combine(torch.where(joined, before(x, step, identity, dim), identity), x)
        step *= 2
    return restored(x, order, dim)


def before(x: Tensor, step: int, fill: float, dim: int) -> Tensor:
    """The value `step` positions earlier, `fill` outside."""
    size = x.shape[dim]
    reach = min(abs(step), size)
    edge = torch.full_like(x.narrow(dim, 0, reach), fill)
    if step >= 0:
        return torch.cat([edge, x.narrow(dim, 0, size - reach)], dim=dim)
    return torch.cat([x.narrow(dim, reach, size - reach), edge], dim=dim)


def arranged(x: Tensor, label: Tensor | None, mask: Tensor | None, dim: int) -> tuple[Tensor | None, Tensor]:
    """An order in which equal labels are neighbours and excluded entries last, and the label of each place in it."""
    if label is None and mask is None:
        return None, torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    key = torch.zeros((), dtype=torch.int64, device=x.device) if label is None else label
    key = (key if mask is None else torch.where(mask, key, torch.iinfo(torch.int64).max)).expand(x.shape)
    order = key.argsort(dim=dim, stable=True)
    return order, key.gather(dim, order)


def permuted(x: Tensor, order: Tensor | None, dim: int) -> Tensor:
    """x in the given order."""
    return x if order is None else x.gather(dim, order)


def restored(x: Tensor, order: Tensor | None, dim: int) -> Tensor:
    """The inverse of `permuted`."""
    return x if order is None else x.gather(dim, order.argsort(dim=dim))


def shift(
    x: Tensor, mask: Tensor | None, label: Tensor | None, fill: Tensor | float, amount: int, dim: int
) -> Tensor:
    """The value `amount` entries earlier, `fill` outside."""
    if mask is None and label is None and not isinstance(fill, Tensor):
        return before(x, amount, fill, dim)
    x = x if mask is None else torch.where(mask, x, 0.0)
    order, segment = arranged(x, label, mask, dim)
    earlier = restored(before(permuted(x, order, dim), amount, 0, dim), order, dim)
    inside = restored(before(segment, amount, -2, dim) == segment, order, dim)
    return torch.where(inside if mask is None else inside & mask, earlier, fill)


def ahead(mask: Tensor, admitted: Tensor | None, label: Tensor | None, amount: int | None, dim: int) -> Tensor:
    """At i whether the mask is true `amount` entries later, or, for None, at i or anywhere later."""
    if amount is not None:
        return shift(mask, admitted, label, False, -amount, dim) != 0
    if label is None:
        return mask.flip(dim).to(torch.int64).cumsum(dim).gt(0).flip(dim)
    return running(mask.flip(dim), label.flip(dim), torch.logical_or, False, dim).flip(dim)


def rank(x: Tensor, mask: Tensor | None, label: Tensor | None, dim: int) -> Tensor:
    """The number of entries before this one in ascending stable order, from 0."""
    x = x.detach() if mask is None else torch.where(mask, x.detach(), 0.0)
    by_value = x.argsort(dim=dim, stable=True)
    inner, segment = arranged(
        x,
        None if label is None else label.expand(x.shape).gather(dim, by_value),
        None if mask is None else mask.expand(x.shape).gather(dim, by_value),
        dim,
    )
    place = torch.ones_like(segment).cumsum(dim=dim) - 1
    start = running(torch.where(before(segment, 1, -2, dim) == segment, 0, place), None, torch.maximum, 0, dim)
    return restored(place - start, permuted(by_value, inner, dim), dim).to(x.dtype)


def rank_of_all(x: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """The number of entries before this one in ascending stable order of all those of the last `count` dimensions."""
    if mask is not None:
        x, mask = torch.broadcast_tensors(x, mask)  # type: ignore[no-untyped-call]
    flat = x.flatten(-count)
    return rank(flat, None if mask is None else mask.flatten(-count), None, flat.dim() - 1).reshape(x.shape)


def sort(x: Tensor, mask: Tensor | None, key: Tensor, dim: int) -> Tensor:
    """x in ascending stable order of the key, excluded entries last; the gradient goes through x, never the key."""
    x, key = torch.broadcast_tensors(x, key.detach())  # type: ignore[no-untyped-call]
    order = key.argsort(dim=dim, stable=True)
    if mask is None:
        return x.gather(dim, order)
    excluded = (~mask).expand(x.shape)
    order = order.gather(dim, excluded.gather(dim, order).to(torch.int8).argsort(dim=dim, stable=True))
    return torch.where(excluded.gather(dim, order), 0.0, x.gather(dim, order))


def sort_of_all(x: Tensor, mask: Tensor | None, key: Tensor, count: int) -> Tensor:
    """All entries of the last `count` dimensions in ascending stable order of the key, along one; excluded ones last, 0."""
    parts = torch.broadcast_tensors(x, key, *(() if mask is None else (mask,)))  # type: ignore[no-untyped-call]
    flat = [part.flatten(-count) for part in parts]
    return sort(flat[0], None if mask is None else flat[2], flat[1], flat[0].dim() - 1)


def topk(x: Tensor, mask: Tensor | None, count: int, dim: int) -> Tensor:
    """The `count` largest, descending, the first of ties first; 0 where fewer exist. NaN is larger than any number."""
    return sort(x, mask, torch.where(torch.isnan(x), -torch.inf, -x), dim).narrow(dim, 0, count)
