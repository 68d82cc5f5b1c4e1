"""What `torch.compile` is told: as by its own functions, and without importing it before anybody compiles."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

import lossc
from lossc.runtime.tracing import constant_in_traces

CALL = """
import sys, torch, lossc
objective = lossc.loads("axis b : batch\\ninput x : real[b]\\nminimize\\n  loss : mean[b](x^2)\\n", backend="{}")
objective(x=torch.ones(3, requires_grad=True)).loss.backward()
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_the_tracer_is_not_imported(backend: str) -> None:
    run = subprocess.run([sys.executable, "-c", CALL.format(backend)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_constant_is_marked_as_torch_marks_it() -> None:
    def marked(mark: Callable[..., object]) -> dict[str, object]:
        def function() -> int:
            return 1

        mark(function)
        return vars(function)

    assert marked(constant_in_traces) == marked(torch.compiler.assume_constant_result)


def test_objectives_that_are_compiled_one_after_the_other() -> None:
    """The second is no other length of the first, for which torch 2.6 takes integers of two attributes of one name."""
    torch.compiler.reset()
    for text in ("x^2", "exp(x) + abs(x)"):
        objective = lossc.loads(f"axis b : batch\ninput x : real[b]\nminimize\n  loss : mean[b]({text})\n", backend="reference")
        x = torch.linspace(-1, 1, 5, requires_grad=True)
        compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x=x).loss, objective(x=x).loss)


def test_a_graph_breaks_at_draws_and_goes_on() -> None:
    text = "axis b : batch\ninput x : real[b]\nminimize\n  loss : mean[b](normal(b) * x)\n"
    x = torch.arange(4.0)
    objective, compiled = lossc.loads(text), lossc.loads(text)
    result = torch.compile(compiled, backend="eager")(x=x)
    assert result.loss == pytest.approx(objective(x=x).loss)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(lossc.loads(text), backend="eager", fullgraph=True)(x=x)


def test_kinds_of_call_that_are_first_met_in_one_trace() -> None:
    """Denominators of micro-batches, the whole, and a call with values: nothing has run before the trace."""
    text = "axis b : batch\ninput x : real[b]\ndata m : mask[b]\nminimize\n  loss : mean[b where m](x^2)\n"
    objective, compiled = lossc.loads(text), lossc.loads(text)
    x, mask = torch.arange(4.0), torch.tensor([True, False, True, True])

    def step(of: lossc.Objective) -> torch.Tensor:
        known = sum(of.denominators(m=mask[rows]) for rows in (slice(0, 2), slice(2, 4)))
        return of(x=x, m=mask, denominators=known).loss + of(x=x, m=mask, values=True).loss

    traced = torch.compile(lambda: step(compiled), backend="eager", fullgraph=True)
    assert traced() == pytest.approx(step(objective))
