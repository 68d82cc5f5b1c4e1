"""Printed tables and plans. `LOSSC_UPDATE_GOLDEN=1 pytest …` writes them anew; read the difference before committing it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.compiler.class_objectives import OBJECTIVES

from lossc.compiler.check import check_source
from lossc.compiler.plan import Plan, plan
from lossc.compiler.simplify import simplify
from lossc.compiler.table import render, statistic_table, to_record
from lossc.grammar.source import Source

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = Path(__file__).parents[2] / "specs" / "examples"
UPDATE = os.environ.get("LOSSC_UPDATE_GOLDEN") == "1"
SIZES = {"b": 8, "t": 1024, "v": 128256, "pair": 4, "d": 256}
SHOWN = (
    "cross-entropy", "four terms", "focal", "KL", "Jensen-Shannon", "total variation", "Renyi of learned order", "distillation",
    "focal with soft targets", "multi-label and cross-entropy", "vocabulary mask and bias", "class weights",
    "any of several labels", "a set of right classes", "largest margin", "sum of margins", "Brier", "self-distillation",
)  # fmt: skip
PLANS = ("dpo_sft.loss", "distillation.loss", "focal_smoothing.yaml", "info_nce.loss", "quantiles.yaml")


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert path.is_file(), f"{path} is missing: write it with LOSSC_UPDATE_GOLDEN=1"
    assert text + "\n" == path.read_text(encoding="utf-8")


def slug(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_").replace("-", "_")


@pytest.mark.parametrize("name", SHOWN)
def test_table(name: str) -> None:
    assert_golden(f"table_{slug(name)}", render(statistic_table({"loss": OBJECTIVES[name].root}, "v")))


def plan_of(name: str) -> Plan:
    path = EXAMPLES / name
    program = check_source(Source(str(path), path.read_text(encoding="utf-8"))).program
    assert program is not None
    return plan(simplify(program).program, {axis: size for axis, size in SIZES.items() if axis in program.axes})


@pytest.mark.parametrize("name", PLANS)
def test_plan(name: str) -> None:
    assert_golden(f"plan_{name.partition('.')[0]}", plan_of(name).render())


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_json(name: str) -> None:
    record = json.loads(json.dumps(plan_of(name).to_record()))
    assert set(record) == {"objective", "sizes", "axes", "rows_only", "widest", "whole", "pairs", "largest"}


def test_a_table_is_json() -> None:
    record = json.loads(json.dumps(to_record(statistic_table({"loss": OBJECTIVES["focal"].root}, "v"))))
    assert record["levels"] == 1
    assert [entry["op"] for entry in record["statistics"]] == ["shift", "select", "sum"]


def test_no_golden_file_is_left_over() -> None:
    known = {f"table_{slug(name)}" for name in SHOWN} | {f"plan_{name.partition('.')[0]}" for name in PLANS}
    assert {path.stem for path in GOLDEN.glob("*.txt")} == known
