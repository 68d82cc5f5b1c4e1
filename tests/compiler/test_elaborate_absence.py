"""Absent values, by numbers worked out by hand: `fill(u, -7)` shows where `u` is absent.

    y   1  2  3  4     mask  1 1 0 0     c   0 -1  2  1     x  1     g   0
        5  6  7  8           0 0 0 0        -1 -1 -1 -1        2        -1
        9 10 11 12           1 1 1 1         1  1 -1 -1        4         2

and z[b, t, v] = 100 v + y, so z[v = c] is 1, absent, 203, 104; all absent; 109, 110, absent, absent.
"""

from __future__ import annotations

import math

import pytest
import torch

import lossc

DECLARATIONS = """
axis b : batch
axis t
axis v
axis group
input z : logits[b, t, v]
input y : real[b, t]
input x : real[b]
data m : mask[b, t]
data c : label[b, t] in v
data g : label[b] in group
data s : label[b, t] in segment
data w : real[group]
minimize
  loss : """

Y = torch.arange(1, 13, dtype=torch.float64).reshape(3, 4)
TENSORS = {
    "z": Y[..., None] + 100 * torch.arange(3, dtype=torch.float64),
    "y": Y,
    "x": torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64),
    "m": torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool),
    "c": torch.tensor([[0, -1, 2, 1], [-1, -1, -1, -1], [1, 1, -1, -1]]),
    "g": torch.tensor([0, -1, 2]),
    "s": torch.tensor([[0, 0, 1, 1]] * 3),
    "w": torch.tensor([10.0, 20.0, 40.0], dtype=torch.float64),
}
ABSENT = -7.0

CASES = {
    # of nothing
    "sum[b, t where y > 99](y)": 0,
    "prod[b, t where y > 99](y)": 1,
    "1 if any[b, t where y > 99](y > 0) else 0": 0,
    "1 if all[b, t where y > 99](y < 0) else 0": 1,
    "1 if logsumexp[b, t where y > 99](y) < -1e300 else 0": 1,
    "count[b, t where y > 99]": 0,
    "mean[b, t where y > 99](y)": ABSENT,
    "max[b, t where y > 99](y)": ABSENT,
    "min[b, t where y > 99](y)": ABSENT,
    "median[b, t where y > 99](y)": ABSENT,
    "quantile[b, t where y > 99](y, 0.5)": ABSENT,
    "std[b, t where y > 99](y)": ABSENT,
    "var[b, t where y > 99](y)": ABSENT,
    "std[b where x == 2](x, ddof = 1)": ABSENT,
    "var[b where x == 2](x)": 0,
    "var[b where x > 1](x, ddof = 1)": 2,
    "mean[b](x, weight = 0 * x)": ABSENT,
    "mean[b](argmax[v where index[v] > 5](z[t = 0]) < 0)": 1,
    "mean[b](z[t = 0][v = argmax[v where index[v] > 5](z[t = 0])])": ABSENT,
    # rows of which nothing is admitted
    "mean[b](mean[t where m](y))": 6,
    "mean[b](fill(mean[t where m](y), 0))": 4,
    "mean[b](sum[t where m](y))": 15,
    "mean[b where any[t](m)](sum[t where m](y))": 22.5,
    "mean[b, t where m](y)": 7.5,
    "mean[b, t](y, weight = m)": 7.5,
    "mean[b](x, weight = x)": 3,
    # what is read at a none label
    "mean[b, t](z[v = c])": 105.4,
    "mean[b, t](y + 0 * z[v = c])": 5.4,
    "mean[b](sum[t](z[v = c]))": 263.5,
    "mean[b](sum[t where m](z[v = c]))": 220 / 3,
    "sum[b, t where c < 0](z[v = c])": ABSENT,
    "prod[b, t where c < 0](z[v = c])": ABSENT,
    "logsumexp[b, t where c < 0](z[v = c])": ABSENT,
    "sum[b](1 if any[t](z[v = c] > 0) else 0)": 2,
    "mean[b](any[t](z[v = c] > 0))": 1,
    "mean[b](all[t](z[v = c] > 100))": 0.5,
    "count[b, t where z[v = c] > 100]": 4,
    "sum[b, t](z[v = c] > 100)": 4,
    "mean[b, t](1 if z[v = c] > 0 else 0)": 5 / 12,
    "mean[b, t where not z[v = c] > 0](y)": ABSENT,
    "count[b, t where z[v = c] > 0 or m]": 5,
    "count[b, t where z[v = c] > 0 and m]": 3,
    "mean[b, t](fill(z[v = c], 0))": 527 / 12,
    "max[b, t](z[v = c])": 203,
    "min[b, t](z[v = c])": 1,
    "median[b, t](z[v = c])": 109,
    "mean[b](max[t](z[v = c]))": 156.5,
    "argmax[t](z[v = c])[b -> r][r = 2] + 0": 1,
    # labels
    "mean[b, t](c >= 0)": 5 / 12,
    "mean[b, t](c == 1)": 0.25,
    "mean[b, t](c == argmax[v](z))": 0.2,
    "mean[b, t](c != argmax[v](z))": 0.8,
    "sum[b, t, v](index[v] == c)": 5,
    "mean[b, t](c + 1)": 2,
    "mean[b, t](abs(c - 2))": 1,
    "sum[b, t](-c)": -5,
    "count[b, t where c + 1 >= 0]": 5,
    "sum[b](z[t = 0][v = mod(c[t = 0] + 1, 3)])": 101 + 209,
    # groups
    "mean[group](mean[b by g](x))": 2.5,
    "mean[group](sum[b by g](x))": 2.5,
    "mean[group](fill(sum[b by g](x), 0))": 5 / 3,
    "sum[group](count[b by g])": 2,
    "mean[group](count[b by g])": 1,
    "mean[b](mean[b by g](x)[group = g])": 2.5,
    "sum[b](w[group = g])": 50,
    "mean[b](w[group = g])": 25,
    "sum[group, t](max[b by g](y))": 10 + 42,
    "mean[group](std[b by g](x, ddof = 1))": ABSENT,
    "sum[b](mean[segment](var[t by s where y > 1](y, ddof = 1)))": 1.5,
    # along an axis
    "mean[b, t](cumsum[t where m](y))": 104 / 6,
    "sum[b, t](softmax[t where m](y))": 2,
    "mean[b, t](softmax[t where m](y))": 1 / 6,
    "mean[b, t](log_softmax[t where m](0 * y))": -10 * math.log(2) / 6,
    "mean[b, t](shift[t](y, 1))": 6,
    "mean[b, t](shift[t](y, 1, fill = 0))": 4.5,
    "mean[b, t](shift[t](y, -1))": 7,
    "sum[b, t](shift[t by s](y, 1))": 36,
    "count[b, t where shift[t](m, 1)]": 5,
    "count[b, t where shift[t](m, 1, fill = 1)]": 8,
    "mean[b](sort[t -> r](z[v = c])[r = 0])": 55,
    "sum[b](sort[t -> r](z[v = c])[r = 3])": ABSENT,
    "sum[b, k](topk[t -> k](y, 2))": 45,
    "sum[b, t](rank[t](-y))": 18,
    "mean[b, t](scan[t](y, 0))": 6.5,
    # positions
    "mean[b](y[t = index[b]])": 6,
    "mean[b](y[t = size[t] - 1])": 8,
    "sum[t](index[t])": 6,
    "sum[b, p](y[t -> p = 1..3])": 39,
    "count[b, t]": 12,
    # 0 * log 0, and what an `if` does not take
    "sum[b](xlogy(x - 1, x - 1))": 3 * math.log(3),
    "sum[b](log(x - 1) if x > 1 else 0)": math.log(3),
    "mean[b where x > 1](log(x - 1))": math.log(3) / 2,
}


def value(expression: str) -> float:
    objective = lossc.loads(f"{DECLARATIONS}fill({expression}, {ABSENT:g})\n", check_labels=False)
    return float(objective({name: TENSORS[name] for name in read(objective)}).loss)


def read(objective: lossc.Objective) -> list[str]:
    """The tensors that an objective needs."""
    return list(lossc.example_inputs(objective, {}))


@pytest.mark.parametrize("expression", CASES)
def test_value(expression: str) -> None:
    assert value(expression) == pytest.approx(CASES[expression], rel=1e-12, abs=1e-12)


def test_a_term_with_nothing_left_is_0_with_count_0() -> None:
    result = lossc.loads(f"{DECLARATIONS}mean[b where x > 99](x)\n")(x=TENSORS["x"])
    assert (float(result.loss), float(result.counts["loss"])) == (0, 0)


@pytest.mark.parametrize(
    "expression",
    [
        "mean[b where x > 1](log(x - 1))",
        "mean[b](log(x - 1) if x > 1 else x)",
        "mean[b](1 / (x - 1) if x != 1 else 0)",
        "sum[b where x > 1](sqrt(x - 1) / (x - 1))",
        "mean[b](fill(mean[t where y > 99](log(y - 1)), 0) * x)",
    ],
)
def test_what_is_excluded_has_no_gradient(expression: str) -> None:
    objective = lossc.loads(f"{DECLARATIONS}{expression}\n")
    given = {name: TENSORS[name].clone() for name in read(objective)}
    inputs = [tensor.requires_grad_() for name, tensor in given.items() if name in ("x", "y")]
    objective(given).loss.backward()
    for tensor in inputs:
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()
    assert any(tensor.grad is not None for tensor in inputs)
