"""One objective in several spellings is one graph after simplification, node for node."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.compiler.evaluate import evaluate

from lossc.compiler import intervals as iv
from lossc.compiler.core import Input, Node, Param
from lossc.compiler.formula import formula
from lossc.compiler.simplify import Simplifier

NAMES: dict[str, Node] = {
    "z": Input("z", ("b", "v")), "t": Input("t", ("b", "v")), "y": Input("y", ("b",), "label", iv.INTEGER),
    "m": Input("m", ("b", "v"), "mask"), "q": Input("q", ("b", "v"), "prob", iv.UNIT), "s": Input("s", ("b",)),
    "gamma": Param("gamma", "param", (), iv.NONNEG), "eps": Param("eps", "param", (), iv.UNIT),
    "tau": Param("tau", "param", (), iv.POSITIVE), "N": Param("N", "param", (), iv.POSITIVE),
    "beta": Param("beta", "param", (), iv.POSITIVE),
}  # fmt: skip

LOG_P = {
    "log_softmax": "log_softmax[v](z)",
    "softmax": "log(softmax[v](z))",
    "logsumexp": "(z - logsumexp[v](z))",
    "ratio": "log(exp(z) / sum[v](exp(z)))",
    "shifted": "(z - max[v](z) - log(sum[v](exp(z - max[v](z)))))",
}
P = {
    "log_softmax": "exp(log_softmax[v](z))",
    "softmax": "softmax[v](z)",
    "logsumexp": "exp(z - logsumexp[v](z))",
    "ratio": "(exp(z) / sum[v](exp(z)))",
    "shifted": "(exp(z - max[v](z)) / sum[v](exp(z - max[v](z))))",
}
LOG_PY = {
    **{f"{name}, then read": f"{text}[v = y]" for name, text in LOG_P.items()},
    **{f"{name}, read before the log": f"log({text}[v = y])" for name, text in P.items()},
    "read scores": "(z[v = y] - logsumexp[v](z))",
    "ratio of read scores": "log(exp(z[v = y]) / sum[v](exp(z)))",
}
PY = {
    **{f"{name}, read": f"{text}[v = y]" for name, text in P.items()},
    **{f"exp of {name}": f"exp({text})" for name, text in LOG_PY.items()},
}


def _pairs(first: dict[str, str], second: dict[str, str], template: str) -> list[str]:
    return [template.replace("P1", a).replace("P2", b) for a in first.values() for b in second.values()]


SPELLINGS: dict[str, list[str]] = {
    "cross-entropy": [f"-{text}" for text in LOG_PY.values()],
    "focal": [f"-(1 - {p})^gamma * {log_p}" for p in PY.values() for log_p in list(LOG_PY.values())[:3]],
    "generalised cross-entropy": [f"(1 - {p}^gamma) / gamma" for p in PY.values()],
    "DCO": [f"-log(1 - (1 - {p})^N)" for p in PY.values()],
    "unlikelihood": [f"-log(1 - {p})" for p in PY.values()] + [f"-log1p(-{p})" for p in PY.values()],
    "entropy": [f"-sum[v]({p} * {log_p})" for p in P.values() for log_p in LOG_P.values()],
    "KL": [
        text
        for name in P
        for p, log_p, log_q in [(P[name].replace("z", "t"), LOG_P[name].replace("z", "t"), LOG_P[name])]
        for text in (
            f"sum[v]({p} * ({log_p} - {log_q}))",
            f"sum[v]({p} * {log_p}) - sum[v]({p} * {log_q})",
            f"sum[v]({p} * log({p} / {P[name]}))",
            f"sum[v]({P[name]} * ({p} / {P[name]}) * log({p} / {P[name]}))",
        )
    ],
    "soft targets": [f"-sum[v](q * {log_p})" for log_p in LOG_P.values()],
    "z-loss": [
        "logsumexp[v](z)^2",
        "log(sum[v](exp(z)))^2",
        "(max[v](z) + log(sum[v](exp(z - max[v](z)))))^2",
        *(f"(z[v = y] - {log_p})^2" for log_p in LOG_PY.values()),
    ],
    "label smoothing": [
        text
        for log_py in LOG_PY.values()
        for log_p in LOG_P.values()
        for text in (
            f"-(1 - eps) * {log_py} - eps * mean[v]({log_p})",
            f"(eps - 1) * {log_py} - eps / size[v] * sum[v]({log_p})",
        )
    ],
    "distillation": [
        f"tau^2 * sum[v]({P[name].replace('z', '(t / tau)')} * "
        f"({LOG_P[name].replace('z', '(t / tau)')} - {LOG_P[name].replace('z', '(z / tau)')}))"
        for name in P
    ],
    "masked vocabulary": [
        "-log(softmax[v where m](z))[v = y]",
        "-log(softmax[v where m](z)[v = y])",
        "-log_softmax[v](z if m else -inf)[v = y]",
        "-log(softmax[v](z if m else -inf)[v = y])",
        "-(log_softmax[v where m](z) if m else -inf)[v = y]",
    ],
    "masked vocabulary, scaled": [
        "-log(softmax[v where m](z / tau)[v = y])",
        "-log_softmax[v]((z if m else -inf) / tau)[v = y]",
        "-log(softmax[v](z / tau if m else -inf)[v = y])",
    ],
    "masked entropy": [
        "-sum[v where m](softmax[v where m](z) * log_softmax[v where m](z))",
        "-sum[v where m](softmax[v where m](z) * log(softmax[v where m](z)))",
        "-sum[v](softmax[v where m](z) * log(softmax[v where m](z)))",
        "-sum[v](xlogy(softmax[v where m](z), softmax[v where m](z)))",
    ],
    "masked KL": [
        "sum[v where m](softmax[v where m](t) * (log_softmax[v where m](t) - log_softmax[v where m](z)))",
        "sum[v](softmax[v where m](t) * (log(softmax[v where m](t)) - log(softmax[v where m](z))))",
        "sum[v](softmax[v where m](t) * log(softmax[v where m](t))) - "
        "sum[v](softmax[v where m](t) * log(softmax[v where m](z)))",
    ],
    "binary cross-entropy": ["softplus(-s)", "-log(sigmoid(s))", "log(1 + exp(-s))", "-log(1 / (1 + exp(-s)))",
                             "-log(1 - sigmoid(-s))", "-logsigmoid(s)", "-log(exp(s) / (1 + exp(s)))", "logaddexp(0, -s)"],
    "preference margin": [
        "softplus(-beta * s)", "-log(sigmoid(beta * s))", "-logsigmoid(s * beta)",
        "-log(exp(beta * s) / (exp(beta * s) + 1))",
    ],
}  # fmt: skip


def _simplified(text: str) -> Node:
    return Simplifier()(formula(text, NAMES))


@pytest.mark.parametrize("objective", SPELLINGS)
def test_one_graph(objective: str) -> None:
    first, *others = SPELLINGS[objective]
    expected = _simplified(first)
    for text in others:
        assert _simplified(text) is expected, text


@pytest.mark.parametrize("objective", SPELLINGS)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_finite_at_extremes(objective: str, scale: float) -> None:
    """With scores of 1e4, where every naive spelling overflows or takes the log of 0."""
    if objective == "DCO":
        scale = min(scale, 300.0)  # 1 - (1 - p)^N needs p itself
    sizes = {"b": 2, "v": 4}
    generator = np.random.default_rng(0)
    values = {
        "z": generator.normal(size=(2, 4)) * scale, "t": generator.normal(size=(2, 4)) * scale,
        "s": generator.normal(size=2) * scale, "y": np.array([1, 3]), "m": np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool),
        "q": generator.dirichlet(np.ones(4), size=2), "gamma": np.array(2.0), "eps": np.array(0.1),
        "tau": np.array(2.0), "N": np.array(3.0), "beta": np.array(0.1),
    }  # fmt: skip
    result = evaluate(_simplified(SPELLINGS[objective][0]), values, sizes)
    assert all(math.isfinite(value) for value in result.data.ravel())
