"""The operations against their definitions: values, first and second derivatives, ties, extremes, nothing admitted."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lossc.compiler.primitives import PRIMITIVES
from lossc.runtime import operations

F64 = torch.float64
MASK = torch.tensor([[True, False, True, True], [False, False, False, False], [True, True, False, True]])


def _sample(seed: int = 0, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (3, 4)), generator=generator, dtype=F64)


def _slopes(function: Callable[..., Tensor], *inputs: float | Tensor) -> list[float]:
    leaves = [torch.as_tensor(value, dtype=F64).clone().requires_grad_() for value in inputs]
    grads = torch.autograd.grad(function(*leaves).sum(), leaves)
    return [float(grad.sum()) for grad in grads]


POINTS = {
    "softplus": (0.0, -1000.0, 1000.0, 0.3), "logsigmoid": (0.0, -1000.0, 1000.0, 0.3),
    "log1mexp": (-1e-12, -0.5, -math.log(2), -1000.0), "log_normcdf": (-30.0, -1.0, 0.0, 6.0, 40.0), "trigamma": (0.2, 3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(POINTS))
def test_unary_functions_equal_the_table_and_have_finite_second_derivatives(name: str) -> None:
    function = getattr(operations, name)
    for point in POINTS[name]:
        x = torch.tensor(point, dtype=F64, requires_grad=True)
        value = function(x)
        assert math.isclose(value.item(), PRIMITIVES[name].value(point), rel_tol=2e-9, abs_tol=1e-300)
        (first,) = torch.autograd.grad(value, x, create_graph=True)
        (second,) = torch.autograd.grad(first, x)
        assert torch.isfinite(first)
        assert torch.isfinite(second)


@pytest.mark.parametrize("name", ["softplus", "logsigmoid", "log1mexp", "log_normcdf"])
def test_unary_gradients(name: str) -> None:
    x = -torch.rand(7, dtype=F64) - 0.05
    assert torch.autograd.gradcheck(getattr(operations, name), x.requires_grad_())
    assert torch.autograd.gradgradcheck(getattr(operations, name), x)


def test_conventions_at_the_corners() -> None:
    assert _slopes(operations.softplus, 0.0) == [0.5]
    assert _slopes(operations.maximum, 1.0, 1.0) == [0.5, 0.5]
    assert _slopes(operations.minimum, 2.0, 2.0, 2.0) == pytest.approx([1 / 3] * 3)
    assert _slopes(operations.clip, 1.0, 1.0, 2.0) == [1, 0, 0]
    assert _slopes(operations.clip, 2.0, 1.0, 2.0) == [1, 0, 0]
    assert _slopes(operations.clip, 3.0, 1.0, 2.0) == [0, 0, 1]
    assert _slopes(operations.clip, 0.0, 1.0, 2.0) == [0, 1, 0]
    assert _slopes(operations.xlogy, 0.0, 0.0) == [0, 0]
    assert _slopes(operations.xlogy, 0.0, math.e) == pytest.approx([1, 0])
    assert _slopes(operations.power, 0.0, 0.0) == [0, 0]
    assert float(operations.power(torch.tensor(0.0), 0.0)) == 1
    assert _slopes(operations.logaddexp, 3.0, 3.0) == [0.5, 0.5]
    assert _slopes(lambda x: operations.norm(x, (0,)), torch.zeros(3)) == [0]
    assert _slopes(operations.ratio, 0.0, 0.0) == [0, 0]
    assert _slopes(operations.weigh, 0.0, -math.inf) == [0, 0]
    assert _slopes(operations.weigh, 0.0, -3.0) == [-3, 0]


def test_logaddexp_at_the_extremes() -> None:
    x = torch.tensor([-1e4, 1e4, -math.inf, -math.inf, 2.0], dtype=F64, requires_grad=True)
    y = torch.tensor([1e4, -1e4, -math.inf, 1.0, 2.0], dtype=F64, requires_grad=True)
    value = operations.logaddexp(x, y)
    assert value.tolist() == [1e4, 1e4, -math.inf, 1.0, 2 + math.log(2)]
    first = torch.autograd.grad(value[torch.tensor([0, 1, 3, 4])].sum(), (x, y), create_graph=True)
    second = torch.autograd.grad(first[0].sum() + first[1].sum(), (x, y))
    assert all(torch.isfinite(part).all() for part in (*first, *second))


def _rows(function: Callable[[Tensor], Tensor], nothing: float) -> Callable[[Tensor], Tensor]:
    def naive(x: Tensor) -> Tensor:
        rows = [row[mask] for row, mask in zip(x, MASK, strict=True)]
        return torch.stack([function(row) if len(row) else row.sum() * 0 + nothing for row in rows])

    return naive


REDUCTIONS: dict[str, tuple[Callable[[Tensor, Tensor | None], Tensor], Callable[[Tensor], Tensor], float]] = {
    "sum": (lambda x, m: operations.masked_sum(x, m, (1,)), torch.sum, 0),
    "mean": (lambda x, m: operations.masked_mean(x, m, (1,)), torch.mean, 0),
    "prod": (lambda x, m: operations.masked_prod(x, m, (1,)), torch.prod, 1),
    "max": (lambda x, m: operations.masked_max(x, m, (1,)), torch.amax, 0),
    "min": (lambda x, m: operations.masked_min(x, m, (1,)), torch.amin, 0),
    "logsumexp": (lambda x, m: operations.masked_logsumexp(x, m, (1,)), lambda x: x.exp().sum().log(), -math.inf),
    "var": (lambda x, m: operations.masked_var(x, m, 0.0, (1,)), lambda x: x.var(correction=0), 0),
    "std": (lambda x, m: operations.masked_std(x, m, 1.0, (1,)), lambda x: x.std(correction=1), 0),
    "median": (lambda x, m: operations.masked_quantile(x, m, 0.5, (1,)), lambda x: x.quantile(0.5), 0),
    "quantile": (lambda x, m: operations.masked_quantile(x, m, 0.3, (1,)), lambda x: x.quantile(0.3), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_masked_reductions(name: str) -> None:
    ours, naive, nothing = REDUCTIONS[name]
    x = _sample().requires_grad_()
    with torch.no_grad():
        dirty = torch.where(MASK, x, torch.nan)
    dirty.requires_grad_()
    expected = _rows(naive, nothing)(x)
    value = ours(dirty, MASK)
    torch.testing.assert_close(value, expected)
    weights = torch.tensor([1.0, 0.0 if math.isinf(nothing) else 1.0, 2.0], dtype=F64)
    kept = torch.isfinite(expected)
    (grad,) = torch.autograd.grad((value[kept] * weights[kept]).sum(), dirty)
    (naive_grad,) = torch.autograd.grad((expected[kept] * weights[kept]).sum(), x)
    torch.testing.assert_close(grad, torch.where(MASK, naive_grad, 0.0))
    assert torch.autograd.gradgradcheck(lambda z: ours(z, MASK)[kept], x)
    whole = ours(x, None)
    torch.testing.assert_close(whole, torch.stack([naive(row) for row in x]))


@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_reductions_of_nothing_have_gradient_zero(name: str) -> None:
    ours, _, nothing = REDUCTIONS[name]
    x = torch.full((2, 3), torch.nan, dtype=F64, requires_grad=True)
    value = ours(x, torch.zeros(2, 3, dtype=torch.bool))
    assert value.tolist() == [nothing] * 2
    assert torch.autograd.grad(value.sum(), x)[0].eq(0).all()
    empty = torch.zeros(2, 0, dtype=F64, requires_grad=True)
    value = ours(empty, None)
    assert value.tolist() == [nothing] * 2
    torch.autograd.grad(value.sum(), empty)


def test_ties_and_flat_rows() -> None:
    x = torch.tensor([[1.0, 1.0, 0.0, 1.0]], dtype=F64)
    assert _slopes(lambda z: operations.masked_max(z, None, (1,)) * torch.arange(1), x) == [0]
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(operations.masked_max(leaf, MASK[:1], (1,)).sum(), leaf)
    assert grad.tolist() == [[0.5, 0, 0, 0.5]]
    flat = torch.full((1, 3), 2.0, dtype=F64, requires_grad=True)
    value = operations.masked_std(flat, None, 0.0, (1,))
    assert value.item() == 0
    assert torch.autograd.grad(value.sum(), flat)[0].eq(0).all()
    assert operations.masked_argmax(x, None, (1,)).tolist() == [0]
    assert operations.masked_argmax(x, torch.tensor([[False, True, True, True]]), (1,)).tolist() == [1]
    infinite = torch.full((1, 4), -math.inf)
    assert operations.masked_argmax(infinite, torch.tensor([[False, True, True, True]]), (1,)).tolist() == [1]
    assert operations.masked_argmax(x, torch.zeros(1, 4, dtype=torch.bool), (1,)).tolist() == [-1]


def test_logsumexp_of_infinities() -> None:
    x = torch.tensor([[-math.inf, -math.inf], [0.0, -math.inf], [math.nan, 0.0]], dtype=F64, requires_grad=True)
    value = operations.masked_logsumexp(x, None, (1,))
    assert value[:2].tolist() == [-math.inf, 0]
    assert torch.isnan(value[2])
    (grad,) = torch.autograd.grad(value[:2].sum(), x)
    assert grad[:2].tolist() == [[0, 0], [1, 0]]


def test_softmax_and_log_softmax() -> None:
    x = _sample().requires_grad_()
    torch.testing.assert_close(operations.softmax(x, None, 1), torch.softmax(x, 1))
    torch.testing.assert_close(operations.log_softmax(x, None, 1), torch.log_softmax(x, 1))
    filled = torch.where(MASK, x, -torch.inf)
    rows = MASK.any(1)
    torch.testing.assert_close(operations.softmax(x, MASK, 1)[rows], torch.softmax(filled, 1)[rows])
    assert operations.softmax(x, MASK, 1)[~rows].eq(0).all()
    assert torch.autograd.gradgradcheck(lambda z: operations.log_softmax(z, MASK, 1), x)
    big = torch.tensor([[2.0**24, 2.0**24]], requires_grad=True)
    assert -operations.log_softmax(big, None, 1)[0, 0].item() == pytest.approx(math.log(2), rel=1e-6)


LABEL = torch.tensor([[0, 1, 0, 1], [2, 2, 2, 0], [1, 0, 0, 1]])

RUNNING: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor], Tensor]]] = {
    "cumsum": (operations.cumsum, torch.sum),
    "cumprod": (operations.cumprod, torch.prod),
    "cummax": (operations.cummax, torch.amax),
    "cumlogsumexp": (operations.cumlogsumexp, lambda x: x.exp().sum().log()),
    "scan": (
        lambda x, m, label, dim: operations.scan(x, m, label, torch.tensor(0.9, dtype=F64), dim),
        lambda x: sum((x[-1 - k] * 0.9**k for k in range(len(x))), x.sum() * 0),
    ),
    "shift": (
        lambda x, m, label, dim: operations.shift(x, m, label, 7.0, 1, dim),
        lambda x: x[-2] if len(x) > 1 else x.sum() * 0 + 7,
    ),
    "rank": (operations.rank, lambda x: (x.detach() < x[-1].detach()).sum().to(F64) + x.sum() * 0),
}


@pytest.mark.parametrize("by", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(RUNNING))
def test_operations_along_an_axis(name: str, masked: bool, by: bool) -> None:
    function, naive = RUNNING[name]
    mask, label = (MASK if masked else None), (LABEL if by else None)
    x = _sample(3).requires_grad_()
    with torch.no_grad():
        dirty = x if mask is None else torch.where(mask, x, torch.nan)
    dirty = dirty.detach().requires_grad_()
    value = function(dirty, mask, label, 1)
    expected = torch.zeros(3, 4, dtype=F64)
    admitted = MASK if masked else torch.ones_like(MASK)
    for row in range(3):
        for i in range(4):
            seen = [j for j in range(4) if admitted[row, j] and (not by or LABEL[row, j] == LABEL[row, i])]
            if name != "rank":
                seen = [j for j in seen if j <= i]
            if admitted[row, i]:
                others = [j for j in seen if j != i]
                expected[row, i] = naive(x[row, [*others, i]])
    torch.testing.assert_close(torch.where(admitted, value, 0.0), expected)
    if name != "rank":
        weight = _sample(4)
        (grad,) = torch.autograd.grad((torch.where(admitted, value, 0.0) * weight).sum(), dirty)
        (naive_grad,) = torch.autograd.grad((expected * weight).sum(), x)
        torch.testing.assert_close(grad, naive_grad)


def test_cummax_shares_ties() -> None:
    x = torch.tensor([[1.0, 1.0, 0.0, 2.0]], dtype=F64, requires_grad=True)
    (grad,) = torch.autograd.grad(operations.cummax(x, None, None, 1)[0, 2], x)
    assert grad.tolist() == [[0.5, 0.5, 0, 0]]


def test_a_segment_never_sees_another() -> None:
    x = torch.tensor([[math.inf, 1.0, 2.0]], dtype=F64, requires_grad=True)
    label = torch.tensor([[0, 1, 1]])
    for function in (operations.cumsum, operations.cumprod, operations.cumlogsumexp, operations.cummax):
        value = function(x, None, label, 1)[:, 1:]
        assert torch.isfinite(value).all()
        assert torch.isfinite(torch.autograd.grad(value.sum(), x)[0]).all()


def test_sort_and_topk() -> None:
    x = torch.tensor([[3.0, 1.0, 2.0, 1.0]], dtype=F64, requires_grad=True)
    key = torch.tensor([[0.0, 5.0, 0.0, 1.0]], dtype=F64, requires_grad=True)
    assert operations.sort(x, None, key, 1).tolist() == [[3, 2, 1, 1]]
    (grad,) = torch.autograd.grad(operations.sort(x, None, key, 1)[0, 1], x)
    assert grad.tolist() == [[0, 0, 1, 0]]
    assert operations.sort(x, torch.tensor([[False, True, True, True]]), x, 1).tolist() == [[1, 1, 2, 0]]
    assert operations.topk(x, None, 2, 1).tolist() == [[3, 2]]
    assert operations.topk(x, torch.tensor([[False, True, False, True]]), 3, 1).tolist() == [[1, 1, 0]]


def test_nan_is_not_lost_in_order_statistics_and_signs() -> None:
    x = torch.tensor([math.nan, 2.0, -1.0], dtype=F64)
    seen, hidden = torch.tensor([True, True, False]), torch.tensor([False, True, True])
    assert operations.masked_quantile(x, None, 0.5, (0,)).isnan()
    assert operations.masked_quantile(x, seen, 0.5, (0,)).isnan()
    assert operations.masked_quantile(x, hidden, 0.5, (0,)).item() == 0.5
    assert operations.topk(x, None, 2, 0).isnan().tolist() == [True, False]
    assert operations.topk(x, hidden, 2, 0).tolist() == [2, -1]
    assert operations.sign(x).isnan().tolist() == [True, False, False]


def test_take_reads_entries_at_labels() -> None:
    x = _sample(0, 2, 3, 5)
    at = torch.tensor([[0, 4, -1], [2, 2, 1]])
    torch.testing.assert_close(operations.take(x, at), x.gather(-1, at.clamp(min=0)[..., None])[..., 0])
    several = torch.tensor([[[0, 1]], [[3, 4]]])
    assert operations.take(x, several).shape == (2, 3, 2)
    assert operations.take(x[:, :0], at[:, :0]).shape == (2, 0)


def test_group_sum_skips_none() -> None:
    x = _sample(0, 4, 2)
    total = operations.group_sum(x, torch.tensor([1, -1, 1, 0]), 3)
    torch.testing.assert_close(total, torch.stack([x[3], x[0] + x[2], torch.zeros(2, dtype=F64)]))


def test_masks_that_look_ahead() -> None:
    mask = torch.tensor([[True, False, True]])
    assert operations.ahead(mask, None, None, 1, 1).tolist() == [[False, True, False]]
    assert operations.ahead(mask, None, None, -1, 1).tolist() == [[False, True, False]]
    last, group = torch.tensor([[False, False, True, False]]), torch.tensor([[0, 1, 0, 0]])
    assert operations.ahead(last, None, None, None, 1).tolist() == [[True, True, True, False]]
    assert operations.ahead(last, None, group, None, 1).tolist() == [[True, False, True, False]]
    assert operations.ahead(last, None, group, 1, 1).tolist() == [[True, False, False, False]]
    admitted = torch.tensor([[True, False, True, True]])
    assert operations.ahead(last, admitted, None, 1, 1).tolist() == [[True, False, False, False]]


def test_norm_scales() -> None:
    x = torch.tensor([3e300, 4e300], dtype=F64, requires_grad=True)
    assert operations.norm(x, (0,)).item() == pytest.approx(5e300)
    assert torch.autograd.gradgradcheck(lambda z: operations.norm(z, (1,)), _sample().requires_grad_())


def test_functions_have_one_name_each() -> None:
    """A standalone module holds them side by side."""
    homes: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(operations.__path__):
        for name, found in vars(importlib.import_module(f"{operations.__name__}.{module.name}")).items():
            if callable(found) and getattr(found, "__module__", "").startswith(operations.__name__):
                homes.setdefault(name, set()).add(found.__module__)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


@pytest.mark.parametrize("size", [7, 4096, 4097, 131072])
@pytest.mark.parametrize("masked", [False, True])
def test_softmax_is_as_exact_for_many_entries(size: int, masked: bool) -> None:
    """The mean is that of the errors of the normaliser: those of the entries, which are rounded by themselves, cancel."""
    x = _sample(3, 5, size) * 3 + 1e4
    x = x.float().double()
    mask = torch.rand(5, size, generator=torch.Generator().manual_seed(0)) > 0.3 if masked else None
    seen = x if mask is None else x.masked_fill(~mask, -torch.inf)
    log, plain = operations.log_softmax(x.float(), mask, 1), operations.softmax(x.float(), mask, 1)
    there = torch.ones(5, size, dtype=torch.bool) if mask is None else mask
    error = torch.where(there, log - torch.log_softmax(seen, 1), 0.0)
    assert error.mean(dim=1).abs().max() < 1.5e-6
    torch.testing.assert_close(plain.double(), torch.softmax(seen, 1), rtol=1e-5, atol=0.0)
    assert plain.double().sum(dim=1) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_rows_without_entries(name: str, size: int) -> None:
    x = _sample(0, 2, size).requires_grad_()
    mask = torch.zeros(2, size, dtype=torch.bool)
    mask[0, 1] = True
    value = getattr(operations, name)(x, mask, 1)
    assert value.tolist()[1] == [0.0] * size
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    assert torch.equal(first, torch.zeros_like(x))
    (second,) = torch.autograd.grad((value * value + first).sum(), x)
    assert torch.isfinite(second).all()
