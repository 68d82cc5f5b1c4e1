"""Random well-typed programs over two streams of scores, with a batch for them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

HEAD = """axis b : batch
axis t
axis v
axis k
axis side = {left, right}
input z    : logits[b, t, v]
input u    : real[b, t, v]
data  q    : logits[b, t, v]
data  y    : label[b, t] in v
data  ys   : label[b, t, k] in v
data  m    : mask[b, t]
data  keep : mask[v]
data  own  : mask[b, v]
data  w    : positive[v]
input a    : real[b, t]
data  g    : label[b] in group
data  pair : real[b, side]
learn tau  : positive = 1.3
learn s    : real = 0.2
param gamma : nonneg = 1.5
"""

CLASSES = (
    "{C} + {C}", "{C} - {R}", "{C} * {C}", "softmax[v]({C})", "log_softmax[v]({C})", "softmax[v where keep]({C})",
    "log_softmax[v where keep or own]({C})", "{C} if keep else {C}", "{C} if {C} > {C} else 0", "abs({C})", "({C})^2",
    "exp(log_softmax[v]({C}) * gamma)", "3 * tanh({C} / 3)", "{R} * {C}", "sg({C})", "sqrt(softmax[v]({C}))",
    "{C} / tau", "({C}) / ({R}^2 + 1)", "softplus({C})", "(index[v] == y) * {C}", "max({C}, {C})", "min({C}, {R})",
    "w * {C}", "xlogy(softmax[v]({C}), softmax[v]({C}))", "clip({C}, -1, {R})", "sigmoid({C})", "{C} if own else {C}",
    "relu({C} - {R})", "min(exp({C}), 3)", "max(log(softmax[v]({C})), -2)", "(1 - softmax[v]({C}))^gamma",
)  # fmt: skip
ROWS = (
    "sum[v]({C})", "mean[v]({C})", "logsumexp[v]({C})", "({C})[v = y]", "max[v]({C})", "min[v]({C})",
    "sum[v where keep]({C})", "logsumexp[v where own]({C})", "max[v where keep]({C})", "{R} + {R}", "{R} * {R}", "tanh({R})",
    "sum[v]({C} * softmax[v]({C}))", "var[v]({C})", "std[v]({C})", "sum[v where index[v] != y]({C})",
    "logsumexp[k](({C})[v = ys])", "sum[k](({C})[v = ys])", "sg({R})", "logsumexp[v]({C}) - ({C})[v = y]",
    "({C})[v = argmax[v]({C})]", "mean[v]({C}, weight = w)", "{R} / tau", "s * {R}", "a - {R}", "{R} if m else {R}",
    "max({R}, {R})", "min(exp({R}), 2 + a^2)", "shift[t](a, 1, fill = 0) * {R}", "relu({R} - a)", "{R} if {R} > 0 else -{R}",
    "sum[v where softmax[v]({C}) > 0.02]({C})", "median[v]({C})", "(y >= 0) * {R}", "any[v where keep]({C} > 1) * {R}",
    "sum[v](max({C}, {R}))", "cumsum[t where m]({R})", "logaddexp({R}, {R})", "clip({R}, -1, 2)", "log1p(({R})^2)",
    "fill({R}, 0.5)", "({C})[v = 2]", "sum[v]({C} * (index[v] == y))",
)  # fmt: skip
WHOLE = (
    "mean[b, t where m]({R})", "mean[b](mean[t where m]({R}))", "sum[b, t]({R})", "sum[b](max[t where m]({R}))",
    "mean[group](mean[b by g](mean[t where m]({R})))", "log(mean[b, t where m](({R})^2) + 1)", "mean[b](std[t where m]({R}))",
    "sum[b, t where m]({R}) / count[b, t where m and y >= 0]", "mean[b, t where m]({R}, weight = 1 + a^2)",
    "mean[b](softplus(sum[side](side{left: 1, right: -1} * pair) * mean[t where m]({R})))",
    "mean[b](mean[t where m]({R}) * mean[b](mean[t]({R})))", "mean[b, t where m]({R} * (mean[b by g](a[t = 0]))[group = g])",
    "mean[b, j where index[b] != index[j]](relu(1 + ({R})[t = 0] - (({R})[t = 1])[b -> j]))", "sum[b, t, v where keep]({C})",
    "mean[b, t, v where m](({C})^2)", "mean[b, t, v where m and own]({C})", "sum[v](mean[b, t where m]({C})^2)",
    "exp(-s) * mean[b, t where m]({R}) + s", "mean[t](logsumexp[b where m]({R}))", "mean[b](fill(mean[t where m]({R}), 0))",
    "max[b](mean[t where m]({R}))", "median[b](sum[t where m]({R}))", "sum[t, v](var[b]({C}))",
    "mean[b, t where m]({R}) + mean[b, t where not m]({R})", "mean[r where index[r] > 0](sort[b -> r](mean[t]({R})))",
)  # fmt: skip
CLASS_LEAVES = ("z", "z", "z", "u", "q", "w", "z / tau", "u * a", "index[v] / 7", "z + u")
ROW_LEAVES = ("tau", "s", "a", "1", "z[v = y]", "gamma", "logsumexp[v](z)", "-log_softmax[v](z)[v = y]")


def expression(kind: str, source: random.Random, depth: int) -> str:
    """A random expression over classes (`C`), rows (`R`) or a whole batch (`W`)."""
    if depth == 0 and kind != "W":
        return source.choice(CLASS_LEAVES if kind == "C" else ROW_LEAVES)
    parts = source.choice({"C": CLASSES, "R": ROWS, "W": WHOLE}[kind]).split("{")
    text = parts[0]
    for part in parts[1:]:
        text += f"({expression(part[0], source, depth - 1)}){part[2:]}" if part[1:2] == "}" else "{" + part
    return text


def program(seed: int, depth: int = 3) -> str:
    """One or two terms."""
    source = random.Random(seed)
    terms = [f"  term{at} : {expression('W', source, depth)}" for at in range(source.choice((1, 1, 2)))]
    return f"{HEAD}minimize\n" + "\n".join(terms) + "\n"


@dataclass(frozen=True)
class Sizes:
    b: int = 4
    t: int = 3
    v: int = 11
    k: int = 2


def batch(seed: int, dtype: torch.dtype = torch.float64, sizes: Sizes | None = None) -> dict[str, Tensor]:
    """Tensors for a program: some labels are none, some rows masked or all masked, some groups empty."""
    n = sizes or Sizes()
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64).to(dtype)

    def below(most: int, *shape: int) -> Tensor:
        return torch.randint(-1, most, shape, generator=source)

    scale = (1.0, 1.0, 5.0, 30.0)[seed % 4]
    mask = torch.rand(n.b, n.t, generator=source) < 0.7
    mask[seed % n.b] &= bool(seed % 3)
    keep = torch.rand(n.v, generator=source) < 0.6
    keep[0] = True
    return {
        "z": scale * normal(n.b, n.t, n.v), "u": normal(n.b, n.t, n.v), "q": normal(n.b, n.t, n.v),
        "y": below(n.v, n.b, n.t), "ys": below(n.v, n.b, n.t, n.k), "m": mask, "keep": keep,
        "own": torch.rand(n.b, n.v, generator=source) < 0.8, "w": normal(n.v).exp(), "a": normal(n.b, n.t),
        "g": below(3, n.b), "pair": normal(n.b, 2),
    }  # fmt: skip
