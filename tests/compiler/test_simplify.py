"""The normal form by example, and the account that simplification gives of itself."""

from __future__ import annotations

import pytest

from lossc.compiler import intervals as iv
from lossc.compiler.check import check_source
from lossc.compiler.core import Input, Node, Param, Reduce, StopGrad, walk
from lossc.compiler.display import core_text
from lossc.compiler.formula import formula
from lossc.compiler.program import Program, Pruned
from lossc.compiler.simplify import Simplified, Simplifier, roots, simplify
from lossc.compiler.simplify.masks import FALSE, TRUE
from lossc.grammar.source import Source

NAMES: dict[str, Node] = {
    **{name: Input(name, ("b", "v")) for name in ("x", "z", "w")}, "r": Input("r", ("b",)),
    "q": Input("q", ("b", "v"), "prob", iv.UNIT), "p": Input("p", ("b", "v"), "prob", iv.UNIT),
    "y": Input("y", ("b",), "label", iv.INTEGER), "m": Input("m", ("b", "v"), "mask"), "n": Input("n", ("v",), "mask"),
    "o": Input("o", ("b", "v"), "mask"), "a": Param("a"), "tau": Param("tau", bounds=iv.POSITIVE),
    "pos": Input("pos", ("b", "v"), "positive", iv.POSITIVE),
}  # fmt: skip

CASES = [
    # like terms, exact numbers
    ("x + x", "2 * x"),
    ("0.1 * x + 0.2 * x", "0.3 * x"),
    ("x / 3 + x / 6", "0.5 * x"),
    ("x * 2 / 4", "0.5 * x"),
    ("(x + x * 2) / x", "3 * x / x"),
    ("pos / pos", "1"),
    ("x - x", "0"),
    ("(1 - a) * x + a * x", "x"),
    ("(a + 1)^2 * x - a^2 * x - x", "2 * a * x"),
    ("2 * (x + z) - 2 * z", "2 * x"),
    ("-(x - z)", "z - x"),
    ("x * x * x", "x^3"),
    ("(2 * x)^3", "8 * x^3"),
    ("x / (1 / z)", "x * z"),
    ("x / z / w", "x / (z * w)"),
    ("x^0 + x^1", "1 + x"),
    ("2^10", "1024"),
    ("4^0.5", "2"),
    ("exp(0) + log(1) + sqrt(9)", "4"),
    ("log(1 / 2)", "-log(2)"),
    ("max(x, 2, max(3, x))", "max(x, 3)"),
    ("abs(-2 * x)", "2 * abs(x)"),
    ("abs(pos)", "pos"),
    ("sqrt(x^2)", "abs(x)"),
    # stop-gradient is opaque
    ("x - sg(x)", "x - sg(x)"),
    ("x + sg(sg(z) - sg(x))", "x + sg(sg(z) - sg(x))"),
    ("exp(x - sg(x)) * z", "exp(x - sg(x)) * z"),
    # masks
    ("x if not m else z", "z if m else x"),
    ("x if (m and not m) else z", "z"),
    ("x if (m or not m) else z", "x"),
    ("(x if m else z) if m else w", "x if m else w"),
    ("x if 1 < 2 else z", "x"),
    ("x if m else x", "x"),
    ("m * n", "m and n"),
    ("1 - m", "not m"),
    ("m^2", "m"),
    ("sum[v where m](x if m else z)", "sum[v where m](x)"),
    ("sum[v where m](x if not m else z)", "sum[v where m](z)"),
    ("sum[v](x if m else 0)", "sum[v where m](x)"),
    ("logsumexp[v where n](x if m else -inf)", "logsumexp[v where n and m](x)"),
    # reductions
    ("sum[v](3 * r * x / tau)", "3 * r * sum[v](x) / tau"),
    ("sum[v where m](3 * tau * r * x)", "3 * tau * sum[v where m](r * x)"),
    ("mean[v](x - 2 * x)", "-mean[v](x)"),
    ("sum[v where m](x) - 2 * sum[v where m](z)", "sum[v where m](x - 2 * z)"),
    ("sum[v where m](x) + sum[v where n](z)", "sum[v where m](x) + sum[v where n](z)"),
    ("sum[v](r) + mean[v](r)", "r * size[v] + r"),
    ("sum[v](r * x + r * z)", "r * sum[v](x + z)"),
    ("sum[v](x) / size[v]", "mean[v](x)"),
    ("sum[v, b](x)", "sum[b, v](x)"),
    ("sum[v](x - x)", "0"),
    ("softmax[v](x - x)", "1 / size[v]"),
    # selections
    ("(exp(x) * z)[v = y]", "exp(x[v = y]) * z[v = y]"),
    ("index[v][v = y]", "y"),
    ("sg(x)[v = 2]", "sg(x[v = 2])"),
    ("r[b = 1] + (r * x)[v = 0]", "r[b = 1] + r * x[v = 0]"),
    # towards the stable primitives
    ("p * log(p / q)", "xlogy(p, p) - xlogy(p, q)"),
    ("tau * log(q)", "tau * log(q)"),
    ("log(mean[v where m](exp(x)))", "logsumexp[v where m](x) - log(count[v where m](exp(x)))"),
    ("x / (1 + exp(-z))", "x * sigmoid(z)"),
    ("exp(r) / (exp(r) + exp(x))", "sigmoid(r - x)"),
    ("log(exp(x) + exp(z) + exp(w))", "logaddexp(x, logaddexp(z, w))"),
    ("sigmoid(r / tau) * exp(-r)", "exp(-softplus(-r / tau) - r)"),
    ("exp(softplus(r))", "exp(softplus(r))"),
    ("logsumexp[v](x + r) - r", "logsumexp[v](x)"),
    ("logsumexp[v where m](z) - z[v = y]", "logsumexp[v where m](z) - z[v = y]"),
    ("log_softmax[v](z)[v = y] - log_softmax[v](z)[v = 0]", "z[v = y] - z[v = 0]"),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text for text, _ in CASES])
def test_normal_form(text: str, expected: str) -> None:
    """The second spelling has the same normal form, and printing that form reads back as it."""
    result = Simplifier()(formula(text, NAMES))
    assert result is Simplifier()(formula(expected, NAMES)), core_text(result)
    assert Simplifier()(result) is result


def test_the_expected_form_is_short() -> None:
    """What the table shows is what stays, up to the order of operands."""
    for _, expected in CASES:
        given = formula(expected, NAMES)
        assert sum(1 for _ in walk(Simplifier()(given))) <= sum(1 for _ in walk(given)) + 3, expected


def test_constant_masks() -> None:
    assert Simplifier()(formula("1 < 2", NAMES)) is TRUE
    assert Simplifier()(formula("m and 2 < 1", NAMES)) is FALSE
    assert Simplifier()(formula("sum[v where 1 < 2](x)", NAMES)) is formula("sum[v](x)", NAMES)


def test_a_divisor_stays_inside_a_mask_that_hides_it() -> None:
    """1 / r may be infinite in rows of which the mask admits nothing."""
    result = Simplifier()(formula("sum[v where m](x / r)", NAMES))
    (inner,) = (node for node in walk(result) if isinstance(node, Reduce))
    assert NAMES["r"] in set(walk(inner))


def test_groups_are_kept_apart() -> None:
    group = Input("g", ("b",), "label", iv.INTEGER)
    first, second = (Reduce("sum", ("b",), NAMES[name], None, (group, "k")) for name in ("x", "z"))
    plain = Reduce("sum", ("b",), NAMES["w"])
    result = Simplifier()(formula("f + s + 2 * p", {"f": first, "s": second, "p": plain}))
    bodies = {core_text(node.body) for node in walk(result) if isinstance(node, Reduce)}
    assert bodies in ({"x + z", "w"}, {"z + x", "w"})


def test_a_shared_graph_is_quick() -> None:
    """Sixty squarings share one graph; written out it would have 2^60 parts."""
    node = NAMES["x"]
    for _ in range(60):
        node = formula("exp(x) * exp(x)", {"x": formula("sg(x) + x / 2", {"x": node})})
    assert Simplifier()(node).axes == node.axes


OBJECTIVE = """
objective test
axis b : batch
axis v
input z : logits[b, v]
data y : label[b] in v
data m : mask[b]
param beta : positive = 0.1
let p = softmax[v](z)[v = y]
minimize
  main : mean[b where m](-log(p))
  none : 0 * mean[b](logsumexp[v](z))
  some : mean[b](beta * -log(p) + 0 * logsumexp[v](z)^2)
monitor
  accuracy : mean[b](argmax[v](z) == y)
"""


def _program(text: str = OBJECTIVE) -> Program:
    checked = check_source(Source("test.loss", text))
    assert checked.program is not None, checked.problems.sorted()
    return checked.program


@pytest.fixture(scope="module")
def simplified() -> Simplified:
    return simplify(_program())


def test_terms_are_simplified(simplified: Simplified) -> None:
    main = simplified.program.terms[0].parts[0]
    assert "log_softmax[v](z)[v = y]" in core_text(main.numerator)
    assert main.denominator is not None
    assert main.form == "ratio"


def test_zero_weights_are_pruned_and_reported(simplified: Simplified) -> None:
    terms = {term.name: term for term in simplified.program.terms}
    assert terms["none"].parts == ()
    assert len(terms["some"].parts) == 1
    assert {entry.term for entry in simplified.pruned} == {"none", "some"}
    assert Pruned("some", "0 * logsumexp[v](z)^2") in simplified.pruned


def test_rules_that_fired_have_a_place(simplified: Simplified) -> None:
    fired = {entry.rule: entry for entry in simplified.fired}
    assert fired["log of a selection"].count >= 1
    span = fired["log of a selection"].span
    assert span is not None
    assert span.text.startswith("log(p)")
    assert all(entry.why for entry in simplified.fired)


def test_places_follow_the_nodes(simplified: Simplified) -> None:
    program = simplified.program
    assert any(node in program.spans for node in walk(*(part.numerator for part in program.terms[0].parts)))


def test_simplifying_twice_changes_nothing(simplified: Simplified) -> None:
    again = simplify(simplified.program)
    assert list(roots(again.program)) == list(roots(simplified.program))


def test_straight_through_survives() -> None:
    text = OBJECTIVE.replace("mean[b where m](-log(p))", "mean[b](p - sg(p))")
    parts = simplify(_program(text)).program.terms[0].parts
    assert any(isinstance(node, StopGrad) for part in parts for node in walk(part.numerator))
