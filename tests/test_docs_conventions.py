"""What the language page says of absent and excluded entries, of nothing, and of ties, in numbers and gradients."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lossc

LANGUAGE = (Path(__file__).parents[1] / "docs" / "language.md").read_text(encoding="utf-8")

NAN, INF = math.nan, math.inf


def value(expression: str, **tensors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """An expression over x[b, t], m[b, t], y[b, t] and z[b, t, v], and the gradients of what requires one."""
    objective = lossc.loads(
        "axis b : batch\ninput x : real[b, t]\ndata m : mask[b, t]\ninput z : logits[b, t, v]\n"
        f"data y : label[b, t] in v\nminimize\n  u : {expression}\n"
    )
    found = objective.double()(**{name: tensors[name] for name in objective.program.tensors if name in tensors}).loss
    given = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    gradients = torch.autograd.grad(found, list(given.values()), allow_unused=True) if found.requires_grad else ()
    return found.detach(), dict(zip(given, gradients, strict=False))


def row(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64, requires_grad=True)


def of_nothing() -> dict[str, str]:
    """The last column of the table of reductions."""
    below = LANGUAGE.partition("<!-- table: reductions -->\n")[2]
    return dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", below.partition("\n\n")[0], re.MULTILINE))


CALLS = {"any": "any[t where m](x > 0)", "all": "all[t where m](x > 0)", "count": "count[t where m]",
         "quantile": "quantile[t where m](x, 0.5)", "argmax": "argmax[v where m](z)"}  # fmt: skip
NUMBERS = {"absent": -7.0, "true": 1.0, "false": 0.0, "-inf, gradient 0": -INF, "*none*": 3.0}


@pytest.mark.parametrize(("reduction", "says"), of_nothing().items())
def test_of_nothing(reduction: str, says: str) -> None:
    call = CALLS.get(reduction, f"{reduction}[t where m](x)")
    outer = f"sum[b](fill({call}, -7))"
    if reduction == "argmax":
        outer = f"count[b, t where {call} < 0]"
    elif reduction in ("any", "all"):
        outer = f"sum[b](1 if {call} else 0)"
    x, z = row(1, 2, 3), torch.zeros(1, 3, 2, dtype=torch.float64, requires_grad=True)
    found, gradients = value(outer, x=x, z=z, m=torch.zeros(1, 3, dtype=torch.bool), y=torch.zeros(1, 3).long())
    assert found == NUMBERS.get(says, float(says) if says.isdigit() else NAN)
    assert all(gradient is None or not gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize(
    ("expression", "x", "loss", "gradient"),
    [
        ("sum[b](max[t](x))", (1, 3, 3), 3, (0, 0.5, 0.5)),
        ("sum[b](min[t](x))", (2, 1, 1), 1, (0, 0.5, 0.5)),
        ("sum[b, t](max(x, 0))", (-1, 0, 2), 2, (0, 0.5, 1)),
        ("sum[b, t](relu(x))", (-1, 0, 2), 2, (0, 0, 1)),
        ("sum[b, t](abs(x))", (-1, 0, 2), 3, (-1, 0, 1)),
        ("sum[b, t](clip(x, 0, 2))", (0, 1, 2), 3, (1, 1, 1)),
        ("sum[b](norm[t](x))", (0, 0, 0), 0, (0, 0, 0)),
        ("sum[b](std[t](x))", (2, 2, 2), 0, (0, 0, 0)),
        ("sum[b, t](x^0)", (0, 1, 2), 3, None),
        ("sum[b, t](floor(x) + round(x) + sign(x) + (x > 0))", (0.2, 0.6, 1.4), 9, (0, 0, 0)),
        ("sum[b](median[t](x))", (5, 1, 2), 2, (0, 0, 1)),
        ("sum[b](quantile[t](x, 0.25))", (0, 4, 8), 2, (0.5, 0.5, 0)),
        ("sum[b](var[t](x, ddof = 1))", (0, 1, 2), 1, (-1, 0, 1)),
        ("sum[b, t](x * log(x))", (0, 1, 1), 0, None),
        ("sum[b, t](log(x) if x > 0 else 0)", (-1, 0, 1), 0, (0, 0, 1)),
        ("sum[b, t where x > 0](1 / x + log(x))", (0, -1, 1), 1, (0, 0, 0)),
        ("sum[b](logsumexp[t where x < inf](x))", (0, 0, INF), math.log(2), (0.5, 0.5, 0)),
        ("sum[b, t](shift[t](x, 1, fill = 5))", (1, 2, 3), 8, (1, 1, 0)),
        ("sum[b, t](shift[t](x, 1))", (1, 2, 3), 3, (1, 1, 0)),
        ("mean[b, t](shift[t](x, 1))", (1, 2, 3), 1.5, (0.5, 0.5, 0)),
        ("sum[b](scan[t](x, 0.5)[t = 2])", (4, 2, 1), 3, (0.25, 0.5, 1)),
        ("sum[b, r](index[r] * sort[t -> r](x))", (3, 1, 2), 8, (2, 0, 1)),
        ("sum[b, k](topk[t -> k](x, 2))", (3, 1, 2), 5, (1, 0, 1)),
        ("sum[b, t](x * rank[t](x))", (3, 1, 2), 8, (2, 0, 1)),
        ("sum[b, t](tanh(x) + sg(sign(x) - tanh(x)))", (0.5, -0.5, 2), 1, None),
    ],
)
def test_ties_and_corners(
    expression: str, x: tuple[float, ...], loss: float, gradient: tuple[float, ...] | None
) -> None:
    found, gradients = value(expression, x=row(*x))
    assert found == pytest.approx(loss)
    if gradient is not None:
        torch.testing.assert_close(gradients["x"], torch.tensor([gradient], dtype=torch.float64))


BAD = torch.tensor([[1.0, 2.0, NAN], [INF, 4.0, NAN]], dtype=torch.float64)
MASK = torch.tensor([[True, True, False], [False, False, False]])


@pytest.mark.parametrize(
    ("expression", "loss"),
    [
        ("mean[b, t where m](x)", 1.5),
        ("mean[b](mean[t where m](x))", 1.5),
        ("mean[b](fill(mean[t where m](x), 0))", 0.75),
        ("mean[b](sum[t where m](x))", 1.5),
        ("mean[b where any[t](m)](sum[t where m](x))", 3),
        ("sum[b, t where m](x, ) / size[b]", 1.5),
        ("sum[b, t](x if m else 0)", 3),
        ("sum[b](logsumexp[t where m](x) if any[t](m) else 0)", math.log(math.e + math.e**2)),
        ("sum[b, t](fill(cumsum[t where m](x), 0))", 4),
        ("sum[b, t](softmax[t where m](x))", 1),
        ("mean[b, t where m](x, weight = index[t])", 2),
    ],
)
def test_what_is_excluded_is_not_seen(expression: str, loss: float) -> None:
    found, gradients = value(expression, x=BAD.clone().requires_grad_(), m=MASK)
    assert found == pytest.approx(loss)
    assert torch.isfinite(gradients["x"]).all()
    assert not gradients["x"][~MASK].any()


@pytest.mark.parametrize(
    "expression",
    [
        "mean[b, t](logsumexp[v](z) - z[v = y])",
        "mean[b, t](-log(softmax[v](z)[v = y]))",
        "mean[b, t](-log_softmax[v](z)[v = y])",
        "mean[b, t where y >= 0](-log_softmax[v](z)[v = y])",
        "sum[b, t](-log_softmax[v](z)[v = y]) / count[b, t where y >= 0]",
        "mean[b](mean[t](logsumexp[v](z) - z[v = y]))",
        "mean[b, t](log(1 + (sum[v](exp(z)) - exp(z[v = y])) / exp(z[v = y])))",
    ],
)
def test_a_row_without_a_label_leaves_the_mean(expression: str) -> None:
    z = torch.arange(12.0, dtype=torch.float64).reshape(2, 2, 3).sin().requires_grad_()
    y = torch.tensor([[2, 0], [-1, -100]])
    found, gradients = value(expression, z=z, y=y)
    expected = torch.nn.functional.cross_entropy(z[0], y[0])
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(gradients["z"], torch.autograd.grad(expected, z)[0])


def test_labels_against_labels_and_numbers() -> None:
    y, z = torch.tensor([[2, 0, -1]]), torch.eye(3, dtype=torch.float64)[None].flip(1)
    assert value("mean[b, t](argmax[v](z) == y)", z=z, y=y)[0] == 0.5
    assert value("mean[b, t](y >= 0)", y=y)[0] == pytest.approx(2 / 3)
    assert value("sum[b, t, v](index[v] == y)", z=z, y=y)[0] == 2


@pytest.mark.parametrize(
    ("expression", "number"),
    [
        ("-2^2", -4), ("2^3^2", 512), ("2^-1", 0.5), ("7 - 2 - 1", 4), ("8 / 2 / 2", 2), ("-2 * 3", -6),
        ("1 if 1 < 2 < 3 else 0", 1), ("1 if not 1 == 2 else 0", 1), ("1 + 1 if 1 > 2 else 5", 5),
        ("1 if 1 == 1 or 1 == 2 and 1 == 3 else 0", 1), ("3 * (1 / 3)", 1), ("exp(log(2)) + cos(pi)", 1),
    ],
)  # fmt: skip
def test_precedence(expression: str, number: float) -> None:
    assert value(f"{expression} + 0 * sum[b, t](x)", x=row(1))[0] == pytest.approx(number)
