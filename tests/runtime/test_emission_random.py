"""Random programs, NaN behind the mask, against the entry-by-entry meaning of their graphs."""

from __future__ import annotations

import random

import pytest
import torch
from tests.runtime.core_oracle import Meaning
from tests.runtime.test_emission import NODES, SIZES, compare, draw

from lossc.compiler.formula import formula

UNARY = (
    "exp({})", "tanh({})", "softplus({})", "abs({})", "sg({})", "({})^2", "log(abs({}))", "1 / {}", "sqrt(abs({}))",
    "relu({})", "clip({}, -0.5, 0.7)", "xlogy(abs({0}), abs({0}))", "log1mexp(-abs({}))", "lgamma(abs({}))", "-{}",
    "sigmoid({})", "abs({})^gamma",
)  # fmt: skip
BINARY = ("({} + {})", "({} - {})", "({} * {})", "({} / {})", "max({}, {})", "min({}, {})", "logaddexp({}, {})")
LEAVES = (
    "s", "a", "h", "pos", "beta", "0.5", "lp", "z[v = y]", "log_softmax[v](z)[v = y]", "q[v = y]", "logsumexp[v](z)",
)  # fmt: skip
REDUCE = ("sum", "mean", "max", "logsumexp", "std", "prod", "min", "median")
ALONG = ("cumsum", "softmax", "shift", "cummax", "log_softmax", "rank", "cumlogsumexp")


def number(depth: int, source: random.Random) -> str:
    """An expression over b and t that looks at masked entries through masks only."""
    choice = source.random()
    if depth <= 0 or choice < 0.12:
        return source.choice(LEAVES)
    if choice < 0.4:
        return f"({source.choice(UNARY).format(number(depth - 1, source))})"
    if choice < 0.62:
        return source.choice(BINARY).format(number(depth - 1, source), number(depth - 1, source))
    if choice < 0.72:
        return f"({number(depth - 1, source)} if {condition(depth - 1, source)} else {number(depth - 1, source)})"
    if choice < 0.94:
        op = source.choice(REDUCE if choice < 0.86 else ALONG)
        mask = "m" if source.random() < 0.5 else f"m and {condition(depth - 2, source)}"
        return f"{op}[t where {mask}]({number(depth - 1, source)})"
    return f"sum[v](softmax[v](z) * (u * {number(depth - 2, source)}))"


def condition(depth: int, source: random.Random) -> str:
    left, right = number(min(depth, 1), source), number(min(depth, 1), source)
    return source.choice(("({} > {})", "({} <= {})", "(not ({} > {}))", "(m and {} < {})")).format(left, right)


@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    source = random.Random(seed)
    text = f"sum[b, t where m]({number(source.randint(2, 5), source)})"
    root = formula(text, NODES)
    tensors, params = draw(seed % 6)
    leaves = {name: x.clone().requires_grad_() for name, x in tensors.items() if x.is_floating_point()}
    value = Meaning({**tensors, **leaves}, params, SIZES).at(root, {})
    grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True) if value.requires_grad else []
    if all(bool(torch.isfinite(x).all()) and float(x.detach().abs().max()) < 1e7 for x in (value, *grads) if x is not None):
        compare(root, poison=dict.fromkeys(("z", "u", "s", "a", "pos", "lp", "q"), "m"), seed=seed % 6, rtol=1e-7)
