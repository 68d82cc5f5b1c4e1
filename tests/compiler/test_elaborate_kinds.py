"""The kind of every form of expression: the table of the language page, and what may stand where a kind is asked for."""

from __future__ import annotations

import pytest

from lossc.compiler.check import Checked, check_source
from lossc.grammar.source import Source

DECLARATIONS = """
axis b : batch
axis t
axis v
axis side = {left, right}
input z : logits[b, v]
input w : logits[b, v]
input p : prob[b, v]
input q : prob[b, v]
input lp : logprob[b, v]
data s : logprob[b, t]
input e : embedding[b, side]
input x : real[b]
input y : real[b, t]
input pos : positive[b]
input u : unit[b]
input m : mask[b]
data c : label[b] in v
data g : label[b] in group
data n : int[b]
param a : unit = 0.3
param k : real = 2
param mode : {hard, soft} = hard
"""

KINDS = {
    # scores
    "z + x": "logits[v]", "x + z": "logits[v]", "z - x": "logits[v]", "x - z": "logits[v]", "z + 1": "logits[v]",
    "-z": "logits[v]", "z * x": "logits[v]", "x * z": "logits[v]", "z * k": "logits[v]", "z / pos": "logits[v]",
    "z / 2": "logits[v]", "z + w": "logits[v]", "z - w": "real", "z * w": "real", "2 / z": "real", "z^2": "real",
    "exp(z)": "real", "z + m": "logits[v]", "max[v](z)": "real", "logsumexp[v](z)": "real", "z[v = c]": "real",
    "mean[b](z)": "logits[v]", "mean[b](z, weight = u)": "logits[v]", "sum[b](z)": "real", "clip(z, -1, 1)": "real",
    "z if m else w": "logits[v]", "z if m else p": "real", "sg(z)": "logits[v]", "z[b -> j]": "logits[v]",
    "z[v -> j]": "logits[j]", "z[v -> j = 0..2]": "real",
    # distributions
    "p + q": "real", "(p + q) / 2": "prob[v]", "0.3 * p + 0.7 * q": "prob[v]", "0.3 * p + 0.6 * q": "real",
    "p / 4 + 3 * q / 4": "prob[v]", "a * p + (1 - a) * q": "prob[v]", "p * (1 - a) + a * q": "prob[v]",
    "u * p + (1 - u) * q": "prob[v]", "k * p + (1 - k) * q": "real", "0.2 * p + 0.3 * q + 0.5 * p": "prob[v]",
    "p * q": "real", "p - q": "real", "p / 2": "real", "-p": "real", "log(p)": "logprob[v]", "p[v = c]": "unit",
    "1 - p[v = c]": "real", "mean[b](p)": "prob[v]", "sum[b](p)": "real", "p if m else q": "prob[v]", "sg(p)": "prob[v]",
    "softmax[v](z)": "prob[v]", "softmax[b](z)": "prob[b]", "softmax[v](z)[v = c]": "unit",
    "softmax[v](z)[v -> j]": "prob[j]", "softmax[v](z) / 2 + p / 2": "prob[v]",
    # log-probabilities
    "lp + lp": "logprob[v]", "lp - lp": "real", "lp + 1": "real", "-lp": "real", "exp(lp)": "prob[v]", "exp(s)": "unit",
    "s + s": "logprob", "s - s": "real", "lp[v = c]": "logprob", "exp(lp[v = c])": "unit", "sum[t](s)": "logprob",
    "mean[t](s)": "real", "sum[v](lp)": "real", "log_softmax[v](z)": "logprob[v]", "log(softmax[v](z))": "logprob[v]",
    "exp(log_softmax[v](z))": "prob[v]", "log(p[v = c])": "real",
    # vectors
    "e + e": "embedding[side]", "e - e": "embedding[side]", "e * x": "embedding[side]", "-e": "embedding[side]",
    "e / norm[side](e)": "embedding[side]", "e * e": "real", "dot[side](e, e)": "real", "e[side = left]": "real",
    # labels
    "c": "label in v", "argmax[v](z)": "label in v", "c[b -> j]": "label in v", "c if m else c": "label in v",
    "sg(c)": "label in v", "c + 1": "real", "n": "real", "index[v]": "real", "size[v]": "real",
    # masks
    "m and m": "mask", "not m": "mask", "x > 0": "mask", "0 < x < 1": "mask", "c == c": "mask", "c >= 0": "mask",
    "index[v] == c": "mask", "mode == hard": "mask", "soft != mode": "mask", "any[b](m)": "mask", "m if m else m": "mask",
    "fill(m, 0)": "mask", "shift[b](m, 1)": "mask", "shift[b](m, 1, fill = 0)": "mask", "m[b -> j]": "mask",
    "m + 1": "real", "m * x": "real", "sum[b](m)": "real", "mean[b](m)": "real", "m if m else 0": "real",
    # numbers
    "pi": "real", "step": "real", "normal(b, t)": "real", "count[b where m]": "real", "side{left: 1, right: -1}": "real",
    "fill(z[v = c], 0)": "real", "cumsum[t](y)": "real", "sort[t -> r](y)": "real", "rank[t](y)": "real",
}  # fmt: skip


def checked(text: str) -> Checked:
    return check_source(Source("kinds.loss", DECLARATIONS + text))


@pytest.mark.parametrize("expression", KINDS)
def test_kind(expression: str) -> None:
    program = checked(f"let probe = {expression}\nminimize\n  loss : 1\n").program
    assert program is not None
    kind = program.lets["probe"].kind
    over = f"[{kind.axis}]" if kind.axis else ""
    assert f"{kind}{over}" == KINDS[expression]


ACCEPTED = {
    "logits[v]": ("z", "x * z", "log(p)", "lp", "log_softmax[v](z)", "2 * y[t -> v]", "dot[side](e, e[b -> v])"),
    "prob[v]": ("p", "softmax[v](z)", "exp(lp)", "1 if index[v] == c else 0"),
    "logprob[v]": ("lp", "log(p)", "-abs(z)"),
    "label in v": ("c", "argmax[v](z)"),
    "mask": ("m", "x > 0", "c >= 0"),
    "real": ("z", "p", "lp", "s", "x", "m", "c", "e", "k"),
    "positive": ("pos", "x", "u", "exp(x)", "k"),
    "embedding[side]": ("e", "e * x", "y[t -> side]"),
}
REFUSED = {
    "logits[v]": ("p", "m", "c", "softmax[v](z)", "sum[t](s)", "lp[v = c]"),
    "prob[v]": ("z", "lp", "m", "c", "p + 2"),
    "logprob[v]": ("z", "p", "m", "c", "1 + exp(z)"),
    "label in v": ("z", "x", "m", "n", "index[v]"),
    "mask": ("x", "c", "p", "k"),
    "positive": ("s", "-pos", "0", "-1"),
    "embedding[side]": ("p", "m", "c"),
}


def call(kind: str, argument: str) -> list[str]:
    text = f"term f(it : {kind}) = 1 + sg(0 * it)\nlet probe = f({argument})\nminimize\n  loss : 1\n"
    return [
        problem.code
        for problem in checked(text.replace("it : mask) = 1 + sg(0 * it)", "it : mask) = it")).problems.errors
    ]


@pytest.mark.parametrize(("kind", "argument"), [(kind, one) for kind, several in ACCEPTED.items() for one in several])
def test_is_accepted(kind: str, argument: str) -> None:
    assert call(kind, argument) == []


@pytest.mark.parametrize(("kind", "argument"), [(kind, one) for kind, several in REFUSED.items() for one in several])
def test_is_refused(kind: str, argument: str) -> None:
    assert call(kind, argument) in (["E204"], ["E401"])
