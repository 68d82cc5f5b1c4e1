"""What is excluded is unseen, what does not fit is computed, and several streams, axes and values share one table."""

from __future__ import annotations

import pytest
import torch
from tests.compiler.class_objectives import NAMES, B, V, batch
from torch import Tensor

from lossc.compiler.core import Input, Node, Reduce, Select, mul
from lossc.compiler.emission import emit
from lossc.compiler.formula import formula
from lossc.compiler.table import Table, statistic_table
from lossc.runtime.backends.reference import Executable
from lossc.runtime.table_interpreter import sweep

Gradients = dict[str, Tensor]


def summed(text: str) -> Node:
    return Reduce("sum", ("b",), formula(text, NAMES))


def by_table(root: Node, values: Gradients, axis: str = "v") -> tuple[Table, Tensor, Gradients]:
    table = statistic_table({"loss": root}, axis)
    state = sweep(table, values, sizes={"b": B, "v": V})
    loss = state.root("loss")
    return table, loss.detach(), state.backward(loss)


def by_reference(root: Node, values: Gradients, **sizes: int) -> tuple[Tensor, Gradients]:
    procedure = emit({"loss": root})
    leaves = {name: x.clone().requires_grad_() if x.is_floating_point() else x for name, x in values.items()}
    extents = {"b": B, "v": V, "k": 2, **sizes}
    like = torch.zeros((), dtype=torch.float64)
    bound = [like if e.kind == "like" else extents[e.name] if e.kind == "size" else leaves[e.name] for e in procedure.bound]
    loss = Executable(procedure).run(bound)["loss"]
    loss.backward()
    return loss.detach(), {name: x.grad for name, x in leaves.items() if x.is_floating_point() and x.grad is not None}


def assert_same(root: Node, values: Gradients, **sizes: int) -> Table:
    table, loss, gradients = by_table(root, values)
    wanted, slopes = by_reference(root, values, **sizes)
    assert torch.allclose(loss, wanted, rtol=1e-10, atol=1e-12, equal_nan=True)
    for name, slope in slopes.items():
        found = gradients.get(name, torch.zeros_like(slope))
        assert torch.allclose(found, slope, rtol=1e-9, atol=1e-12, equal_nan=True), name
    return table


# ------------------------------------------------------------------------------------------------ excluded


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -torch.inf, 1e300])
@pytest.mark.parametrize(
    "text",
    [
        "logsumexp[v where keep](z) - z[v = y] if 0 <= y else 0",
        "sum[v where keep](softmax[v where keep](z) * z)",
        "-sum[v where keep](q * log_softmax[v where keep](z))",
        "sum[v where keep](abs(softmax[v where keep](z) - softmax[v where keep](t)))",
        "max[v where keep](z) + min[v where keep](z)",
        "var[v where keep](z)",
    ],
)
def test_excluded_classes_are_unseen(text: str, garbage: float) -> None:
    values = batch(seed=2)
    plain = by_table(summed(text), values)
    hidden = {**values, "z": torch.where(values["keep"], values["z"], garbage)}
    table, loss, gradients = by_table(summed(text), hidden)
    assert table == plain[0]
    assert torch.equal(loss, plain[1])
    assert torch.equal(gradients["z"], plain[2]["z"])
    assert not gradients["z"][~values["keep"]].any()


def test_excluded_rows_are_unseen() -> None:
    root = Reduce("sum", ("b",), formula("logsumexp[v](z)^2 - z[v = y]", NAMES), formula("0 <= y", NAMES))
    values = batch()
    values["z"][-1] = torch.nan
    _, loss, gradients = by_table(root, values)
    assert loss.isfinite()
    assert not gradients["z"][-1].any()
    assert gradients["z"].isfinite().all()


@pytest.mark.parametrize(
    "text",
    [
        "logsumexp[v](z)",
        "-sum[v](softmax[v](z) * log_softmax[v](z))",
        "sum[v](softmax[v](z) * (log_softmax[v](z) - log_softmax[v](t)))",
        "sum[v](abs(softmax[v](z) - softmax[v](t)))",
    ],
)
def test_a_logit_of_minus_infinity_has_probability_0(text: str) -> None:
    values = batch(seed=1)
    values["z"][0, 3] = values["z"][2, 0] = -torch.inf
    assert_same(summed(text), values)


def test_a_mask_that_admits_no_class() -> None:
    values = batch(seed=1)
    values["keep"][1] = False
    text = "sum[v where keep](softmax[v](z)) + (max[v where keep](z) if any[v](keep) else 0)"
    assert assert_same(summed(text), values).levels == 1
    _, loss, gradients = by_table(summed("logsumexp[v where keep](z)"), values)
    assert loss == -torch.inf
    assert not gradients["z"][1].any()


# ------------------------------------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("quantile[v](z, 0.3) + logsumexp[v](z)", "`quantile` needs the whole row at once"),
        ("median[v](z) - log_softmax[v](z)[v = y] if 0 <= y else 0", "`median` needs the whole row at once"),
        ("sum[v](cumsum[v](softmax[v](z))^2) + logsumexp[v](z)", "`cumsum` needs the whole row at once"),
        ("prod[v](sigmoid(z)) + logsumexp[v](z)", "`prod` needs the whole row at once"),
    ],
)
def test_what_needs_the_row_at_once_is_computed(text: str, reason: str) -> None:
    table = assert_same(summed(text), batch())
    assert [entry.reason for entry in table.computed] == [reason]
    assert any(statistic.op == "sum" for statistic in table.statistics), "the rest still fits"


def test_too_many_sweeps_are_computed() -> None:
    inner = "z"
    for _ in range(7):
        inner = f"softmax[v](3 * {inner})"
    table = assert_same(summed(f"sum[v]({inner} * t) + logsumexp[v](z)"), batch())
    assert table.levels == 1, "the rest still fits"
    assert {entry.reason for entry in table.computed} == {"it stands on more than 4 sweeps"}


def test_a_sum_over_rows_is_computed_and_feeds_a_row_program() -> None:
    table = assert_same(formula("-sum[v](mean[b](softmax[v](z)) * log(mean[b](softmax[v](z))))", NAMES), batch())
    assert [entry.reason for entry in table.computed] == ["`mean[b]` keeps `v`"]


def test_a_sum_over_classes_of_a_sum_over_rows_is_turned_around() -> None:
    table = assert_same(formula("sum[v](mean[b](abs(softmax[v](z) - softmax[v](t))))", NAMES), batch())
    assert not table.computed
    assert table.levels == 2


# ------------------------------------------------------------------------------------------------ streams and rows


def test_two_streams_and_a_monitor_share_one_table() -> None:
    roots = {
        "kd": summed("sum[v](softmax[v](t) * (log_softmax[v](t) - log_softmax[v](z)))"),
        "ce": summed("-log_softmax[v](z)[v = y]"),
        "agreement": summed("argmax[v](softmax[v](z)) == argmax[v](t)"),
    }
    table = statistic_table(roots, "v")
    assert table.levels == 1
    sums = [statistic for statistic in table.statistics if statistic.op == "sum"]
    assert len(sums) == 3
    state = sweep(table, batch())
    assert state.root("agreement") == (batch()["z"].argmax(-1) == batch()["t"].argmax(-1)).sum()


def test_rows_picked_by_position_couple() -> None:
    z = Input("pairs", ("b", "side", "v"), "logits")
    nll = formula("-log_softmax[v](z)[v = y]", {"z": z, "y": NAMES["y"]})
    margin = Select(nll, "side", 1)
    root = Reduce("sum", ("b",), formula("softplus(chosen - rejected)", {"chosen": Select(nll, "side", 0), "rejected": margin}))
    values = {**batch(), "pairs": torch.randn(B, 2, V, dtype=torch.float64), "y": batch()["y"].clamp(min=0)}
    table = assert_same(root, values, side=2)
    assert not table.seam[0].separable
    assert [stream.name for stream in table.streams] == ["pairs", "pairs^"]


def test_a_view_of_rows_is_a_stream() -> None:
    z = Input("pairs", ("b", "side", "v"), "logits")
    chosen, rejected = Select(z, "side", 0), Select(z, "side", 1)
    text = "sum[v](softmax[v](x) * (log_softmax[v](x) - log_softmax[v](z)))"
    root = Reduce("sum", ("b",), formula(text, {"x": chosen, "z": rejected}))
    values = {**batch(), "pairs": torch.randn(B, 2, V, dtype=torch.float64)}
    table = assert_same(root, values, side=2)
    assert {stream.provider for stream in table.streams} == {"rows", "centred"}


def test_selections_of_class_level_values_reach_the_streams() -> None:
    z = Input("pairs", ("b", "side", "v"), "logits")
    p = formula("softmax[v](z)", {"z": z})
    root = Reduce("sum", ("b", "v"), mul(Select(p, "side", 0), Select(formula("log_softmax[v](z)", {"z": z}), "side", 1)))
    values = {**batch(), "pairs": torch.randn(B, 2, V, dtype=torch.float64)}
    assert_same(root, values, side=2)


def test_pairs_of_a_batch_have_a_provider() -> None:
    x, y = Input("x", ("b", "d"), "embedding"), Input("e", ("j", "d"), "embedding")
    s = formula("sum[d](x * y)", {"x": x, "y": y})
    root = Reduce("sum", ("b",), formula("logsumexp[j](s / tau) - s[j = index[b]] / tau", {"s": s, "tau": NAMES["tau"]}))
    table = statistic_table({"loss": root}, "j")
    assert [stream.provider for stream in table.streams] == ["pairs", "centred"]
    assert not table.computed
    assert table.seam[0].separable


def test_a_row_weight_and_a_nested_mean_stay_separable() -> None:
    text = "mean[b](weight * (logsumexp[v](z) - z[v = y]))"
    assert statistic_table({"loss": formula(text, NAMES)}, "v").seam[0].separable
    assert not statistic_table({"loss": formula(f"log({text})", NAMES)}, "v").seam[0].separable


def test_names_of_tensors_never_clash_with_those_of_the_table() -> None:
    s1, c1 = Input("s1", ("b", "v"), "logits"), Input("c1", ("b",))
    root = Reduce("sum", ("b",), formula("c1 * logsumexp[v](s1)", {"s1": s1, "c1": c1}))
    table = statistic_table({"loss": root}, "v")
    assert len({*table.order, "s1", "c1"}) == len(table.order) + 2
