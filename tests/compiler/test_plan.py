"""The plan of a program: schedules, bytes, and what stays vocabulary-sized."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lossc.compiler.check import check_source
from lossc.compiler.plan import Plan, pairs_plans, plan
from lossc.compiler.plan.budget import BLOCK_BYTES, block_rows, head_rows
from lossc.compiler.simplify import simplify
from lossc.compiler.table import class_axes
from lossc.grammar.source import Source

HEAD = "objective example\n\nuse std.settings.{setting}\nuse std.{modules}\nuse std.divergence\n\nminimize\n"
SIZES = {"b": 2, "t": 4, "v": 8}


def plan_of(*terms: str, setting: str = "tokens", sizes: dict[str, int] | None = None, modules: str = "ce") -> Plan:
    text = HEAD.format(setting=setting, modules=modules) + "".join(f"  term{n} : {term}\n" for n, term in enumerate(terms))
    checked = check_source(Source("example.loss", text))
    assert checked.program is not None, [problem.message for problem in checked.problems.errors]
    return plan(simplify(checked.program).program, sizes)


def test_terms_over_one_softmax_share_statistics() -> None:
    found = plan_of("mean[b, t where mask](ce(logits, labels))", "mean[b, t where mask](z_loss(logits))")
    (axis,) = found.axes
    assert [s.op for s in axis.table.statistics] == ["shift", "select", "sum"]
    assert axis.table.levels == 1
    assert not axis.coupled
    assert found.largest is None


def test_streams_are_read_once_unless_rows_are_coupled() -> None:
    (axis,) = plan_of("mean[b, t where mask](ce(logits, labels))", sizes=SIZES).axes
    (visit,) = axis.visits
    assert (visit.reads, visit.writes, visit.bytes) == (1, 1, 2 * 4 * 8 * 4)
    (axis,) = plan_of("mean[b](log(1 + sum[t where mask](ce(logits, labels))))", sizes=SIZES).axes
    assert axis.coupled == ("term0",)
    assert axis.visits[0].reads == 2
    assert [each.kind for each in axis.passes] == ["statistics", "gradient"]


def test_a_row_is_visited_once_where_the_weights_of_the_terms_are_known_beforehand() -> None:
    (axis,) = plan_of("mean[b, t where mask](ce(logits, labels))", "mean[b, t where mask](z_loss(logits))").axes
    (each,) = axis.passes
    assert (each.kind, each.sweeps, each.reads, each.gradients) == ("visit", 2, ("logits",), ("logits",))
    assert axis.once
    weighted = "sum[b, t where mask](ce(logits, labels)) / sum[b, t where mask](entropy(logits))"
    (axis,) = plan_of(weighted).axes
    assert not axis.once
    assert axis.late == ("term0",)
    assert "known only with all statistics" in plan_of(weighted).render()


def test_a_monitor_does_not_decide_the_schedule() -> None:
    text = HEAD.format(setting="tokens", modules="ce") + (
        "  fit : mean[b, t where mask](ce(logits, labels))\n\nmonitor\n  odd : log(mean[b, t where mask](entropy(logits)))\n"
    )
    program = check_source(Source("example.loss", text)).program
    assert program is not None
    (axis,) = plan(simplify(program).program).axes
    assert axis.once and not axis.coupled


def test_bytes_are_those_of_every_pass() -> None:
    (once,) = plan_of("mean[b, t where mask](kl(teacher, logits))", setting="distill", sizes=SIZES).axes
    dense, rows = 2 * 4 * 8 * 4, 2 * 4
    assert (once.moved, once.floor, once.gradients, once.rows, once.classes) == (3 * dense, 3 * dense, dense, rows, 8)
    assert once.workspace == 8 * rows * len([s for s in once.table.statistics if s.purpose != "merge"])
    (twice,) = plan_of("mean[b](log(1 + sum[t where mask](ce(logits, labels))))", sizes=SIZES).axes
    assert (twice.moved, twice.floor) == (3 * dense, 2 * dense)
    (unknown,) = plan_of("mean[b, t where mask](kl(teacher, logits))", setting="distill").axes
    assert unknown.moved is None and unknown.workspace is None


def test_blocks_are_those_of_the_backend() -> None:
    pytest.importorskip("torch")
    from lossc.runtime.backends import chunked

    assert BLOCK_BYTES == {"cpu": chunked.CPU_BYTES, "other devices": chunked.DEVICE_BYTES}
    assert block_rows(128256 * 4, "cpu") == 16
    text = plan_of("mean[b, t where mask](ce(logits, labels))", sizes={"b": 8, "t": 1024, "v": 128256}).render()
    assert "backend torch on the CPU: 512 blocks of 16 rows, 8 MiB a value" in text
    assert "logits given as lossc.Linear, on the CPU: 32 blocks of 256 rows, 125 MiB of scores" in text


def test_rows_of_a_block_of_heads_come_in_multiples() -> None:
    """261 rows of bf16 scores of 128256 classes would fit, and take longer than 256 by more than the five of them."""
    assert head_rows(128256 * 2, "cpu") == head_rows(128256 * 4, "cpu") == 256
    assert head_rows(32000 * 2, "cpu") == 1024
    assert head_rows(32000 * 4, "cpu") == 512
    assert head_rows(128256 * 2, "other devices") == 2048


def test_heads_are_scores_that_take_gradient() -> None:
    (axis,) = plan_of("mean[b, t where mask](kl(teacher, logits))", setting="distill").axes
    assert axis.heads == ("logits",)


def test_the_products_of_all_pairs_remain() -> None:
    found = plan_of("mean[b](info_nce(s))", setting="embeddings", sizes={"b": 16, "d": 4}, modules="contrastive")
    assert found.largest is not None
    assert (found.largest.reason, found.largest.bytes) == ("the products of all pairs are formed", 16 * 16 * 4)


def test_a_teacher_has_no_gradient_written() -> None:
    (axis,) = plan_of("mean[b, t where mask](kl(teacher, logits))", setting="distill").axes
    assert {visit.stream: visit.writes for visit in axis.visits} == {"logits": 1, "teacher": 0}


@pytest.mark.parametrize(
    ("term", "axes", "reason"),
    [
        ("mean[b, t where mask](median[v](logits))", ("b", "t", "v"), "`median` needs the whole row at once"),
        ("sum[v](max[b, t](logits)^2)", ("b", "t", "v"), "`max[b, t]` keeps `v`"),
    ],
)
def test_what_remains_is_named_with_its_reason(term: str, axes: tuple[str, ...], reason: str) -> None:
    found = plan_of(term, "mean[b, t where mask](ce(logits, labels))", sizes=SIZES)
    largest = found.largest
    assert largest is not None
    assert (largest.axes, largest.reason, largest.bytes) == (axes, reason, 2 * 4 * 8 * 4)
    assert f"remains: {reason}" in found.render()


def test_terms_without_a_class_axis_are_named() -> None:
    text = "objective example\n\nuse std.settings.regression\n\nminimize\n  fit : mean[b, k](error^2)\n"
    program = check_source(Source("example.loss", text)).program
    assert program is not None
    found = plan(simplify(program).program)
    assert found.rows_only == ("fit",)
    assert not found.axes
    assert "without a class axis: fit" in found.render()
    assert found.widest is not None and set(found.widest.axes) == {"b", "k"}


def test_class_axes_are_those_of_distributions_and_normalisers() -> None:
    text = (
        "objective example\n\naxis b : batch\naxis d\ninput x : embedding[b, d]\n\nminimize\n"
        "  loss : mean[b](logsumexp[j](dot[d](x, x[b -> j])) - dot[d](x, x))\n"
    )
    program = check_source(Source("example.loss", text)).program
    assert program is not None
    assert class_axes(simplify(program).program) == ("j",)


def test_what_runs_as_it_stands_is_named_with_its_reason() -> None:
    text = """
use std.settings.classes
axis d
input x   : real[b, d]
input net : model(real[b, d]) -> logits[b, v]
input w   : weights[layer] in "*.weight"
minimize
  nll    : mean[b](nll)
  smooth : mean[b](norm[d](grad[x](logsumexp[v](net(x)))))
  size   : sum[layer](norm[entry](w))
"""
    checked = check_source(Source("example.loss", text))
    assert checked.program is not None
    found = plan(simplify(checked.program).program)
    assert [entry.name for entry in found.whole] == ["smooth", "size"]
    assert found.whole[0].reason == "a model is called in it, a gradient is taken in it"
    assert found.whole[0].axes == ("b", "v") and found.largest == found.whole[0]
    assert found.whole[1].reason == "it follows the leaves of weights"
    assert "as it stands: smooth, size" in found.render()
    assert [table.table.axis for table in found.axes] == ["v"]


@pytest.mark.parametrize(
    ("term", "along", "formed"),
    [
        ("mean[b](symmetric_nce(s))", ("b", "j"), False),
        ("mean[b](sigmoid_pairs(s))", ("j",), False),
        ("mean[b](logsumexp[j](s - logsumexp[b](s)))", ("b", "j"), False),
        ("mean[b](symmetric_nce(s)^2)", ("b", "j"), False),
        ("mean[b](max[j](cumsum[b](s) * s))", ("j",), True),
    ],
)
def test_what_becomes_of_a_matrix_of_all_pairs(term: str, along: tuple[str, ...], formed: bool) -> None:
    head = "objective example\nuse std.settings.embeddings\nuse std.contrastive (symmetric_nce, sigmoid_pairs)\nminimize\n"
    checked = check_source(Source("example.loss", f"{head}  a : {term}\n"))
    assert checked.program is not None
    (found,) = pairs_plans(checked.program)
    assert (found.name, tuple(sorted(found.along)), bool(found.whole)) == ("s", along, formed)
    shown = replace(plan(simplify(checked.program).program), pairs=(found,)).render()
    assert f"s [b, j] given as lossc.Pairs: {'the matrix is formed' if formed else 'no matrix'}" in shown
