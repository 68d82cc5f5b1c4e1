"""Emitted programs against the entry-by-entry meaning of their graphs: values and gradients, with NaN behind every mask."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from tests.runtime.core_oracle import Meaning
from torch import Tensor

from lossc.compiler import intervals as iv
from lossc.compiler.core import (
    ZERO,
    Index,
    Input,
    Map,
    Node,
    Param,
    Reduce,
    all_of,
    apply,
    const,
)
from lossc.compiler.emission import Procedure, emit
from lossc.compiler.formula import formula
from lossc.grammar.diagnostics import LosscError
from lossc.runtime.backends import Executable

SIZES = {"b": 3, "t": 4, "v": 5, "d": 2, "k": 2, "side": 2, "group": 3, "j": 3, "i": 3, "r": 4, "top": 2, "part": 2}

NODES: dict[str, Node] = {
    "z": Input("z", ("b", "t", "v"), "logits"),
    "u": Input("u", ("b", "t", "v"), "logits"),
    "lp": Input("lp", ("b", "t"), "logprob", iv.LOGPROB),
    "q": Input("q", ("b", "t", "v"), "prob", iv.UNIT),
    "y": Input("y", ("b", "t"), "label", iv.INTEGER, True),
    "ys": Input("ys", ("b", "k"), "label", iv.INTEGER, True),
    "m": Input("m", ("b", "t"), "mask", detached=True),
    "mv": Input("mv", ("v",), "mask", detached=True),
    "s": Input("s", ("b", "t")),
    "a": Input("a", ("b", "t")),
    "pos": Input("pos", ("b", "t"), "positive", iv.POSITIVE),
    "x": Input("x", ("b", "d"), "embedding"),
    "e": Input("e", ("b", "d"), "embedding"),
    "g": Input("g", ("b",), "label", iv.INTEGER, True),
    "gt": Input("gt", ("b", "t"), "label", iv.INTEGER, True),
    "h": Input("h", ("b",)),
    "pair": Input("pair", ("b", "side", "t")),
    "pm": Input("pm", ("b", "side", "t"), "mask", detached=True),
    "beta": Param("beta", bounds=iv.POSITIVE),
    "gamma": Param("gamma", bounds=iv.NONNEG),
    "wv": Param("wv", "learn", ("v",)),
}
LABELS = {"y": 5, "ys": 5, "g": 3, "gt": 2}


def draw(seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    params: dict[str, Tensor] = {}
    for name, node in NODES.items():
        shape = [SIZES[axis] for axis in node.order]  # type: ignore[attr-defined]
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        if isinstance(node, Param):
            params[name] = value if shape else value.abs() + 0.3
        elif node.is_mask:
            tensors[name] = value > -0.5
        elif name in LABELS:
            tensors[name] = torch.randint(-1, LABELS[name], shape, generator=generator)
        else:
            kinds = {"prob": value.softmax(-1), "logprob": -value.abs(), "positive": value.abs() + 0.1}
            tensors[name] = kinds.get(node.kind, value)  # type: ignore[attr-defined]
    tensors["m"][1] = False
    tensors["pm"][1, 0] = False
    return tensors, params


def run(procedure: Procedure, tensors: dict[str, Tensor], params: dict[str, Tensor]) -> dict[str, Tensor]:
    like = next((t for t in tensors.values() if t.is_floating_point()), torch.zeros((), dtype=torch.float64))
    values: dict[str, Callable[[str], Tensor | int]] = {
        "like": lambda _: torch.zeros((), dtype=like.dtype),
        "tensor": tensors.__getitem__,
        "param": lambda name: params[name].to(like.dtype),
        "size": SIZES.__getitem__,
    }
    return Executable(procedure).run([values[bound.kind](bound.name) for bound in procedure.bound])


def compare(root: Node, *, poison: dict[str, str] | None = None, seed: int = 0, rtol: float = 1e-10) -> None:
    """Value and gradients of a scalar graph; `poison` names tensors and the mask outside of which they are NaN."""
    tensors, params = draw(seed)
    leaves = {name: value for name, value in tensors.items() if value.is_floating_point()}
    dirty: dict[str, Tensor] = dict(tensors)
    for name, mask in (poison or {}).items():
        seen = tensors[mask]
        seen = seen.reshape(seen.shape + (1,) * (tensors[name].dim() - seen.dim()))
        dirty[name] = torch.where(seen, tensors[name], torch.tensor([math.nan, math.inf])[seed % 2].to(torch.float64))
    leaves |= {name: value for name, value in params.items() if name == "wv"}
    outputs = []
    for source in (tensors, dirty):
        given = {name: (source if name in source else params)[name].clone().requires_grad_() for name in leaves}
        merged = ({**source, **{n: v for n, v in given.items() if n in source}},
                  {**params, **{n: v for n, v in given.items() if n in params}})  # fmt: skip
        oracle = source is tensors
        value = Meaning(*merged, SIZES).at(root, {}) if oracle else run(emit({"value": root}), *merged)["value"]
        grads = torch.autograd.grad(value, list(given.values()), allow_unused=True) if value.requires_grad else []
        outputs.append((value.detach().to(torch.float64), dict(zip(given, grads, strict=False))))
    (expected, wanted), (value, found) = outputs
    torch.testing.assert_close(value, expected, rtol=rtol, atol=1e-12)
    for name in set(wanted) | set(found):
        zero = torch.zeros((), dtype=torch.float64)
        want, got = (grads.get(name) if grads.get(name) is not None else zero for grads in (wanted, found))
        torch.testing.assert_close(got, want.expand(got.shape), rtol=rtol, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}")


DENSE = [
    "sum[b, t](s * a + 2 * s - a / 3)",
    "mean[b](logsumexp[t](s))",
    "mean[b, t](max(s, a, 0) + min(s, a) + clip(s, -0.5, 0.5))",
    "sum[b](prod[t](s)) + sum[b](max[t](s)) - sum[b](min[t](a))",
    "sum[b](std[t](s) + var[t](a, ddof = 1) + median[t](s) + quantile[t](a, 0.3))",
    "sum[b, t](softmax[v](z)[v = y] * a)",
    "sum[b, t, v](softmax[v](z) * (log_softmax[v](z) - log_softmax[v](u)))",
    "sum[b, t](logsumexp[v](z) - z[v = y])",
    "sum[b, t](s * (0.9 * (logsumexp[v](z) - z[v = y]) + 0.1 * (logsumexp[v](z) - mean[v](z))))",
    "sum[b, t](-log_softmax[v where mv](z)[v = y])",
    "sum[b, t](logsumexp[v where mv](z / beta))",
    "mean[b](sum[j where h >= h[b -> j]](exp(h[b -> j])))",
    "mean[b](logsumexp[j where index[b] != index[j]](sum[d](x * e[b -> j]) / beta))",
    "mean[b](sum[d](x * e[b -> j])[j = index[b]])",
    "sum[b, j](sum[d](x * e[b -> j]))",
    "sum[b, j](sum[d]((x - e[b -> j])^2)^0.5)",
    "mean[b](sum[k](logsumexp[t](s) * 1) + sum[k]((z[v = ys])[t = 0]))",
    "sum[b, t](cumsum[t](s) * a + cumprod[t](s) + cummax[t](s) * a + cumlogsumexp[t](s))",
    "sum[b, t](scan[t](s, 0.9) * a)",
    "sum[b, t](shift[t](s, 1) * a + shift[t](s, 2, fill = 3) - shift[t](a, -1))",
    "sum[b, t](cumsum[t by gt](s) * a + scan[t by gt](a, beta) + cummax[t by gt](s) * a)",
    "sum[b, t](softmax[t by gt](s) * a)",
    "sum[b, r](sort[t -> r](s) * index[r]) + sum[b, r](sort[t -> r](s, by = a) * (index[r] + 1))",
    "sum[b, top](topk[t -> top](s, 2) * (index[top] + 1))",
    "sum[b, t](rank[t](s) * a)",
    "sum[b, t](sg(s) * s + a * sg(a))",
    "sum[b, t](s^2 + pos^beta + (s * s)^0.5 + pos^-1.5)",
    "sum[b, t](xlogy(pos, pos) + log1p(pos) + log1mexp(-pos) + lgamma(pos) + digamma(pos) + sqrt(pos))",
    "sum[b, t](sigmoid(s) + logsigmoid(s) + softplus(a) + tanh(s) + erf(a) + sin(s) + cos(a) + log_normcdf(s))",
    "sum[b, t](expm1(s) + log2(pos) + logaddexp(s, a) + relu(s) + abs(a) + atan2(s, pos) + mod(s, 0.7))",
    "sum[b, t](pair[side = 0] * pair[side = 1])",
    "sum[b, t](logsigmoid(beta * (cumsum[t](pair)[side = 0] - max[t](pair)[side = 1])))",
    "sum[b, part](sum[t](pair)[side -> part = 0..2] * index[part])",
    "sum[b, part](s[t -> part = 1..3])",
    "sum[b, t](sum[v](wv * z) * a)",
    "sum[b, t]((1 - softmax[v](z)[v = y])^gamma * (-log_softmax[v](z)[v = y]))",
    "mean[b, t](s > 0) + sum[b](any[t](s > a)) + sum[b](all[t](s > -3))",
    "mean[b, t](argmax[v](z) == y)",
    "sum[b, t](s if s > 0 else a * a)",
    "sum[b, t](size[v] * s / size[t])",
    "sum[b](count[t where m] * h) + sum[b](h * count[b, t])",
    "sum[b](norm)",
]  # fmt: skip


def _formula(text: str) -> Node:
    names = dict(NODES)
    if "norm" in text and "log_norm" not in text:
        from lossc.compiler.core import Call

        names["norm"] = Call("norm", (NODES["x"],), ("d",), (), iv.NONNEG)
    return formula(text, names)


@pytest.mark.parametrize("text", DENSE)
def test_values_and_gradients(text: str) -> None:
    compare(_formula(text))
    compare(_formula(text), seed=5)


MASKED = [
    "sum[b, t where m](s * a)",
    "sum[b, t where m](exp(s) / a + log(abs(s)) + abs(s)^0.5 + lgamma(abs(a)) + tan(s))",
    "sum[b, t where m and y >= 0](logsumexp[v](z) - z[v = y]) / count[b, t where m and y >= 0]",
    "sum[b, t where m](sum[v](softmax[v](z) * (log_softmax[v](z) - log_softmax[v](u))))",
    "sum[b, t where m](-log(softmax[v](z)[v = y]) * sg(exp(-a)))",
    "mean[b where any[t where m](m)](sum[t where m](s / a) / count[t where m])",
    "mean[b](max[t where m](s) + median[t where m](a) + std[t where m](s))",
    "sum[b where any[t where m](m)](logsumexp[t where m](s) + prod[t where m](a))",
    "mean[b, t](log(abs(s)) / a if m else 2)",
    "mean[b, t](3 if not m else 2 * a) - mean[b, t](2 if not m else s)",
    "sum[b, t where m](logsigmoid(beta * s) if s > 0 else s / (a * a))",
    "sum[b, t where m](cumsum[t where m](s) * a + softmax[t where m](s) + scan[t where m](a, 0.5))",
    "sum[b, t where m](shift[t where m](s, 1) * a + cummax[t where m](exp(s)) + cumlogsumexp[t where m](a))",
    "sum[b, t where m](log_softmax[t where m](s * a) + rank[t where m](s) * a)",
    "sum[b, r](sort[t -> r where m](exp(s)) * index[r])",
    "sum[b, top](topk[t -> top where m](s * a, 2) * index[top])",
    "sum[b, t where m](shift[t](exp(s), 1) if shift[t](m, 1) and index[t] > 0 else a)",
    "sum[b, t where m](softmax[t where m](1 / s)[t = 0])",
    "sum[b, j where any[t where m](m) and any[t where m](m)[b -> j]](sum[t where m](1 / s) * sum[t where m](exp(a))[b -> j])",
    "sum[b](sum[t where m](s * h / a))",
    "sum[b, t where m](sg(1 / s) * log(abs(s)))",
    "mean[b, t where m](argmax[v](z) == y)",
    "sum[b where any[t where m](m)](mean[t where m](s)^2 / sum[t where m](abs(a)))",
]  # fmt: skip


@pytest.mark.parametrize("text", MASKED)
def test_what_is_excluded_is_unseen(text: str) -> None:
    poison = {name: "m" for name in ("z", "u", "s", "a") if re.search(rf"\b{name}\b", text)}
    for seed in (0, 1):
        compare(_formula(text), poison=poison, seed=seed)


def test_a_position_that_is_not_selected_is_unseen() -> None:
    text = "sum[b, t where pm[side = 0]](exp(pair)[side = 0] / pair[side = 0] + log(abs(cumsum[t where pm](pair)))[side = 0])"
    compare(_formula(text), poison={"pair": "pm"}, seed=1)


GROUPED = ["sum", "mean", "count", "max", "min", "logsumexp", "prod", "std", "var", "median", "any", "all"]


@pytest.mark.parametrize("op", GROUPED)
def test_reductions_within_groups(op: str) -> None:
    member = apply("le", ZERO, NODES["g"])
    body = NODES["h"]
    if op in ("any", "all"):
        body = apply("lt", ZERO, body)
    option = const(0) if op in ("std", "var") else None
    present = Reduce("any", ("b",), member, member, (NODES["g"], "group"))
    total = Reduce(op, ("b",), body, member, (NODES["g"], "group"), option)  # type: ignore[arg-type]
    weight = apply("add", Index("group"), const(1))
    for seed in (0, 3):
        compare(Reduce("sum", ("group",), apply("mul", total, weight), present), seed=seed)


def test_a_group_hands_its_value_to_its_members() -> None:
    names = {**NODES, "total": Reduce("mean", ("b",), NODES["h"], apply("le", ZERO, NODES["g"]), (NODES["g"], "group"))}
    compare(formula("sum[b where g >= 0]((h - total[group = g])^2)", names))


def test_groups_over_more_axes_than_the_label() -> None:
    member = all_of(NODES["m"], apply("le", ZERO, NODES["g"]))
    total = Reduce("sum", ("b", "t"), formula("s / a", NODES), member, (NODES["g"], "group"))
    compare(Reduce("sum", ("group",), total), poison={"s": "m", "a": "m"}, seed=1)
    within = Reduce("mean", ("t",), NODES["s"], apply("le", ZERO, NODES["gt"]), (NODES["gt"], "group"))
    compare(Reduce("sum", ("b", "group"), apply("mul", within, Index("group"))))


def test_logs_of_zero_weighted_by_zero_are_zero() -> None:
    z = torch.tensor([[[0.0, -math.inf, 1.0]]], dtype=torch.float64, requires_grad=True)
    for text in ("sum[b, t, v](softmax[v](z) * log_softmax[v](z))",
                 "sum[b, t, v](softmax[v](z) * (log_softmax[v](z) - log_softmax[v](2 * z)))"):  # fmt: skip
        value = run(emit({"value": formula(text, NODES)}), {"z": z}, {})["value"]
        assert torch.isfinite(value)
        assert torch.isfinite(torch.autograd.grad(value, z)[0]).all()


@pytest.mark.parametrize("offset", [0.0, 1e4, 2.0**20, -1e4])
@pytest.mark.parametrize(
    "text",
    [
        "logsumexp[v](z) - z[v = y]",
        "2 * logsumexp[v](z / beta) - 2 * (z / beta)[v = y]",
        "logsumexp[v](z) - (1 - eps) * z[v = y] - eps * mean[v](z)",
        "logsumexp[v](z) - (1 - eps) * z[v = y] - eps / size[v] * sum[v](z)",
        "mean[v](logsumexp[v](z) - z)",
    ],
)
def test_offsets_cost_no_accuracy(text: str, offset: float) -> None:
    eps = Param("eps", bounds=iv.UNIT)
    root = formula(f"sum[b, t]({text})", {**NODES, "eps": eps})
    procedure = emit({"value": root})
    grid = torch.arange(5.0).repeat(3, 4, 1) * 0.5
    results = []
    for dtype, shift in ((torch.float64, 0.0), (torch.float32, offset)):
        z = (grid + shift).to(dtype).requires_grad_()
        params = {"eps": torch.tensor(0.1), "beta": torch.tensor(0.5)}
        value = run(procedure, {"z": z, "y": torch.ones(3, 4, dtype=torch.int64)}, params)["value"]
        results.append((value.detach().double(), torch.autograd.grad(value, z)[0].double()))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=2e-6, atol=1e-6)


def test_programs_are_twice_differentiable() -> None:
    text = "sum[b where any[t where m](m)](mean[t where m](logsigmoid(s * a))^2 + std[t where m](s) + max[t where m](a)^2)"
    procedure = emit({"value": formula(text, NODES)})
    tensors, params = draw()
    tensors["m"][1] = False

    def function(s: Tensor, a: Tensor) -> Tensor:
        return run(procedure, {**tensors, "s": s, "a": a}, params)["value"]

    leaves = tuple(tensors[name].clone().requires_grad_() for name in ("s", "a"))
    assert torch.autograd.gradgradcheck(function, leaves)


def test_an_outer_product_is_contracted() -> None:
    procedure = emit({"value": formula("sum[b, j](exp(sum[d](x * e[b -> j])))", NODES)})
    assert any(instruction.operation == "torch.einsum" for instruction in procedure.instructions)


def test_emission_is_deterministic_and_shares_what_is_equal() -> None:
    node = formula("sum[b, t](exp(s) * a) + mean[b, t](exp(s))", NODES)
    first, second = emit({"value": node}), emit({"value": node})
    assert first == second
    assert sum(instruction.operation == "torch.exp" for instruction in first.instructions) == 1


def test_deep_graphs_are_emitted() -> None:
    node: Node = NODES["s"]
    for _ in range(3000):
        node = Map("tanh", (node,))
    emit({"value": Reduce("sum", ("b", "t"), node)})


def test_what_is_not_compiled_says_so() -> None:
    from lossc.compiler.core import Call, Draw

    for node in (Draw("normal", (), 0), Call("abstract", (NODES["h"],), ("b",))):
        with pytest.raises(LosscError, match="E601"):
            emit({"value": node})
    with pytest.raises(LosscError, match="E601"):
        emit({"value": formula("sum[b, t](shift[t](s, beta))", NODES)})


@pytest.mark.parametrize("text", ["sum[b, t](s)", "mean[b, t where m](logsumexp[v](z))", "sum[b](max[t where m](s))"])
def test_empty_batches(text: str) -> None:
    tensors, params = draw()
    empty = {name: value[:0] if NODES[name].order[:1] == ("b",) else value for name, value in tensors.items()}  # type: ignore[attr-defined]
    leaves = {name: empty[name].clone().requires_grad_() for name in ("s", "z")}
    value = run(emit({"value": formula(text, NODES)}), {**empty, **leaves}, params)["value"]
    assert value.item() == 0
    value.backward()
