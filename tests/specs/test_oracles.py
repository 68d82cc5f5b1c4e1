"""The closed forms equal the frozen values of torch, optax and TRL, and those libraries where they are installed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.oracles.freeze import PATH, checksum, compute
from tests.oracles.third_party import LIBRARIES
from tests.specs.cases import CASES
from tests.specs.compare import Evaluation, evaluate

FROZEN: list[dict[str, Any]] = json.loads(PATH.read_text())["records"]
SINGLE_PRECISION = {("trl", "orpo()")}
"""TRL casts the log-probabilities of ORPO to fp32."""


def assert_as_frozen(found: Evaluation, frozen: dict[str, Any]) -> None:
    tolerance = 1e-5 if (frozen["library"], frozen["case"]) in SINGLE_PRECISION else 1e-9
    assert found.value == pytest.approx(frozen["value"], rel=tolerance, abs=tolerance)
    assert found.gradients.keys() == frozen["gradients"].keys()
    for name, expected in frozen["gradients"].items():
        if expected is not None:
            assert checksum(found.gradients[name]) == pytest.approx(expected, rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda record: f"{record['library']}: {record['case']}")
def test_closed_form_equals_frozen(frozen: dict[str, Any]) -> None:
    case = CASES[frozen["case"]]
    inputs = frozenset(frozen["gradients"])
    assert_as_frozen(evaluate(case.oracle, case.batch(), inputs), frozen)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.filterwarnings("ignore")
def test_installed_library_equals_frozen(library: str) -> None:
    pytest.importorskip(library)
    found = {record["case"]: record for record in compute([library])}
    for frozen in (record for record in FROZEN if record["library"] == library):
        again = found.pop(frozen["case"])
        assert again["value"] == pytest.approx(frozen["value"], rel=1e-9, abs=1e-12)
        for name, expected in frozen["gradients"].items():
            close = again["gradients"][name] == (expected and pytest.approx(expected, rel=1e-9, abs=1e-12))
            assert close, (frozen["case"], name)
    assert not found, "run python -m tests.oracles.freeze"
