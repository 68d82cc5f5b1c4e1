"""Random graphs: simplification keeps their exact value, their axes and their form."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from tests.compiler.evaluate import evaluate
from tests.compiler.instances import LABEL, MASK, NAMES, OTHER_MASK, SIZES, environment

from lossc.compiler import core
from lossc.compiler.core import Along, Map, Node, Reduce, Rename, Select, StopGrad
from lossc.compiler.simplify import Simplifier
from lossc.compiler.verify import verify

_UNARY = (
    "exp",
    "log",
    "log1p",
    "expm1",
    "sigmoid",
    "softplus",
    "logsigmoid",
    "sqrt",
    "abs",
    "log1mexp",
    "log2",
    "relu",
)
_LEAVES = [NAMES[name] for name in ("x", "z", "q", "pos", "neg", "tau", "gamma", "r")]
_NUMBERS = [core.const(value) for value in ("0", "1", "2", "-1", "0.5", "3")]


def _grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(lambda f, x: Map(f, (x,)), st.sampled_from(_UNARY), inner),
        st.builds(core.add, inner, inner),
        st.builds(core.add, inner, inner, inner),
        st.builds(core.sub, inner, inner),
        st.builds(core.mul, inner, inner),
        st.builds(core.mul, inner, inner, inner),
        st.builds(core.div, inner, inner),
        st.builds(core.power, inner, st.sampled_from([*_NUMBERS, NAMES["gamma"]])),
        st.builds(lambda x, y: Map("xlogy", (x, y)), inner, inner),
        st.builds(lambda x, y: Map("logaddexp", (x, y)), inner, inner),
        st.builds(lambda x, y: core.where(MASK, x, y), inner, inner),
        st.builds(lambda x, y: core.where(Map("lt", (x, y)), x, y), inner, inner),
        st.builds(StopGrad, inner),
        st.builds(_over, st.sampled_from(("sum", "mean", "logsumexp", "max")), inner, st.sampled_from([None, MASK])),
        st.builds(_along, st.sampled_from(("softmax", "log_softmax")), inner, st.sampled_from([None, MASK])),
        st.builds(lambda op, x: _along(op, x, None), st.sampled_from(("cumsum", "cumlogsumexp")), inner),
        st.builds(lambda f, x, y: Map(f, (x, y)), st.sampled_from(("min", "max")), inner, inner),
        st.builds(lambda x, y: core.mul(Map("le", (x, y)), OTHER_MASK, x), inner, inner),
        st.builds(_read, inner),
        st.builds(lambda x: Rename(x, "v", "w") if "v" in x.axes and "w" not in x.axes else x, inner),
    )


def _over(op: str, body: Node, where: Node | None) -> Node:
    return Reduce(op, ("v",), body, where) if "v" in body.axes else body  # type: ignore[arg-type]


def _along(op: str, body: Node, where: Node | None) -> Node:
    return Along(op, "v", body, where) if "v" in body.axes else body  # type: ignore[arg-type]


def _read(body: Node) -> Node:
    return Select(body, "v", LABEL) if "v" in body.axes else body


GRAPHS = st.recursive(st.sampled_from(_LEAVES + _NUMBERS), _grown, max_leaves=7)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(GRAPHS, st.integers(0, 3))
def test_value_is_kept(graph: Node, seed: int) -> None:
    simplifier = Simplifier()
    result = simplifier(graph)
    verify(result)
    assert not simplifier.record.exhausted
    assert Simplifier()(result) is result
    assert result.axes <= graph.axes
    values = environment("random", seed)
    axes = tuple(sorted(graph.axes))
    with mp.workdps(60):
        before, after = (evaluate(node, values, SIZES, exact=True).spread(axes, SIZES) for node in (graph, result))
        for exact, other in zip(np.ravel(before), np.ravel(after), strict=True):
            if mp.isfinite(exact):
                assert abs(exact - other) <= mp.mpf(10) ** -30 * (1 + abs(exact))
