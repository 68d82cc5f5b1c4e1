"""Calls of terms: the binding of formal axes, defaults, `from`, terms as arguments, axes made inside, and prefixes.

Nodes are hash-consed, so a call and its equation written out are one and the same node.
"""

from __future__ import annotations

import math

import pytest
import torch

import lossc
from lossc.compiler.check import check_source
from lossc.compiler.core import Rename, walk
from lossc.compiler.program import Program
from lossc.grammar.source import Source

DECLARATIONS = """
use std.ce (ce, entropy, focal, z_loss)
use std.divergence (fdiv, f_kl, kl)
use std.contrastive (info_nce, cosine)
use std.preference (dpo)
axis b : batch
axis t
axis v
axis k
axis d
axis j
axis e
input z : logits[b, t, v]
input zk : logits[b, k]
input r : real[b, k]
input rv : real[b, v]
input q : logits[b, k]
input x : embedding[b, d]
input scores : real[b, j]
input other : real[k, d]
data y : label[b, t] in v
data yk : label[b] in k
param beta : positive = 0.1
"""


def program(text: str) -> Program:
    checked = check_source(Source("terms.loss", f"{DECLARATIONS}{text}\nminimize\n  loss : 1\n"))
    assert checked.program is not None, [problem.message for problem in checked.problems.errors]
    return checked.program


def codes(text: str) -> list[str]:
    checked = check_source(Source("terms.loss", f"{DECLARATIONS}{text}\nminimize\n  loss : 1\n"))
    return [problem.code for problem in checked.problems.errors]


SAME = {
    "by the axis of a label": ("ce(z, y)", "logsumexp[v](z) - z[v = y]"),
    "by the axis of a label of real scores": ("ce(r, yk)", "logsumexp[k](r) - r[k = yk]"),
    "by the last axis of scores": ("z_loss(zk)", "logsumexp[k](zk)^2"),
    "by the last axis of either": ("fdiv(f_kl, zk, q)", "fdiv[v = k](f_kl, zk, q)"),
    "by the same name": ("z_loss(rv)", "logsumexp[v](rv)^2"),
    "explicitly": ("z_loss[v = k](r)", "logsumexp[k](r)^2"),
    "explicitly, as it would be anyway": ("ce[v = v](z, y)", "ce(z, y)"),
    "two by name": ("info_nce(scores)", "logsumexp[j](scores / 0.07) - (scores / 0.07)[j = index[b]]"),
    "two explicitly": (
        "info_nce[b = k, j = d](other, tau = 1)", "logsumexp[d](other / 1) - (other / 1)[d = index[k]]"),
    "others pass through": ("ce(z[b -> e], y)", "logsumexp[v](z[b -> e]) - z[b -> e][v = y]"),
    "arguments by name in any order": ("ce(y = y, z = z)", "ce(z, y)"),
    "a default": ("focal(z, y)", "focal(z, y, gamma = 2)"),
    "a parameter": ("dpo(rv, beta)", "softplus(-beta * rv)"),
    "of a scaled argument": ("ce(2 * z, y)", "logsumexp[v](2 * z) - (2 * z)[v = y]"),
}  # fmt: skip


@pytest.mark.parametrize("title", SAME)
def test_a_call_is_its_equation(title: str) -> None:
    left, right = SAME[title]
    lets = program(f"let left = {left}\nlet right = {right}").lets
    assert lets["left"].node is lets["right"].node
    assert lets["left"].present is lets["right"].present


REFUSED = {
    "a label and scores over two axes": ("ce(zk, y)", "E309"),
    "scores over two axes": ("kl(zk, z)", "E309"),
    "explicit against the label": ("ce[v = k](z, y)", "E309"),
    "no rule gives an axis": ("z_loss(r)", "E309"),
    "two formal axes on one": ("info_nce[b = k, j = k](r)", "E309"),
    "an axis that the term has not": ("ce[w = v](z, y)", "E309"),
    "an axis that the file has not": ("ce[v = w](z, y)", "E301"),
    "a condition in the brackets": ("ce[v where y >= 0](z, y)", "E306"),
    "a position in the brackets": ("ce[v = 0](z, y)", "E306"),
    "an argument without the axis": ("info_nce[b = k, j = d](r)", "E304"),
}


@pytest.mark.parametrize("title", REFUSED)
def test_a_binding_is_refused(title: str) -> None:
    expression, code = REFUSED[title]
    assert codes(f"let left = {expression}") == [code]


# ---------------------------------------------------------------------------------------------- from, defaults


def test_from_takes_the_value_of_the_file_and_says_so() -> None:
    found = program("let margin = r - 1\nlet left = dpo()\nlet right = softplus(-0.1 * margin)")
    assert found.lets["left"].node is found.lets["right"].node
    bindings = {(one.term, one.argument, one.value) for one in found.bindings}
    assert {("dpo", "margin", "margin"), ("dpo", "beta", "0.1")} <= bindings


def test_an_argument_that_is_written_wins_over_from() -> None:
    lets = program("let margin = r - 1\nlet left = dpo(r, beta = 2)\nlet right = softplus(-2 * r)").lets
    assert lets["left"].node is lets["right"].node


def test_from_is_looked_up_where_the_call_stands_not_in_a_term() -> None:
    assert codes("let margin = r\nterm mine(a : real) = a + dpo()\nlet left = mine(r)") == ["E201"]
    assert codes("let left = dpo()") == ["E201"]


def test_from_does_not_fit() -> None:
    assert codes("let logits = softmax[k](zk)\nlet labels = yk\nlet left = ce()") == ["E204"]


def test_from_finds_the_names_of_a_setting_and_not_under_a_prefix() -> None:
    text = "use std.ce (ce)\nuse std.settings.classes{}\nminimize\n  loss : mean[{}](ce())\n"
    assert check_source(Source("a.loss", text.format("", "b"))).problems.errors == []
    found = check_source(Source("a.loss", text.format(" as one", "one.b"))).problems.errors
    assert [problem.code for problem in found] == ["E201"]


def test_a_default_may_use_the_arguments_before_it() -> None:
    lets = program("term f(a : real, c : real = 2 * a) = a + c\nlet left = f(r)\nlet right = r + 2 * r").lets
    assert lets["left"].node is lets["right"].node


def test_a_term_sees_nothing_of_its_file() -> None:
    assert codes("term f(a : real) = a * beta\nlet left = f(r)") == ["E101"]
    assert codes("term f(a : real) = sum[k](a)\nlet left = f(r)") == ["E301"]


def test_names_inside_a_term_are_its_own() -> None:
    lets = program("term f(a : real)\n  let x = 2 * a\n  x + a\nlet left = f(r)\nlet right = 2 * r + r").lets
    assert lets["left"].node is lets["right"].node
    assert codes("term f(a : real)\n  let a = 2\n  a\nlet left = f(r)") == ["E102"]


def test_terms_and_functions_as_arguments() -> None:
    text = "term twice(f : term, a : real) = f(f(a))\nlet left = twice({}, r)\nlet right = {}"
    for function, equation in (("exp", "exp(exp(r))"), ("half", "r / 2 / 2")):
        lets = program("term half(a : real) = a / 2\n" + text.format(function, equation)).lets
        assert lets["left"].node is lets["right"].node
    assert codes(text.format("r", "r")) == ["E204"]
    assert codes(text.format("yk", "r")) == ["E204"]


def test_the_derivative_of_a_term() -> None:
    text = "{0}minimize\n  loss : mean[b]({1})\n"
    head = "axis b : batch\ninput x : real[b]\nterm f(u : positive) = u^3 + log(u)\n"
    head += "param w : real = 3\nterm g(u : positive, a : real, c : real = 1) = c * u^a\n"
    values = torch.tensor([0.5, 2.0], dtype=torch.float64)
    for written, expected in (
        ("f'(x^2 + 1)", lambda u: 3 * u**2 + 1 / u),
        ("f''(x^2 + 1)", lambda u: 6 * u - 1 / u**2),
        ("g'(x^2 + 1, w)", lambda u: 3 * u**2),
        ("g''(x^2 + 1, c = x^2, a = w)", lambda u: 6 * u * (u - 1)),
    ):
        found = lossc.loads(text.format(head, written))(x=values).loss
        assert found.item() == pytest.approx(expected(values**2 + 1).mean().item(), rel=1e-12)


def test_what_cancels_in_a_derivative_does_so_before_an_exponential() -> None:
    text = "axis b : batch\ninput r : real[b]\nterm f(u : positive) = u * log(u) - (u + 1) * log((u + 1) / 2)\n"
    r = torch.tensor([-1000.0, 0.0, 1000.0], requires_grad=True)
    loss = lossc.loads(text + "minimize\n  loss : sum[b](f'(exp(r)))")(r=r).loss
    loss.backward()
    assert loss.item() == pytest.approx(-1000 + 2 * math.log(2))
    assert r.grad is not None and r.grad.tolist() == [1, 0.5, 0]


def test_a_choice_is_given_by_its_word() -> None:
    head = "term f(a : real, mode : {plain, square} = plain) = a if mode == plain else a^2\n"
    lets = program(head + "let left = f(r, mode = square)\nlet right = f(r, square)\nlet plain_one = f(r)").lets
    assert lets["left"].node is lets["right"].node
    assert codes(head + "let left = f(r, mode = cube)") == ["E401"]


# ---------------------------------------------------------------------------------------------- axes made inside


def test_an_axis_made_inside_is_apart_from_those_of_the_file() -> None:
    text = "term pairs(a : real[b]) = sum[j](a * a[b -> j])\nlet left = pairs(scores)"
    made = [node.new for node in walk(program(text).lets["left"].node) if isinstance(node, Rename)]
    assert made and made[0] != "j"
    assert program(text).lets["left"].node.axes == {"b", "j"}


def test_an_axis_that_leaves_is_the_callers() -> None:
    head = "term gram(a : real[b, d]) -> real[b, m] = dot[d](a, a[b -> m])\n"
    lets = program(head + "let left = gram(x)\nlet right = dot[d](x, x[b -> m])").lets
    assert lets["left"].node is lets["right"].node
    lets = program(head + "let left = gram[m = n](x)\nlet right = dot[d](x, x[b -> n])").lets
    assert lets["left"].node is lets["right"].node


def test_an_axis_made_inside_has_the_extent_of_what_it_was_made_of() -> None:
    text = """
axis b : batch
axis t
axis u
input x : real[b, t]
input y : real[b, u]
term spread(a : real[s]) = mean[s, h](abs(a - a[s -> h]))
minimize
  loss : mean[b](spread[s = t](x)) + 10 * mean[b](spread[s = u](y))
"""
    x, y = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 3.0, 6.0]])
    assert lossc.loads(text)(x=x, y=y).loss.item() == pytest.approx(0.5 + 10 * 24 / 9)


def test_nested_calls_keep_their_axes_apart() -> None:
    text = """
axis b : batch
input x : real[b]
term total_of(a : real[s]) = sum[h](a[s -> h])
term ratio(a : real[s]) = a / total_of(a * total_of(a))
minimize
  loss : sum[b](ratio[s = b](x))
"""
    assert lossc.loads(text)(x=torch.tensor([1.0, 3.0])).loss.item() == pytest.approx(4 / 16)


# ---------------------------------------------------------------------------------------------- prefixes

STREAMS = """
use std.settings.tokens as forget sharing (v)
use std.settings.tokens as retain sharing (v)
minimize
  keep : mean[retain.b, retain.t where retain.mask](retain.nll)
  lose : -mean[forget.b, forget.t where forget.mask](forget.nll)
"""


def test_a_prefix_is_on_every_name_that_is_not_shared() -> None:
    found = check_source(Source("streams.loss", STREAMS)).program
    assert found is not None
    names = ("logits", "labels", "mask")
    assert set(found.tensors) == {f"{prefix}.{name}" for prefix in ("forget", "retain") for name in names}
    assert set(found.axes) == {"forget.b", "forget.t", "retain.b", "retain.t", "v"}
    assert {name for name, axis in found.axes.items() if axis.batch} == {"forget.b", "retain.b"}
    assert found.tensors["forget.logits"].order == ("forget.b", "forget.t", "v")
    assert found.tensors["retain.labels"].kind.codomain == "v"


@pytest.mark.parametrize("declared", ["", "axis v\n", "axis v\naxis b : batch\n"])
def test_a_shared_axis_may_be_declared_by_the_file(declared: str) -> None:
    text = declared + STREAMS
    if "batch" in declared:
        text = text.replace("sharing (v)", "sharing (b, v)").replace("forget.b", "b").replace("retain.b", "b")
    found = check_source(Source("streams.loss", text))
    assert found.program is not None, found.problems.errors
    assert {name for name, axis in found.program.axes.items() if axis.batch} >= (
        {"b"} if "batch" in declared else set()
    )


def test_a_setting_beside_a_prefixed_one_can_share_its_axis() -> None:
    text = "use std.settings.tokens\nuse std.settings.tokens as other sharing (v)\n"
    found = check_source(
        Source("two.loss", text + "minimize\n  loss : mean[b, t](nll) + mean[other.b, other.t](other.nll)\n")
    )
    assert found.program is not None
    assert found.program.tensors["other.logits"].order[-1] == "v"


def test_sharing_what_a_setting_has_not() -> None:
    found = check_source(Source("two.loss", "use std.settings.tokens as a sharing (w)\n")).problems.errors
    assert [problem.code for problem in found] == ["E301"]


# ---------------------------------------------------------------------------------------------- the whole file


def test_the_order_of_declarations_carries_no_meaning() -> None:
    lines = ["let a = c + x", "let c = 2 * w", "axis b : batch", "input x : real[b]", "param w : positive = s / 2",
             "param s : positive = 4", "term f(u : real) = g(u) + 1", "term g(u : real) = u^2",
             "minimize\n  loss : mean[b](f(a))"]  # fmt: skip
    one, other = (check_source(Source("o.loss", "\n".join(order) + "\n")).program for order in (lines, lines[::-1]))
    assert one is not None and other is not None
    assert one.terms[0].value is other.terms[0].value
    assert one.params["w"].default is other.params["w"].default


def test_overrides_replace_defaults_and_are_checked() -> None:
    text = "axis b : batch\ninput x : real[b]\nparam w : positive = 1\nminimize\n  loss : w * mean[b](x)\n"
    found = check_source(Source("o.loss", text), overrides={"w": "3 / 4"})
    assert found.program is not None
    assert [
        problem.code for problem in check_source(Source("o.loss", text), overrides={"w": "-1"}).problems.errors
    ] == ["E401"]
    assert check_source(Source("o.loss", text), overrides={"w": "1 +"}).program is None
    assert check_source(Source("o.loss", text), overrides={"w": "__import__('os')"}).program is None
