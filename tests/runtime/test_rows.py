"""Programs on rows: against the entry-by-entry meaning of their graphs, NaN behind the mask, and what they refuse."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping

import pytest
import torch
from tests.runtime.core_oracle import Meaning
from tests.runtime.test_emission import NODES, SIZES, draw
from torch import Tensor

from lossc.compiler.core import ONE, Input, Node, Param
from lossc.compiler.formula import formula
from lossc.compiler.rows import NoRowsError, Output, derivatives, row_program
from lossc.runtime.backends import rows
from lossc.runtime.backends.environment import Environment
from lossc.runtime.backends.rows import Rows

UNARY = (
    "exp({})", "tanh({})", "softplus({})", "abs({})", "sg({})", "({})^2", "log(abs({}))", "1 / {}", "sqrt(abs({}))",
    "relu({})", "clip({}, -0.5, 0.7)", "xlogy(abs({0}), abs({0}))", "log1mexp(-abs({}))", "-{}", "sigmoid({})",
)  # fmt: skip
BINARY = ("({} + {})", "({} - {})", "({} * {})", "({} / {})", "max({}, {})", "min({}, {})", "logaddexp({}, {})")
LEAVES = ("s", "a", "h", "pos", "beta", "0.5", "lp", "index[t]", "size[b]")
REDUCE = ("sum", "mean", "max", "logsumexp", "min")
SOURCES = ("s", "a", "h", "pos", "lp")

WRITTEN = (
    "mean[b](pair[side = 0][t = 1] * h) + sum[b, t](pair[side = 1] * s)",
    "sum[b](logsumexp[t where m](s) if any[t where m](s > 0) else mean[t where m](a))",
    "mean[b](max[t](sum[side](pair))) + h[b = 1] * sum[b, t](s)",
    "sum[b, t where m and y >= 0](s / sum[b, t where m](a^2))",
    "sum[b, t where m](log(pos) * (h - mean[b](h)))",
    "sum[b](x[d = 0] * x[d = 1]) + sum[b, t](min(s, a, lp))",
    "mean[b](count[t where m] * h)",
)


def number(depth: int, source: random.Random) -> str:
    """An expression over b and t that looks at masked entries through masks only."""
    choice = source.random()
    if depth <= 0 or choice < 0.12:
        return source.choice(LEAVES)
    if choice < 0.45:
        return f"({source.choice(UNARY).format(number(depth - 1, source))})"
    if choice < 0.7:
        return source.choice(BINARY).format(number(depth - 1, source), number(depth - 1, source))
    if choice < 0.8:
        return f"({number(depth - 1, source)} if {number(1, source)} > {number(1, source)} else {number(depth - 1, source)})"
    mask = "m" if source.random() < 0.5 else f"m and {number(1, source)} <= s"
    return f"{source.choice(REDUCE)}[t where {mask}]({number(depth - 1, source)} + s)"


def environment(tensors: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Environment:
    return Environment(tensors, params, SIZES, torch.zeros((), dtype=torch.float64))


def compared(roots: Mapping[str, Node], seed: int) -> int:
    """Holds values and gradients of scalar graphs against their meaning; how many have finite ones."""
    tensors, params = draw(seed)
    sources = {name: NODES[name] for name in (*SOURCES, "pair", "x")}
    values: dict[str, Node] = {}
    outputs: list[Output] = []
    for name, root in roots.items():
        found = {"value": root, **{str(leaf.name): slope for leaf, slope in  # type: ignore[attr-defined]
                                   derivatives([(root, ONE)], sources.values()).items()}}  # fmt: skip
        for of, node in found.items():
            order = () if of == "value" else sources[of].order  # type: ignore[attr-defined]
            values[f"{name} {of}"] = node
            outputs.append(Output(f"{name} {of}", order, "number"))
    dirty = {name: torch.where(tensors["m"], tensors[name], torch.nan) for name in ("s", "a", "pos", "lp")}
    masked = all("where" in name for name in roots)
    got = Rows(values, outputs).run(environment({**tensors, **dirty} if masked else tensors, params))
    assert got is not None
    finite = 0
    for name, root in roots.items():
        leaves = {of: tensors[of].clone().requires_grad_() for of in sources}
        value = Meaning({**tensors, **leaves}, params, SIZES).at(root, {})
        grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True) if value.requires_grad else []
        every = [value.detach(), *(x for x in grads if x is not None)]
        if all(bool(torch.isfinite(x).all()) and float(x.abs().max()) < 1e7 for x in every):
            finite += 1
            torch.testing.assert_close(got[f"{name} value"], value.detach().double(), rtol=1e-7, atol=1e-11)
            for of, want in zip(leaves, grads, strict=False):
                have = got.get(f"{name} {of}", torch.zeros(()))
                wanted = (torch.zeros(()) if want is None else want).to(have).expand(have.shape)
                assert torch.allclose(have, wanted, rtol=1e-7, atol=1e-11), f"{name}: gradient to {of}"
    return finite


def test_written_programs() -> None:
    assert compared({text: formula(text, NODES) for text in WRITTEN}, 0) == len(WRITTEN)


@pytest.mark.parametrize("seed", range(4))
def test_random_programs(seed: int) -> None:
    source = random.Random(seed)
    texts = [f"sum[b, t where m]({number(source.randint(2, 5), source)})" for _ in range(14)]
    assert compared({text: formula(text, NODES) for text in texts}, seed) >= 4


def single(text: str, order: tuple[str, ...] = ()) -> Rows:
    return Rows({"value": formula(text, NODES)}, [Output("value", order, "number")])


def test_values_that_torch_alone_computes() -> None:
    """Products of matrices, values over axes that no tensor has together, and what is ordered or cumulative."""
    for text in ("sum[b, j](sum[d](x * e[b -> j]))", "sum[b, j](max(h, h[b -> j]))", "sum[b, t](cumsum[t](s))",
                 "sum[b](median[t](s))"):  # fmt: skip
        with pytest.raises(NoRowsError):
            row_program({"value": formula(text, NODES)}, [Output("value", (), "number")])
        assert single(text).run(environment(*draw())) is None


def test_no_program_where_a_gradient_is_wanted_or_a_loop_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, params = draw()
    program = single("sum[b, t](s)")
    moving = {**tensors, "s": tensors["s"].requires_grad_()}
    assert program.run(environment(moving, params)) is None
    with torch.no_grad():
        assert program.run(environment(moving, params)) is not None
    monkeypatch.setattr(rows, "LARGEST", 11)
    assert single("sum[b, t](s)").run(environment({**tensors, "s": tensors["s"].detach()}, params)) is None


def test_views_types_and_empty_axes() -> None:
    tensors, params = draw()
    want = (tensors["s"] + tensors["h"][:, None]).sum(1)
    views = {**tensors, "s": tensors["s"].t().contiguous().t(), "h": torch.stack([tensors["h"]] * 2, 1)[:, 0]}
    program = single("sum[t](s + h)", ("b",))
    found = program.run(environment(views, params))
    assert found is not None
    torch.testing.assert_close(found["value"], want)
    halves = {name: x.bfloat16() if x.is_floating_point() else x for name, x in tensors.items()}
    low = program.run(Environment(halves, params, SIZES, torch.zeros(())))
    assert low is not None
    assert low["value"].dtype == torch.float32
    torch.testing.assert_close(low["value"], (halves["s"].float() + halves["h"].float()[:, None]).sum(1))
    none = {**tensors, "s": torch.zeros(3, 0, dtype=torch.float64)}
    empty = program.run(Environment(none, params, {**SIZES, "t": 0}, torch.zeros(())))
    assert empty is not None
    assert empty["value"].tolist() == [0.0, 0.0, 0.0]


def test_no_name_is_in_the_source() -> None:
    nasty = Input('x"; int q[`ls`', ('b"*/', "t'\\"))
    text = row_program({"@*/": nasty}, [Output("@*/", nasty.order, "number")]).text(["f32"], "float")
    assert not any(part in text.split("on_rows")[1] for part in ("int q", "ls", "`", "'", "@*/"))


def test_a_gradient_of_zero_hides_an_infinite_slope() -> None:
    s, m = NODES["s"], NODES["m"]
    root = formula("sum[b, t where m](log(s))", {"s": s, "m": m})
    program = Rows({"s": derivatives([(root, ONE)], [s])[s]}, [Output("s", ("b", "t"), "number")])
    given = {"s": torch.zeros(3, 4, dtype=torch.float64), "m": torch.zeros(3, 4, dtype=torch.bool)}
    found = program.run(environment(given, {}))
    assert found is not None
    assert found["s"].count_nonzero() == 0


def test_what_several_threads_run_at_once() -> None:
    tensors, params = draw()
    program = single("sum[b, t](s * beta)")
    want = float((tensors["s"] * params["beta"]).sum())
    wrong: list[float] = []

    def work() -> None:
        for _ in range(200):
            found = program.run(environment(tensors, params))
            wrong.extend([float(found["value"])] if found is None or abs(float(found["value"]) - want) > 1e-9 else [])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_links_carry_gradient_on() -> None:
    """A leaf that was worked out elsewhere from `a` with slope `h`: dL/da = dL/dleaf * h."""
    leaf, a = Input("@k", ("b",), "statistic"), Param("a", "learn", ("b",))
    root = formula("sum[b](k^2 + a)", {"k": leaf, "a": a})
    found = derivatives([(root, ONE)], [a], {leaf: [(a, NODES["h"])]})
    values = {"@k": torch.tensor([1.0, 2.0, 3.0]), "h": torch.tensor([2.0, 0.5, -1.0])}
    got = Rows({"a": found[a]}, [Output("a", ("b",), "number")]).run(environment(values, {}))
    assert got is not None
    assert got["a"].tolist() == [5.0, 3.0, -5.0]
