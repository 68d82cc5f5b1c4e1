"""Functions in Python that a spec names: never imported by a check, refused unless allowed, their results checked."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch
from tests.runtime.modules import as_module
from typer.testing import CliRunner

import lossc
from lossc.compiler.check import check_source
from lossc.grammar.source import Source
from lossc.runtime.cli.application import application

MODULE = """
import torch
TOUCHED.append("imported") if "TOUCHED" in globals() else None

def drift(x, scale):
    assert x.dtype == torch.float64
    return scale * (x ** 2).sum(-1)

def pooled(x):
    return x.mean(-2)

def chosen(x, y):
    assert not y.is_floating_point()
    return x.gather(-1, y.clamp(min=0).unsqueeze(-1)).squeeze(-1)

def wrong(x):
    return x.sum()

name = 3
"""

HEAD = """
axis b : batch
axis t
axis d
input x : real[b, t, d]
data  y : label[b, t] in d
data  m : mask[b, t]
param scale : positive = 2
"""
ENTRIES = """
extern drift(x : real[d], scale : real) -> real from "lossc_test_terms.inner:drift"
extern pooled(x : real[t, d]) -> real[d] from "lossc_test_terms.inner:pooled"
extern chosen(x : real[d], y : label in d) -> real from "lossc_test_terms.inner:chosen"
minimize
  drift  : mean[b, t where m](drift(x, scale))
  pooled : mean[b](norm[d](pooled(x)))
  chosen : mean[b, t where y >= 0](chosen(x, y))
"""
ALLOW = ("lossc_test_terms",)


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lossc_test_terms"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "inner.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("lossc_test_terms", "lossc_test_terms.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(8)
    return {
        "x": torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True),
        "y": torch.tensor([[0, 1, -1, 4], [2, 2, 3, -1], [1, 0, 0, 4]]),
        "m": torch.tensor([[1, 1, 0, 1], [1, 0, 1, 1], [0, 0, 0, 1]]).bool(),
    }


def test_values_and_gradients() -> None:
    given = tensors()
    x, y, m = given["x"], given["y"], given["m"]
    result = lossc.loads(HEAD + ENTRIES, allow=ALLOW)(given)
    read = x.gather(-1, y.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    expected = 2 * (x**2).sum(-1)[m].mean() + x.mean(1).norm(dim=-1).mean() + read[y >= 0].mean()
    torch.testing.assert_close(result.loss, expected)
    found, wanted = (torch.autograd.grad(value, x)[0] for value in (result.loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_checking_imports_nothing() -> None:
    checked = check_source(Source("a.loss", HEAD + ENTRIES))
    assert not checked.problems.errors
    assert not checked.program.uncompiled  # type: ignore[union-attr]
    assert "lossc_test_terms" not in sys.modules


@pytest.mark.parametrize("allow", [(), ("lossc_test",), ("lossc_test_terms.inn",), ("other",)])
def test_what_is_not_allowed_is_refused_and_not_imported(allow: tuple[str, ...]) -> None:
    with pytest.raises(lossc.LosscError) as raised:
        lossc.loads(HEAD + ENTRIES, allow=allow)
    assert {problem.code for problem in raised.value.diagnostics} == {"E736"}
    assert len(raised.value.diagnostics) == 3
    assert 'allow=("lossc_test_terms.inner",)' in str(raised.value)
    assert "lossc_test_terms" not in sys.modules


def test_a_module_itself_is_allowed_too() -> None:
    lossc.loads(HEAD + ENTRIES, allow=("lossc_test_terms.inner",))


@pytest.mark.parametrize(
    ("target", "words"), [("inner:none", "no function"), ("inner:name", "no function"), ("gone:f", "cannot be imported")]
)
def test_functions_that_are_not_there(target: str, words: str) -> None:
    text = f'{HEAD}extern f(x : real[d]) -> real from "lossc_test_terms.{target}"\nminimize\n  f : mean[b, t](f(x))\n'
    with pytest.raises(lossc.LosscError, match=words):
        lossc.loads(text, allow=ALLOW)


def test_what_a_function_gives_is_checked() -> None:
    text = f'{HEAD}extern f(x : real[d]) -> real from "lossc_test_terms.inner:wrong"\nminimize\n  f : mean[b, t](f(x))\n'
    with pytest.raises(lossc.LosscError, match="E725"):
        lossc.loads(text, allow=ALLOW)(tensors())


@pytest.mark.parametrize("target", ["os", "a.b", "a b:c", "a:b.c", "a:b()", ":f", "a:", "a..b:c", "é:f", "a;b:c", "a:b:c"])
def test_paths_of_another_form_are_errors(target: str) -> None:
    text = f'{HEAD}extern f(x : real[d]) -> real from "{target}"\nminimize\n  f : mean[b, t](f(x))\n'
    assert [problem.code for problem in check_source(Source("a.loss", text)).problems.errors] == ["E507"]


def test_an_objective_keeps_what_it_was_allowed() -> None:
    objective = lossc.loads(HEAD + ENTRIES, allow=ALLOW)
    given = tensors()
    for other in (copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))):
        torch.testing.assert_close(other(given).loss, objective(given).loss)


def test_a_standalone_module_imports_them(tmp_path: Path) -> None:
    objective = lossc.loads(HEAD + ENTRIES, allow=ALLOW)
    given = tensors()
    torch.testing.assert_close(as_module(objective, tmp_path).Objective()(**given).loss, objective(given).loss)


def test_the_command_line(tmp_path: Path) -> None:
    spec, module = tmp_path / "a.loss", tmp_path / "written.py"
    spec.write_text(HEAD + ENTRIES, encoding="utf-8")
    refused = CliRunner().invoke(application, ["compile", str(spec), "-o", str(module)])
    assert refused.exit_code != 0 and not module.exists()
    written = CliRunner().invoke(application, ["compile", str(spec), "-o", str(module), "--allow", "lossc_test_terms"])
    assert written.exit_code == 0 and module.exists()
