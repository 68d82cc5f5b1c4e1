"""Where tensors come from: other networks, columns, streams, views; and what is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.training.examples import collate
from lossc.runtime.training.feed_sections import Average, Model, Previous, Reference, View
from lossc.runtime.training.journal import read_journal
from lossc.runtime.training.networks import Networks
from lossc.runtime.training.planning import plan_run
from lossc.runtime.training.preparation import Prepared, prepare
from lossc.runtime.training.views import augmented

from .test_training_failures import at_step, lines
from .training_runs import assert_equal_weights, start

MLP = "model: {kind: mlp, hidden: [8], dropout: 0.1}\noptimiser: {rate: 1e-2}\nbatch: 16\n"
FOLLOWED = f"""\
objective: |
  objective followed
  use std.settings.classes
  use std.divergence (kl)
  data slow   : logits[b, v]
  data first  : logits[b, v]
  data last   : logits[b, v]
  input again : logits[b, v]
  minimize
    fit  : mean[b](nll)
    slow : mean[b](kl(slow, logits))
    same : mean[b](kl(again, logits))
  monitor
    drift : mean[b](kl(first, logits))
    step  : mean[b](kl(last, logits))
data: sklearn:iris
feeds: {{slow: {{kind: average, decay: 0.5}}, first: reference, last: {{kind: previous, every: 2}}, again: model}}
{MLP}length: {{steps: 6}}
evaluate: {{every: 1}}
save: {{every: 2}}
"""
LLAMA = "model: {kind: llama, hidden: 16, layers: 1, heads: 2}\nbatch: 4\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prepared(text: str, **files: list[dict[str, Any]]) -> Prepared:
    for name, rows in files.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("run.yaml").write_text(text, encoding="utf-8")
    plan = plan_run("run.yaml", {}, resume=False)
    return prepare(plan.run, plan.spec, plan.base)


def refused(text: str, **files: list[dict[str, Any]]) -> list[str]:
    with pytest.raises(LosscError) as failure:
        prepared(text, **files)
    return [f"{problem.code} {problem.message}" for problem in failure.value.diagnostics]


# Networks


def test_averages_copies_and_references_follow_their_rules() -> None:
    student = nn.Sequential(nn.Linear(2, 2).double(), nn.Dropout(0.5))
    average, previous = Average(kind="average", decay=0.9), Previous(kind="previous", every=2)
    reference = Reference(kind="reference")
    networks = Networks(student, [average, previous, reference, Average(kind="average", decay=0.9, of="y")], {})
    assert len(networks.moving) == 2
    first = student[0].weight.detach().clone()
    expected, copied = first.clone(), first.clone()
    for step in (1, 2, 3):
        with torch.no_grad():
            student[0].weight.add_(step)
        networks.follow(step)
        expected = 0.9 * expected + 0.1 * student[0].weight.detach()
        copied = student[0].weight.detach().clone() if step == 2 else copied
        torch.testing.assert_close(weight(networks, average), expected, rtol=0, atol=1e-12)
        assert torch.equal(weight(networks, previous), copied)
        assert torch.equal(weight(networks, reference), first)
    assert networks.of(Model(kind="model")) is student
    networks.train()
    assert student.training and not any(part.training for part in networks.modules())
    assert not any(parameter.requires_grad for parameter in networks.parameters())


def weight(networks: Networks, feed: Any) -> torch.Tensor:
    network = networks.of(feed)
    assert isinstance(network, nn.Sequential)
    found = network[0].weight
    assert isinstance(found, torch.Tensor)
    return found.detach()


def test_every_network_feeds_a_run_that_is_resumed_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = start(FOLLOWED, "whole")
    readings = whole.journal.of("held_out")
    assert readings[0].monitors["drift"] == readings[0].monitors["step"] == 0
    assert readings[0].terms["same"] == 0  # without dropout the network repeats itself
    assert whole.journal.of("train")[0].terms["same"] > 0
    assert [reading.monitors["step"] == 0 for reading in readings] == [True, False, True, False, True, False, True]
    assert readings[-1].monitors["drift"] > readings[1].monitors["drift"] > 0
    assert 0 < readings[-1].terms["slow"] < readings[-1].monitors["drift"]
    kept = [load_file(f"whole/{name}/model.safetensors") for name in ("model", "average")]
    assert kept[0].keys() == kept[1].keys()
    assert not torch.equal(kept[0]["4.weight"], kept[1]["4.weight"])
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert start(FOLLOWED, "broken").interrupted
    resumed = start(FOLLOWED, "broken", resume=True)
    assert lines("broken") == lines("whole")
    assert_equal_weights(whole, resumed)


def test_a_teacher_is_trained_first_and_both_are_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "objective: {setting: distill, minimize: distill, monitor: nll}\ndata: {source: texts.jsonl, tokens: 16}\n"
        "feeds:\n  teacher:\n    kind: teacher\n    model: {kind: llama, hidden: 24, layers: 1, heads: 2}\n"
        "    length: {steps: 4}\n    batch: 4\n"
        f"{LLAMA}length: {{steps: 2}}\n"
    )
    Path("texts.jsonl").write_text("".join(json.dumps({"text": f"yes {n} no"}) + "\n" for n in range(12)))
    whole = start(text, "whole")
    before = read_journal(Path("whole/first/teacher/metrics.jsonl"))
    assert [reading.step for reading in before if reading.split == "train"] == [1, 2, 3, 4]
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    broken = start(text, "broken")
    assert (broken.interrupted, broken.steps, broken.total) == (True, 0, 2)
    resumed = start(text, "broken", resume=True)
    assert lines("broken") == lines("whole")
    assert lines("broken/first/teacher") == lines("whole/first/teacher")
    assert_equal_weights(whole, resumed)


def test_a_full_disk_while_a_teacher_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "objective: |\n  use std.settings.classes\n  use std.divergence (kl)\n  data teacher : logits[b, v]\n"
        "  minimize\n    match : mean[b](kl(teacher, logits))\n"
        f"data: sklearn:iris\n{MLP}length: {{steps: 2}}\nevaluate: {{every: 2}}\n"
        "feeds: {teacher: {kind: teacher, model: {kind: linear}, length: {steps: 4}}}\n"
    )
    whole = start(text, "whole")
    save = torch.save

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    at_step(monkeypatch, 3, lambda: monkeypatch.setattr(torch, "save", full))
    with pytest.raises(LosscError, match="E831"):
        start(text, "broken")
    monkeypatch.setattr(torch, "save", save)
    assert_equal_weights(whole, start(text, "broken", resume=True))
    assert lines("broken/first/teacher") == lines("whole/first/teacher")


def test_a_run_starts_from_what_it_trains_first_and_a_run_of_rows_is_a_teacher() -> None:
    text = (
        "objective: |\n  use std.settings.classes\n  use std.divergence (kl)\n  data teacher : logits[b, v]\n"
        "  minimize\n    match : mean[b](kl(teacher, logits))\n  monitor\n    nll : mean[b](nll)\n"
        f"data: sklearn:iris\n{MLP}length: {{steps: 1}}\nevaluate: {{every: 1}}\n"
    )
    feeds = "feeds: {teacher: {kind: teacher, path: one}}\n"
    first = start(
        text + "start: {minimize: ce, length: {steps: 40}, optimiser: {rate: 1e-2}}\n"
        "feeds: {teacher: {kind: teacher, model: {kind: linear}, length: {steps: 2}}}\n",
        "one",
    )
    assert first.journal.of("held_out")[0].monitors["nll"] < 0.6
    second = start(text + feeds, "two")
    assert second.journal.of("held_out")[0].terms["match"] > 0
    assert refused_run(text + feeds.replace("one", "nowhere")) == ["E840"]


def refused_run(text: str) -> list[str]:
    with pytest.raises(LosscError) as failure:
        start(text, "refused")
    assert not Path("refused").exists()
    return [problem.code for problem in failure.value.diagnostics]


def test_forms_of_a_language_model() -> None:
    text = (
        "objective: |\n  use std.settings.tokens\n  axis d\n  data whole : logprob[b]\n  data each : logprob[b, t]\n"
        "  data states : embedding[b, t, d]\n  data scores : logits[b, t, v]\n"
        "  minimize\n    fit : mean[b, t where mask](nll)\n"
        "  monitor\n    w : mean[b](whole)\n    e : mean[b](sum[t](each))\n    l : mean[b](-sum[t where mask](nll))\n"
        "    s : mean[b, t, d](states^2)\n    z : mean[b, t, v]((scores - logits)^2)\n"
        f"data: {{source: texts.jsonl, tokens: 16}}\n{LLAMA}length: {{steps: 1}}\n"
        "feeds: {whole: reference, each: previous, states: average, scores: model}\n"
    )
    Path("texts.jsonl").write_text("".join(json.dumps({"text": "no" * (1 + n % 3)}) + "\n" for n in range(12)))
    monitors = start(text, "one").journal.of("held_out")[0].monitors
    assert monitors["w"] == pytest.approx(monitors["l"], rel=1e-5)
    assert monitors["e"] == pytest.approx(monitors["l"], rel=1e-5)
    assert monitors["s"] > 0
    assert monitors["z"] == 0
    assert sorted(path.name for path in Path("one").glob("frozen*")) == ["frozen.safetensors"]


# Columns and row numbers


def test_columns_of_numbers_and_row_numbers() -> None:
    text = (
        "objective: |\n  use std.settings.classes\n  axis example\n  axis f\n  data id : label[b] in example\n"
        "  data extra : real[b, f]\n  minimize\n    fit : mean[b](nll)\n"
        "  monitor\n    a : mean[b](id)\n    e : mean[b, f](extra)\n"
        "data: {source: rows.jsonl, held_out: 0.25}\nfeeds: {id: number}\n"
    )
    ready = prepared(text, rows=[{"features": [n, 1], "labels": n % 2, "extra": [n, 2, 3]} for n in range(8)])
    assert [example.data["id"].item() for example in (*ready.train, *ready.held_out)] == list(range(8))
    assert ready.rows == 8
    assert ready.train[0].data["extra"].shape == (3,)


# What follows the run, and the network called again


def test_states_draws_and_multipliers_are_resumed_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "objective: |\n  use std.settings.classes\n  use std.ce (entropy)\n"
        "  axis example\n  data id : label[b] in example\n"
        "  state hard : real[example] = 0 then 0.5 * hard + 0.5 * mean[b by id](nll)\n"
        "  let weight = 1 + ramp(0 -> 1, over = 4) * hard[example = id]\n"
        "  minimize\n    fit : mean[b](sg(weight) * nll)\n    noise : mean[b, v](logits * normal(b, v))\n"
        "  subject to sure : mean[b](entropy(logits)) <= 0.9\n  monitor\n    harder : mean[b](weight)\n"
        "data: {source: sklearn:iris, held_out: 0.1}\nfeeds: {id: number}\n"
        "constraints: {sure: {formulation: augmented, penalty: 2}}\n"
        f"{MLP.replace('16', '64')}length: {{steps: 6}}\nevaluate: {{every: 3}}\nsave: {{every: 2}}\n"
    )
    whole = start(text, "whole")
    steps = [reading.monitors for reading in whole.journal.of("train")]
    assert steps[0]["harder"] == 1
    assert steps[-1]["harder"] > 1
    assert steps[-1]["sure.multiplier"] > steps[0]["sure.multiplier"] > 0
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert start(text, "broken").interrupted
    resumed = start(text, "broken", resume=True)
    assert lines("broken") == lines("whole")
    assert_equal_weights(whole, resumed)
    assert refused_run(text.replace("{sure: {", "{shure: {")) == ["E733"]


def test_the_network_is_called_again() -> None:
    text = (
        "objective: |\n  use std.settings.classes\n  use std.ce (ce)\n  use std.divergence (kl)\n  axis f\n"
        "  input net  : model(real[b, f]) -> logits[b, v]\n  input slow : model(real[b, f]) -> logits[b, v]\n"
        "  data features : real[b, f]\n"
        "  minimize\n    fit : mean[b](nll)\n    flat : mean[b, f](grad[features](ce(net(features), labels))^2)\n"
        "  monitor\n    equal : mean[b, v]((net(features) - logits)^2)\n    slow : mean[b](kl(slow(features), logits))\n"
        "data: sklearn:iris\nfeeds: {slow: {kind: average, decay: 0.5}}\n"
        "model: {kind: mlp, hidden: [8]}\nlength: {steps: 2}\nevaluate: {every: 1}\n"
    )
    readings = start(text, "one").journal.of("held_out")
    assert [reading.monitors["equal"] for reading in readings] == [0, 0, 0]
    assert [reading.monitors["slow"] > 0 for reading in readings] == [False, True, True]
    assert readings[0].terms["flat"] > 0


def test_weights_are_tied_to_where_they_began_by_their_importance() -> None:
    text = (
        "objective: |\n  use std.settings.classes\n  use std.regularise (ewc, l2)\n"
        "  input w : weights[layer] in \"*weight\"\n  data anchor : weights[layer] in \"*weight\"\n"
        "  data matters : weights[layer] in \"*weight\"\n  learn scale : positive[layer] = 1\n"
        "  minimize\n    fit : mean[b](nll)\n    tie : ewc(w, anchor, matters)\n"
        "    size : 0.01 * sum[layer](scale * sum[entry](w^2))\n"
        "  monitor\n    moved : l2(w - anchor)\n    whole : total(matters)\n"
        "data: {source: later.jsonl, held_out: 0.25}\nstart: {source: first.jsonl, minimize: ce, length: {steps: 2}}\n"
        "feeds: {matters: {kind: importance, source: first.jsonl, rows: 5}}\n"
        "model: {kind: linear}\nlength: {steps: 2}\nevaluate: {every: 2}\n"
    )
    rows = {name: [{"features": [n, shift], "labels": n % 2} for n in range(8)] for name, shift in (("first", 1), ("later", 2))}
    prepared(text, **rows)
    monitors = [reading.monitors for reading in start(text, "one").journal.of("held_out")]
    assert [values["moved"] > 0 for values in monitors] == [False, True]
    assert monitors[0]["whole"] == pytest.approx(fisher(rows["first"][:5]), rel=1e-4)
    assert refused_run(text.replace("matters: {", "labels: {")) == ["E815"]


def fisher(rows: list[dict[str, Any]]) -> float:
    """Of the weights that the run `one` began with: the mean over rows of the squared gradient of -log p(label)."""
    kept = load_file("one/first/start/model/model.safetensors")
    weight = kept["1.weight"].double().requires_grad_()
    total = 0.0
    for row in rows:
        features = (torch.tensor(row["features"]).double() - kept["0.mean"]) / kept["0.std"]
        loss = -(weight @ features + kept["1.bias"].double()).log_softmax(-1)[row["labels"]]
        total += float(torch.autograd.grad(loss, weight)[0].square().sum()) / len(rows)
    return total


# Streams


STREAMS = """\
objective: |
  use std.settings.forget_retain
  minimize
    forget : mean[forget.b](softplus(forget.logp - forget.ref_logp))
    retain : mean[retain.b, retain.t where retain.mask](retain.nll)
"""


def test_streams_of_their_own_data() -> None:
    text = STREAMS + (
        "data: {source: keep.jsonl, tokens: 16, held_out: 0.25}\n"
        f"feeds: {{forget: {{kind: rows, source: lose.jsonl, columns: {{text: secret}}}}}}\n{LLAMA}length: {{steps: 2}}\n"
    )
    ready = prepared(text, keep=[{"text": f"{n} keep"} for n in range(12)], lose=[{"secret": f"{n}"} for n in range(4)])
    assert (len(ready.train), len(ready.held_out)) == (9, 3)
    lost = [example.data["forget.labels"].tolist() for example in ready.train]
    assert lost[:3] == lost[3:6] == lost[6:]
    assert len({tuple(row) for row in lost}) == 3
    outcome = start(text, "one")
    assert outcome.journal.of("held_out")[0].terms["forget"] == pytest.approx(0.6931472, abs=1e-5)


def test_two_streams_of_one_table_and_of_any_setting() -> None:
    rows = [{"forget": "a" * (1 + n % 2), "retain": "b"} for n in range(8)]
    shared = STREAMS + "data: {source: both.jsonl, tokens: 16}\n"
    assert len(prepared(shared, both=rows).train) == 6
    assert refused(shared, both=[{"forget": "a", "retian": "b"}] * 8) == [
        "E821 `both.jsonl` has no column `retain`, which is needed for the text to learn"
    ]
    domains = (
        "objective: |\n  axis v\n  use std.settings.classes as source sharing (v)\n"
        "  use std.settings.classes as target sharing (v)\n"
        "  minimize\n    fit : mean[source.b](source.nll)\n    sure : mean[target.b](1 - target.p_true)\n"
        f"data: {{source: a.jsonl, held_out: 0.2}}\nfeeds: {{target: {{kind: rows, source: b.jsonl}}}}\n"
        f"{MLP}length: {{steps: 1}}\n"
    )
    a, b = ([{"features": [n, 1], "labels": n % 3} for n in range(size)] for size in (10, 5))
    ready = prepared(domains, a=a, b=b)
    batch = collate(ready.train)
    assert batch["network"]["source.features"].shape == batch["network"]["target.features"].shape == (8, 2)
    assert start(domains, "one").steps == 1


# Views


def test_views_are_new_at_each_step_and_fixed_for_held_out_rows() -> None:
    text = (
        "objective: {setting: embeddings, minimize: info_nce}\ndata: {source: sklearn:digits, limit: 60, held_out: 0.1}\n"
        "feeds:\n  x: {kind: view, noise: 0.1, drop: 0.2}\n  y: {kind: view, shift: 1, image: [8, 8]}\n"
        "model: {kind: mlp, outputs: 4}\nbatch: 8\nlength: {steps: 2}\nevaluate: {every: 2}\n"
    )
    ready = prepared(text)
    assert torch.equal(ready.train[0].network["x"], ready.train[0].network["y"])
    batch = collate(ready.train[:8])
    draws = [ready.fresh(batch, nn.Identity(), step, 0)[0]["network"]["x"] for step in (0, 1, 0)]
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
    assert start(text, "one").steps == 2
    assert refused(text.replace("image: [8, 8]", "noise: 0"))[0].startswith("E812")


def test_views_do_what_they_say() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(12.0, dtype=torch.float64).reshape(1, 12).repeat(400, 1)
    statistics = torch.full((12,), -1.0).double(), torch.full((12,), 2.0).double()
    dropped = augmented(rows, View(kind="view", drop=0.25), statistics, generator)
    assert ((dropped == -1).double().mean() - 0.25).abs() < 0.03
    noisy = augmented(rows, View(kind="view", noise=0.5), statistics, generator) - rows
    assert (noisy.std() - 1).abs() < 0.05
    moved = augmented(rows, View(kind="view", shift=1, image=(3, 4)), statistics, generator).reshape(-1, 3, 4)
    image = nn.functional.pad(rows[0].reshape(3, 4), (1, 1, 1, 1))
    possible = {tuple(image[y : y + 3, x : x + 4].flatten().tolist()) for y in range(3) for x in range(3)}
    assert {tuple(each.flatten().tolist()) for each in moved} == possible


# What is refused


@pytest.mark.parametrize(
    ("feeds", "expected"),
    [
        ("{teacher: average, slow: average}", "E815 `feeds` names `slow`, which this objective does not read"),
        ("{teacher: {kind: rows, source: a.jsonl}}", "E815 `rows` cannot feed `teacher`"),
        ("{teacher: {kind: samples}}", "E815 `samples` cannot feed `teacher`"),
        ("{teacher: {kind: averge}}", "E812"),
        ("{teacher: {decay: 0.9}}", "E813 `kind` is missing"),
        ("{teacher: {kind: average, decy: 0.9}}", "E811 `decy` is not a key of `feeds.teacher`"),
        ("{teacher: {kind: average, decay: 1}}", "E812"),
        ("{teacher: {kind: teacher}}", "E812 `feeds.teacher` is incomplete: give `path` or `model`"),
        ("{labels: average, teacher: average}", "E814"),
        ("{}", "E843 this objective needs a teacher"),
    ],
)
def test_a_feed_that_cannot_be_is_refused(feeds: str, expected: str) -> None:
    text = (
        "objective: {setting: distill, minimize: distill + nll}\ndata: {source: texts.jsonl, tokens: 16}\n"
        f"feeds: {feeds}\n"
    )
    found = refused(text, texts=[{"text": "a few words"}] * 8)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_the_summary_of_a_run_that_was_interrupted_before_it_began() -> None:
    from lossc.runtime.training.folder import RunFolder
    from lossc.runtime.training.journal import Journal
    from lossc.runtime.training.session import Outcome
    from lossc.runtime.training.summary import print_summary

    console = Console(file=io.StringIO())
    print_summary(console, Outcome(RunFolder(Path("one")), 0, 2, Journal(Path("one/metrics.jsonl")), interrupted=True))
