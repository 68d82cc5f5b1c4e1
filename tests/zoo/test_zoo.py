"""Every work of the zoo equals its closed form, trains, and fuses where its family does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.zoo.harness import (
    FUSED_FAMILIES,
    assert_same,
    losses_of_descent,
    oracles,
    run_closed_form,
    run_spec,
    shared,
)

import lossc
from lossc.compiler.check import check_source
from lossc.compiler.plan import plan
from lossc.compiler.settle import choices, settle
from lossc.compiler.simplify import simplify
from lossc.compiler.zoo import checked, located, zoo_entries, zoo_entry, zoo_files
from lossc.grammar import parse
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.printer import print_text
from lossc.grammar.source import Source
from lossc.grammar.yaml_printer import print_yaml

PROBES = (
    1, 8, 10, 12, 18, 26, 27, 28, 35, 44, 45, 46, 52, 53, 60, 67, 70, 71, 84, 94, 122, 162, 173, 181, 189, 201, 217, 219,
    256, 262, 275, 287, 289, 290, 296, 298, 300, 301, 317, 321, 325, 336, 337, 339, 350, 359, 361, 364,
)  # fmt: skip
"""Works of the catalogue that between them need every capability of the language."""

CASES = [
    pytest.param(reference, variant, params, id=f"{reference[4:]}-{variant}-{number}")
    for reference, one in oracles().items()
    for variant in one.variants
    for number, params in enumerate(one.params)
]  # fmt: skip
WARNED = {
    "zoo/rlhf_policy/epo": ["W303"],
    "zoo/survival/cox_efron": ["W201"],
    "zoo/survival/deephit": ["W201"],
}
"""Works of which a part moves nothing or has no bound, as published."""
FUSED = [reference for reference, one in oracles().items() if one.family in FUSED_FAMILIES and one.fuses]


def named(references: list[str]) -> list[Any]:
    return [pytest.param(reference, id=reference[4:]) for reference in references]


@pytest.mark.parametrize(("reference", "variant", "params"), CASES)
def test_equals_the_closed_form(reference: str, variant: str, params: Mapping[str, Any]) -> None:
    one = oracles()[reference]
    objective = shared(one, params)
    tensors = one.batch(3, variant)
    one.prepare(objective, tensors)
    expected = run_closed_form(one, objective, tensors, params)
    assert_same(run_spec(objective, tensors), expected, one.tolerance)


@pytest.mark.parametrize("reference", named(list(oracles())))
def test_it_trains(reference: str) -> None:
    one = oracles()[reference]
    losses = losses_of_descent(one, one.params[0])
    assert losses[-1] < losses[0] - 1e-4 * abs(losses[0])


@pytest.mark.parametrize("reference", named(FUSED))
def test_fuses(reference: str) -> None:
    """The vocabulary is read through a statistic table that leaves nothing of its size, on every fused backend alike."""
    one = oracles()[reference]
    params = one.params[0]
    program = shared(one, params).program
    made = {name: info.kind.choices.index(params[name]) for name, info in choices(program).items() if name in params}
    planned = plan(simplify(settle(program, made)).program)
    assert planned.axes
    assert one.stays in planned.largest.reason if one.stays and planned.largest else planned.largest is None
    for variant in one.variants:
        assert_backends_agree(reference, variant)


@pytest.mark.parametrize("reference", named([reference for reference in oracles() if reference not in FUSED]))
def test_every_backend_agrees(reference: str) -> None:
    assert_backends_agree(reference, oracles()[reference].variants[-1])


def assert_backends_agree(reference: str, variant: str) -> None:
    """Value and gradients of the fused backends, and of what `auto` chooses, are those of the reference."""
    one = oracles()[reference]
    tensors = one.batch(5, variant)
    found = {}
    for backend in ("reference", "torch", "c", *(("auto",) if variant == "plain" else ())):
        objective = shared(one, one.params[0], backend)
        one.prepare(objective, tensors)
        found[backend] = run_spec(objective, tensors)
    expected = found.pop("reference")
    for evaluation in found.values():
        assert_same(evaluation, expected, max(one.tolerance, 1e-9))


@pytest.mark.parametrize("reference", named(list(zoo_files())))
def test_the_file_is_in_order(reference: str) -> None:
    """It checks without an unexpected warning, is formatted, is the same in YAML, and says what it is."""
    path = zoo_files()[reference]
    source = Source(str(path), path.read_text(encoding="utf-8"))
    found = check_source(source)
    assert [problem.code for problem in found.problems.found] == WARNED.get(reference, [])
    assert found.program is not None
    assert print_text(found.file) == source.text
    assert parse(Source("round.yaml", print_yaml(found.file)), Diagnostics()) == found.file
    entry = zoo_entry(reference)
    assert entry.title and entry.cite and entry.about
    assert entry.certainty in ("checked", "recalled", "reconstruction")
    assert entry.id.isdecimal() or not entry.id
    assert found.program.name == entry.name


def test_every_work_has_an_oracle() -> None:
    assert set(zoo_files()) == set(oracles())


def test_no_work_is_there_twice() -> None:
    """By its number, if it is of the catalogue, and by its title."""
    entries = zoo_entries()
    numbers = [entry.id for entry in entries if entry.id]
    assert len(numbers) == len(set(numbers))
    assert len(entries) == len({entry.title for entry in entries})


def test_every_probe_is_there() -> None:
    assert not set(PROBES) - {int(entry.id) for entry in zoo_entries() if entry.id}


@pytest.mark.parametrize("reference", named(list(zoo_files())))
def test_every_form_is_compiled(reference: str) -> None:
    program = checked(zoo_files()[reference]).program
    assert program is not None
    assert not program.uncompiled


def test_a_run_file_may_name_a_work(tmp_path: Path) -> None:
    assert located("zoo/preference/dpo_shift", tmp_path) == zoo_files()["zoo/preference/dpo_shift"]
    own = tmp_path / "zoo" / "preference" / "dpo_shift"
    own.parent.mkdir(parents=True)
    own.touch()
    assert located("zoo/preference/dpo_shift", tmp_path) == own


@pytest.mark.parametrize("reference", named(list(zoo_files())))
def test_the_plan_says_why(reference: str) -> None:
    """Whatever of vocabulary size remains is named with its reason."""
    program = checked(zoo_files()[reference]).program
    assert program is not None
    planned = plan(simplify(settle(program)).program)
    remaining = [entry for axis in planned.axes for entry in axis.intermediates]
    assert all(entry.reason for entry in remaining)
    assert "largest vocabulary-sized intermediate" in planned.render()


def test_a_work_that_is_not_there() -> None:
    with pytest.raises(lossc.LosscError, match=r"(?s)E801.*did you mean `zoo/preference/dpo_shift`"):
        lossc.load("zoo/preferences/dpo_shift")


def test_what_a_work_needs_is_listed() -> None:
    feasible, epo = zoo_entry("zoo/constrained/feasible_learning"), zoo_entry("zoo/rlhf_policy/epo")
    assert (feasible.inputs, feasible.models, feasible.sizes) == (("logits", "labels", "id"), (), ("example",))
    assert zoo_entry("zoo/physics/singular_pinn").models == ("net",)
    assert (epo.sizes, epo.total_steps, feasible.total_steps) == (("turn",), True, False)
