"""Groups of weights leaf by leaf, against loops over the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.runtime.modules import as_module
from torch import Tensor, nn

import lossc

HEAD = """
input w      : weights[layer] in "*.weight"
data  anchor : weights[layer] in "*.weight"
data  omega  : weights[layer] in "*.weight"
param gamma  : positive[layer] = 0.5
param most   : positive = 0.25
term spectral(v : weights[l]) = sum[l]((max[i](svdvals[row, column -> i](v)) - 1)^2)
"""

Given = dict[str, object]
Group = dict[str, Tensor]


def network() -> nn.Module:
    torch.manual_seed(6)
    return nn.Sequential(nn.Conv1d(2, 3, 2), nn.LayerNorm(4), nn.Linear(4, 5)).double()


def given() -> Given:
    net = network()
    anchor = {name: p.detach() + 0.1 * torch.randn_like(p) for name, p in net.named_parameters()}
    return {"w": net, "anchor": anchor, "omega": {name: torch.rand_like(p) for name, p in anchor.items()}}


def leaves(tensors: Given) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Number, weights, anchor and importance of each leaf, in the order of their names."""
    net, anchor, omega = tensors["w"], tensors["anchor"], tensors["omega"]
    assert isinstance(net, nn.Module) and isinstance(anchor, dict) and isinstance(omega, dict)
    named = dict(net.named_parameters())
    for at, name in enumerate(sorted(name for name in named if name.endswith(".weight"))):
        yield at, named[name], anchor[name], omega[name]


def each(function: Callable[[int, Tensor, Tensor, Tensor], Tensor]) -> Callable[[Given], Tensor]:
    return lambda tensors: torch.stack([function(*leaf) for leaf in leaves(tensors)]).sum()


def svd(w: Tensor) -> Tensor:
    return torch.linalg.svdvals(w.flatten(1) if w.dim() > 1 else w.unsqueeze(1))


CASES: dict[str, tuple[str, Callable[[Given], Tensor]]] = {
    "a tie with a coefficient for each leaf": (
        "sum[layer](gamma * sum[entry](omega * (w - anchor)^2))",
        each(lambda at, w, a, o: 0.5 * (o * (w - a) ** 2).sum()),
    ),
    "a coefficient inside": (
        "total((1 + index[layer]) * (w - anchor)^2)",
        each(lambda at, w, a, o: (1 + at) * ((w - a) ** 2).sum()),
    ),
    "norms": ("sum[layer](norm[entry](w - anchor))", each(lambda at, w, a, o: (w - a).norm())),
    "spectral norms": ("spectral(w)", each(lambda at, w, a, o: (svd(w)[0] - 1) ** 2)),
    "nuclear norms": (
        "sum[layer](sum[k](svdvals[row, column -> k](w)) * index[layer])",
        each(lambda at, w, a, o: svd(w).sum() * at),
    ),
    "distances of distributions": (
        "total((sort[entry](w) - sort[entry](anchor))^2)",
        each(lambda at, w, a, o: ((w.flatten().sort().values - a.flatten().sort().values) ** 2).sum()),
    ),
    "deviations": ("sum[layer](std[entry](w))", each(lambda at, w, a, o: w.std(correction=0))),
    "largest": ("sum[layer](max[entry](w) - min[entry](w))", each(lambda at, w, a, o: w.max() - w.min())),
    "normalised": (
        "total((w / norm[entry](w) - anchor)^2)",
        each(lambda at, w, a, o: ((w / w.norm() - a) ** 2).sum()),
    ),
    "masked": (
        "sum[layer](mean[entry where abs(w) < most](w^2))",
        each(lambda at, w, a, o: (w[w.abs() < 0.25] ** 2).mean() if (w.abs() < 0.25).any() else 0 * w.sum()),
    ),
    "a threshold for each leaf": (
        "sum[layer](sum[entry where abs(w) > mean[entry](abs(w))](w^2))",
        each(lambda at, w, a, o: (w[w.abs() > w.abs().mean()] ** 2).sum()),
    ),
    "chosen leaves": (
        "sum[layer](sum[entry where index[layer] > 0](w^2))",
        each(lambda at, w, a, o: (w**2).sum() * (at > 0)),
    ),
    "gradients by weights": (
        "total(grad[w](total(omega * w^3))^2)", each(lambda at, w, a, o: ((3 * o * w**2) ** 2).sum()),
    ),
    "by a choice": (
        "total(w^2 if abs(w) > most else index[layer] * abs(w))",
        each(lambda at, w, a, o: torch.where(w.abs() > 0.25, w**2, at * w.abs()).sum()),
    ),
    "counted": (
        "sum[layer](any[entry](w > 0.5)) + mean[layer](all[entry](abs(w) < 2)) + 0 * total(w)",
        lambda tensors: sum((w > 0.5).any().double() for _, w, _, _ in leaves(tensors)) + 1.0,  # type: ignore[return-value]
    ),
}


def spec(*entries: str) -> str:
    return "\n".join([HEAD, "minimize", *(f"  f{at} : {entry}" for at, entry in enumerate(entries))])


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_a_loop(name: str, backend: str) -> None:
    text, oracle = CASES[name]
    tensors = given()
    loss = lossc.loads(spec(text), backend=backend)(tensors).loss
    expected = oracle(tensors)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    if expected.requires_grad:
        parameters = [w for _, w, _, _ in leaves(tensors)]
        pairs = zip(*(torch.autograd.grad(value, parameters) for value in (loss, expected)), strict=True)
        for found, wanted in pairs:
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


def test_coefficients_are_learned() -> None:
    text = HEAD.replace("param gamma", "learn gamma") + "minimize\n  f : sum[layer](gamma * sum[entry]((w - anchor)^2))\n"
    objective = lossc.loads(text, sizes={"layer": 3})
    tensors = given()
    objective(tensors).loss.backward()
    (gamma,) = objective.parameters()
    expected = torch.stack([((w - a) ** 2).sum() for _, w, a, _ in leaves(tensors)])
    torch.testing.assert_close(gamma.grad, expected.float())


def test_a_group_without_named_leaves_is_as_before() -> None:
    text = 'input w : weights in "*.weight"\ndata anchor : weights in "*.weight"\nminimize\n  f : total((w - anchor)^2)\n'
    tensors = given()
    del tensors["omega"]
    expected = each(lambda at, w, a, o: ((w - a) ** 2).sum())(given())
    torch.testing.assert_close(lossc.loads(text)(tensors).loss, expected)


def test_groups_that_do_not_match_are_reported() -> None:
    objective = lossc.loads(spec(CASES["norms"][0]))
    tensors = given()
    tensors["anchor"] = {"0.weight": torch.zeros(3, 2, 2)}
    with pytest.raises(lossc.LosscError, match="leaves"):
        objective(tensors)
    wrong = lossc.loads(spec("sum[layer](gamma * norm[entry](w))"))
    wrong.set(gamma=[1.0, 2.0])
    with pytest.raises(lossc.LosscError, match="E704"):
        wrong(given())


@pytest.mark.parametrize("text", ["sum[entry](gamma)", "sum[row](w)", "svdvals[entry -> k](w)", "total(sum[entry](w))"])
def test_forms_that_there_are_not(text: str) -> None:
    with pytest.raises(lossc.LosscError):
        lossc.loads(spec(f"sum[layer]({text})"))


def test_a_standalone_module_has_them(tmp_path: Path) -> None:
    objective = lossc.loads(spec(*(text for text, _ in CASES.values())))
    tensors = given()
    torch.testing.assert_close(as_module(objective, tmp_path).Objective()(**tensors).loss, objective(tensors).loss)


def test_it_is_shown_as_written() -> None:
    from lossc.compiler.display.equation import plain_equation

    program = lossc.loads(spec(CASES["a tie with a coefficient for each leaf"][0])).program
    assert "Σ_layer γ·(Σ_entry ω·(w − anchor)²)" in plain_equation(program, expand=True)
