"""Searches, derivatives, cases and functions in Python of an enemy: refused with a code before they take long."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

import lossc
from lossc.grammar.diagnostics import LosscError

ROWS = "axis b : batch\ninput x : real[b]\n"
NET = (
    "axis b : batch\naxis d\naxis v\ninput x : real[b, d]\ninput net : model(real[b, d]) -> logits[b, v]\n"
    "data y : label[b] in v\nuse std.ce (ce)\n"
)


def loss(expression: str, before: str = "", head: str = ROWS) -> str:
    return f"{head}{before}minimize\n  loss : {expression}\n"


def nested(number: int, form: str, text: str) -> str:
    for depth in range(number):
        text = form.format(text, depth)
    return text


WORST = "worst[d{1} : real[b, d] in ball(inf, 0.1), steps = 10]({0})"
CASES = "".join(f"let a{i + 1} = sin(a{i}) if a{i} > {i} else cos(a{i}) + a{i}\n" for i in range(30))
GRADS = "".join(f"let a{i + 1} = grad[x](a{i})\n" for i in range(12))

REFUSED = {
    "gradients of gradients": ("E505", loss(f"mean[b]({nested(30, 'grad[x]({0})', 'exp(sin(x) * x)')})")),
    "gradients by name": ("E505", loss("mean[b](a12)", "let a0 = exp(sin(x) * x)\n" + GRADS)),
    "a derivative of order 20": ("E505", loss(f"mean[b](f{20 * chr(39)}(x))", "term f(u : real) = exp(sin(u) * u)\n")),
    "folds in folds": ("E505", loss(f"mean[b](x + {nested(30, 'fold[b, a : real](a / 2 + {0}, 0)', 'x')})")),
    "searches in searches": ("E505", loss(f"mean[b]({nested(5, WORST, 'ce(net(x+d0+d1+d2+d3+d4), y)')})", head=NET)),
    "a search without end": ("E401", loss(
        "mean[b](worst[e : real[b, d] in ball(inf, 0.1), steps = 1000000000](ce(net(x + e), y)))", head=NET)),
    "a plan without end": ("E401", loss("sum[b, j](sinkhorn[b, j](x - x[b -> j], eps = 0.1, steps = 1000000000))")),
    "a shift beyond every axis": ("E401", loss("mean[b](shift[b](x, 99999999999999999999, fill = 0))")),
    "fewer than none of the largest": ("E401", loss("mean[k](topk[b -> k](x, -1))")),
    "cases in cases": ("E505", loss("mean[b](a30)", "let a0 = x\n" + CASES)),
}  # fmt: skip


@pytest.mark.parametrize("title", REFUSED)
def test_what_has_no_end_is_refused(title: str) -> None:
    code, text = REFUSED[title]
    start = time.process_time()
    with pytest.raises(LosscError) as found:
        lossc.loads(text)(x=torch.zeros(3))
    assert code in str(found.value)
    assert time.process_time() - start < 5


EXTERN = ROWS + 'extern f(u : real[b]) -> real[b] from "{}"\nminimize\n  loss : mean[b](f(x))\n'


@pytest.mark.parametrize("target", ["os:system", "builtins:exec", "pkgevil:f", "pkgevil.pkg:f", "evil.pkg:f"])
@pytest.mark.parametrize("allow", [(), ("pkg",), "pkg", ("",), ("pk",), ("o", "builtin")])
def test_a_function_that_is_not_allowed(target: str, allow: tuple[str, ...]) -> None:
    with pytest.raises(LosscError, match="E736"):
        lossc.loads(EXTERN.format(target), allow=allow)(x=torch.zeros(3))


@pytest.mark.parametrize("target", ["os", ":f", "a..b:f", ".a:f", "a b:f", "a:b.c", "a:f()", "a/b:f", "a:f\\n", "а:f", ""])
def test_what_is_no_path_of_a_function(target: str) -> None:
    with pytest.raises(LosscError, match="E507"):
        lossc.loads(EXTERN.format(target), allow=("a", "os", ""))


@pytest.mark.parametrize("text", ["1 / 0", "f = (", "raise KeyError('x')", "f = 3"])
def test_a_module_that_fails(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lossc_hostile_module.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("lossc_hostile_module", None)
    with pytest.raises(LosscError, match="E736"):
        lossc.loads(EXTERN.format("lossc_hostile_module:f"), allow=("lossc_hostile_module",))(x=torch.zeros(3))


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_labels_that_are_none_among_no_classes(backend: str) -> None:
    text = "axis b : batch\naxis v\ninput z : logits[b, v]\ndata y : label[b] in v\nuse std.ce (ce)\n"
    z = torch.zeros(3, 0, requires_grad=True)
    result = lossc.loads(f"{text}minimize\n  loss : mean[b](ce(z, y))\n", backend=backend)(z=z, y=torch.full((3,), -1))
    result.loss.backward()
    assert result.loss == 0
    assert result.counts["loss"] == 0
