"""The shape of an objective: terms and their slopes along one entry, against formulas."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import lossc
from lossc.runtime.cli.boundary import run
from lossc.runtime.plot import Curve, curves, neutral_inputs

HEAD = "objective shape\naxis b : batch\naxis v\n"
PREFERENCE = """objective shape
use std.settings.pairs
use std.preference (dpo)
param beta : positive = 0.1
minimize
  pref : mean[pair](dpo(margin, beta = beta))
  tie  : 0.2 * sft
"""


def _shape(text: str, along: str | None = None, **options: object) -> tuple[str, dict[str, Curve]]:
    name, found = curves(lossc.loads(text, backend="reference"), along, points=9, **options)  # type: ignore[arg-type]
    return name, {curve.term: curve for curve in found}


def test_a_named_quantity_is_the_axis_of_what_reads_it() -> None:
    name, found = _shape(PREFERENCE, "margin", sweep=("beta", [0.1, 2.0]))
    assert name == "margin"
    assert [line.label for line in found["pref"].lines] == ["beta = 0.1", "beta = 2"]
    for beta, line in zip((0.1, 2.0), found["pref"].lines, strict=True):
        expected = [math.log1p(math.exp(-beta * place)) for place in found["pref"].places]
        assert line.values == pytest.approx(expected)
        assert line.slopes == pytest.approx([-beta / (1 + math.exp(beta * place)) for place in found["pref"].places])
    assert not found["tie"].moves


def test_scores_have_the_label_first() -> None:
    name, found = _shape(PREFERENCE)
    assert name == "logits[chosen, 0, 0]"
    line = found["tie"].lines[0]
    assert line.values == pytest.approx([0.2 * math.log1p(math.exp(-place)) for place in found["tie"].places])
    assert line.slopes == pytest.approx([-0.2 / (1 + math.exp(place)) for place in found["tie"].places])


def test_the_entries_of_a_distribution_share_what_is_left() -> None:
    text = HEAD + "input p : prob[b, v]\nminimize\n  h : mean[b](sum[v](xlogy(p, p)))\n"
    name, found = _shape(text, sizes={"v": 4})
    assert name == "p[0]"
    line = found["h"].lines[0]
    expected = [p * math.log(p) + (1 - p) * math.log((1 - p) / 3) for p in found["h"].places]
    assert line.values == pytest.approx(expected)
    assert line.slopes == pytest.approx([math.log(3 * p / (1 - p)) for p in found["h"].places])


def test_log_probabilities_stay_normalised() -> None:
    text = HEAD + "input a : logprob[b, v]\ndata y : label[b] in v\nminimize\n  one : mean[b](sum[v](exp(a)) - a[v = y])\n"
    curve = _shape(text, sizes={"v": 3})[1]["one"]
    line = curve.lines[0]
    assert line.values == pytest.approx([1.0 - place for place in curve.places])
    assert line.slopes == pytest.approx([-1.0] * 9)


def test_other_tensors_take_a_number() -> None:
    text = HEAD + "input x : real[b]\ndata w : real[b]\nminimize\n  s : mean[b](w * x ^ 2)\n"
    for value in (-2.0, 3.0):
        curve = _shape(text, fixed={"w": value}, between=(-1.0, 1.0))[1]["s"]
        assert curve.places[0] == -1.0
        assert curve.lines[0].values == pytest.approx([value * place**2 for place in curve.places])


def test_neutral_tensors_say_nothing() -> None:
    objective = lossc.loads(PREFERENCE, backend="reference")
    tensors = neutral_inputs(objective, {"v": 5})
    assert tensors["mask"].all()
    assert not tensors["labels"].any()
    assert tensors["logits"].shape == (1, 2, 1, 5)
    assert not tensors["logits"].any()


@pytest.mark.parametrize("given", [{"along": "margn"}, {"along": "mask"}, {"fixed": {"lgits": 1.0}}])
def test_what_there_is_not_is_named(given: dict[str, object]) -> None:
    with pytest.raises(lossc.LosscError, match="E805"):
        _shape(PREFERENCE, **given)  # type: ignore[arg-type]


def test_the_command_draws_and_says_what_does_not_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shape.loss").write_text(PREFERENCE, encoding="utf-8")
    assert run(["plot", "shape.loss", "--along", "margin", "--sweep", "beta=0.1,1"]) == 0
    assert Path("shape.png").read_bytes().startswith(b"\x89PNG")
    assert "left out  tie" in capsys.readouterr().out
    for wrong in (["--along", "length"], ["--sweep", "beta"], ["--sweep", "bta=1"], ["--at", "ref_logp=x"], ["--sizes", "q=2"]):
        assert run(["plot", "shape.loss", "--output", "none.png", *wrong]) in (1, 2)
        assert "error[E" in capsys.readouterr().err
    assert not Path("none.png").exists()
