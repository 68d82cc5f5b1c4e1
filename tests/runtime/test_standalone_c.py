"""The standalone module with C kernels gives what the objective gives, without lossc."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.runtime import fused_cases as cases
from torch import Tensor
from typer.testing import CliRunner

import lossc
from lossc import LosscError
from lossc.runtime.backends.toolchain import ToolchainError, compiler
from lossc.runtime.cli.application import application
from lossc.runtime.standalone_c import standalone_c

try:
    compiler()
except ToolchainError:
    pytest.skip("there is no C compiler", allow_module_level=True)

SCRIPT = """
import sys, torch, made
logits = torch.zeros(1, 3, 5, requires_grad=True)
result = made.Objective()(logits=logits, labels=torch.tensor([[0, 1, -1]]), mask=torch.ones(1, 3, dtype=torch.bool))
result.loss.backward()
assert not any(name.partition(".")[0] in ("lossc", "compiler", "runtime") for name in sys.modules)
print(result.loss.item(), logits.grad.abs().sum().item())
"""


def module(text: str, folder: Path) -> ModuleType:
    path = folder / "made.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"made_{folder.name}", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("four terms", torch.bfloat16), ("two distributions", torch.float64), ("columns", torch.float64),
        ("several labels", torch.float64), ("what is computed", torch.float64),
    ],
)  # fmt: skip
def test_it_equals_the_objective(text: str, dtype: torch.dtype, tmp_path: Path) -> None:
    objective = cases.objective(text, "reference")
    made = module(standalone_c(cases.objective(text, "c")), tmp_path).Objective()
    batch = cases.strided(cases.hidden_rows(cases.batch(t=5, v=33, dtype=dtype)))
    names = [name for name, *_ in sys.modules[type(made).__module__].PARAMETERS]
    found = []
    for each, learned in ((made, zip(names, made.learned, strict=False)), (objective, objective.learn.items())):
        leaves = {n: x.detach().clone().requires_grad_(n in cases.INPUTS) for n, x in batch.items()}
        leaves = {n: x for n, x in leaves.items() if n in objective.program.tensors}
        result = each(**leaves)
        result.loss.backward()
        gradients: dict[str, Tensor | None] = {n: x.grad for n, x in (*leaves.items(), *learned)}
        found.append({"loss": result.loss.detach(), **{n: g for n, g in gradients.items() if g is not None}})
    tolerance = {"rtol": 1e-2, "atol": 1e-4} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-8}
    torch.testing.assert_close(found[0], found[1], **tolerance)


def test_it_runs_where_lossc_is_not(tmp_path: Path) -> None:
    spec = tmp_path / "spec.loss"
    spec.write_text("objective o\nuse std.settings.tokens\nminimize\n  ce : mean[b, t where mask](nll)\n", encoding="utf-8")
    command = ["compile", str(spec), "-o", str(tmp_path / "made.py"), "--backend", "c"]
    assert CliRunner().invoke(application, command, catch_exceptions=False).exit_code == 0
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [float(number) for number in done.stdout.split()] == pytest.approx([1.6094379, 1.6])


def test_what_has_no_kernels_is_refused_by_name(tmp_path: Path) -> None:
    objective = lossc.loads("objective o\naxis b : batch\ninput x : real[b]\nminimize\n  f : mean[b](x^2)\n", backend="c")
    assert "ctypes" not in standalone_c(objective)
    result = CliRunner().invoke(application, ["compile", "no.loss", "-o", "made.py", "--backend", "triton"])
    assert isinstance(result.exception, LosscError | SystemExit)


def test_what_is_not_read_is_not_seen(tmp_path: Path) -> None:
    """A running sum that is read at one step, of garbage behind it, beside an order of all first steps."""
    text = """axis b : batch
input z    : real[b, t]
data  last : label[b] in t
minimize
  f : mean[b](cumlogsumexp[t](z)[t = last])
  g : sum[r where index[r] < 1](sort[b, t -> r where index[t] == 0](z))
"""
    made = module(standalone_c(lossc.loads(text, backend="c")), tmp_path).Objective()
    z = torch.tensor([[0.5, 1.0, torch.nan], [0.0, torch.inf, torch.nan]], requires_grad=True)
    (gradient,) = torch.autograd.grad(made(z=z, last=torch.tensor([1, 0])).loss, z)
    expected = torch.cat([torch.softmax(torch.tensor([0.5, 1.0]), 0) / 2, torch.tensor([0.0])])
    torch.testing.assert_close(gradient, torch.stack([expected, torch.tensor([1.5, 0, 0])]))
