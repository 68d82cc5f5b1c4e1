"""A shift passes over what does not exist: entries that a `where` excludes, absent ones, those of other groups."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lossc

nan = torch.nan
DECLARATIONS = """
axis b : batch
axis t
axis group
axis v
input x : real[b, t]
data  m : mask[b, t]
data  g : label[b, t] in group
data  w : real[b, t]
"""
X = torch.tensor([[1.0, nan, 3.0, 4.0, nan, 6.0], [1.0, 2.0, 3.0, nan, nan, nan]]).double()
G = torch.tensor([[0, 1, 0, 1, 0, 0], [1, 1, 0, 0, 1, 0]])
W = torch.arange(1.0, 13.0).double().reshape(2, 6)


def outcome(expression: str, backend: str) -> tuple[Tensor, Tensor]:
    """The sum of w times the shifted values, and its gradient to x."""
    text = f"{DECLARATIONS}\nminimize\n  s : sum[b, t](w * {expression})\n"
    objective = lossc.loads(text, backend=backend).double()
    x = X.clone().requires_grad_()
    given = {"x": x, "m": X == X, "g": G, "w": W}
    loss = objective(**{name: value for name, value in given.items() if name in objective.program.tensors}).loss
    loss.backward()
    assert x.grad is not None
    return loss.detach(), x.grad


def expected(n: int, *, grouped: bool, fill: float | None = None) -> tuple[Tensor, Tensor]:
    """The same in a loop: the entry `n` places before among those that exist in the row, and in the group."""
    total, slope = 0.0, torch.zeros_like(X)
    for b in range(2):
        for t in range(6):
            if bool(X[b, t].isnan()):
                continue
            alike = [u for u in range(6) if not bool(X[b, u].isnan()) and (not grouped or G[b, u] == G[b, t])]
            place = alike.index(t) - n
            if 0 <= place < len(alike):
                total += float(W[b, t] * X[b, alike[place]])
                slope[b, alike[place]] += W[b, t]
            elif fill is not None:
                total += float(W[b, t]) * fill
    return torch.tensor(total).double(), slope


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
@pytest.mark.parametrize("n", [1, 2, -1, -2])
def test_excluded_entries_are_passed_over(n: int, backend: str) -> None:
    torch.testing.assert_close(outcome(f"shift[t where m](x, {n})", backend), expected(n, grouped=False))


@pytest.mark.parametrize("n", [1, -1])
def test_a_group_is_a_sequence_of_its_own(n: int) -> None:
    torch.testing.assert_close(outcome(f"shift[t by g where m](x, {n})", "reference"), expected(n, grouped=True))


def test_where_there_is_none_the_fill_stands() -> None:
    found = outcome("shift[t by g where m](x, 1, fill = 5)", "reference")
    torch.testing.assert_close(found, expected(1, grouped=True, fill=5))


def test_absent_entries_are_passed_over_too() -> None:
    """Entries read at a label that is none are as if they were not there, with no `where` at all."""
    text = """
axis b : batch
axis t
axis v
input z : real[b, t, v]
data  y : label[b, t] in v
minimize
  s : sum[b](shift[t](z[v = y], 1)[t = 2]) + 100 * count[b, t where shift[t](z[v = y], 1) >= 0]
"""
    z = torch.arange(1.0, 7.0).double().reshape(1, 3, 2)
    found = lossc.loads(text).double()(z=z, y=torch.tensor([[1, -1, 0]])).loss
    torch.testing.assert_close(found, torch.tensor(102.0).double())


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
@pytest.mark.parametrize("steps", [(1, -2), (-2, 1), (2, 1, -4), (-1, -1, 3)])
def test_shifts_of_shifts_see_what_they_read(steps: tuple[int, ...], backend: str) -> None:
    """What comes to no place of the result is NaN, and so is its logarithm; a mask hides further ones."""
    n, expression, places = 6, "log(x)", list(range(6))
    for step in steps:
        expression = f"shift[t]({expression}, {step}, fill = 0)"
        places = [places[at - step] if 0 <= at - step < n else -1 for at in range(n)]
    hidden = 3
    read = [place for at, place in enumerate(places) if place >= 0 and at != hidden]
    x = torch.tensor([[place + 1.0 if place in read else nan for place in range(n)]]).double().requires_grad_()
    mask = torch.arange(n)[None] != hidden
    objective = lossc.loads(f"{DECLARATIONS}\nminimize\n  s : sum[b, t where m]({expression})\n", backend=backend).double()
    loss = objective(x=x, m=mask).loss
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(loss, torch.tensor(read).add(1.0).log().sum().double(), rtol=1e-6, atol=0)
    assert gradient[0].tolist() == pytest.approx([1 / (place + 1) if place in read else 0 for place in range(n)])


def test_a_stencil_of_a_stencil_is_not_written_out_path_by_path() -> None:
    """Eight erosions of an image: 4^8 paths, and as many guards as there are distances."""
    cross = f"min(x, {', '.join(f'shift[{axis}](x, {n}, fill = inf)' for axis in 'tu' for n in (1, -1))})"
    eroded = "x"
    for _ in range(8):
        eroded = f"erode({eroded})"
    text = f"axis b : batch\ninput x : real[b, t, u]\nterm erode(x : real[t, u]) -> real[t, u] = {cross}\n"
    x = torch.zeros(1, 9, 9)
    x[0, 0, 0] = -1
    loss = lossc.loads(f"{text}minimize\n  s : sum[b, t, u]({eroded})\n", backend="reference")(x=x).loss
    assert float(loss) == -sum(1 for t in range(9) for u in range(9) if t + u <= 8)
