"""Calls of a form that was seen before: what is looked at again, and what an earlier call must not leave behind."""

from __future__ import annotations

import warnings

import pytest
import torch
from tests.runtime import fused_cases as cases
from torch import Tensor

import lossc
from lossc import LosscError, LosscWarning

BACKENDS = ("reference", "torch", "c", "auto")


def batch() -> dict[str, Tensor]:
    drawn = cases.batch(dtype=torch.float32)
    return {name: drawn[name] for name in ("logits", "labels", "mask")}


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_are_checked_every_time(backend: str) -> None:
    objective = lossc.loads("nll", setting="tokens", backend=backend)
    given = batch()
    first = objective(**given).loss
    for _ in range(2):
        with pytest.raises(LosscError, match="holds 7 at"):
            objective(**{**given, "labels": torch.full_like(given["labels"], 7)})
    assert torch.equal(objective(**given).loss, first)
    with pytest.raises(LosscError, match="has 2 along"):
        objective(**{**given, "mask": given["mask"][:, :2]})


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_first_call_in_inference_mode_leaves_nothing_behind(backend: str) -> None:
    objective = lossc.loads("nll", setting="tokens", backend=backend)
    given = batch()
    with torch.inference_mode():
        value = objective(**given).loss
    given["logits"].requires_grad_()
    for _ in range(2):
        loss = objective(**given).loss
        loss.backward()
        torch.testing.assert_close(loss.detach(), value.clone())
    assert given["logits"].grad is not None


def test_data_is_detached_every_time_and_reported_once() -> None:
    objective = lossc.loads("kl(teacher, logits)", setting="distill", backend="c")
    drawn = {**cases.batch(dtype=torch.float32)}
    given = {name: drawn[name] for name in objective.variant().required}
    given["teacher"] = given["teacher"].requires_grad_()
    given["logits"].requires_grad_()
    role = objective.program.tensors["teacher"].role
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            objective(**given).loss.backward()
    reported = [each for each in seen if issubclass(each.category, LosscWarning)]
    assert len(reported) == (1 if role == "data" else 0)
    assert (given["teacher"].grad is None) == (role == "data")


def test_types_of_one_form_do_not_serve_another() -> None:
    objective = lossc.loads("nll", setting="tokens", backend="c")
    given = batch()
    single = objective(**given).loss
    double = objective(**{**given, "logits": given["logits"].double()}).loss
    short = objective(**{**given, "labels": given["labels"].to(torch.int32)}).loss
    assert (single.dtype, double.dtype, short.dtype) == (torch.float32, torch.float64, torch.float32)
    torch.testing.assert_close(short, single)


def test_a_result_keeps_its_numbers_when_the_next_call_is_made() -> None:
    objective = cases.objective("four terms", "c")
    drawn = cases.batch()
    given = {name: x for name, x in drawn.items() if name in objective.program.tensors}
    first = objective(**given)
    kept = {**{n: x.clone() for n, x in first.terms.items()}, **{n: x.clone() for n, x in first.counts.items()}}
    objective(**{**given, "logits": given["logits"] * 3, "mask": ~given["mask"]})
    assert all(torch.equal(kept[name], {**first.terms, **first.counts}[name]) for name in kept)


def test_what_a_learned_parameter_moves_beside_what_is_counted() -> None:
    """Denominators come from a program on rows, the pull of a parameter from torch, which autograd goes through."""
    text = cases.HEAD + "\nminimize\n  nll : mean[b, t where mask](ce(logits * heat, labels))\n  pull : 0.3 * heat^2 + gain\n"
    found = []
    for backend in ("reference", "c"):
        objective = lossc.loads(text, backend=backend)
        given = {name: x for name, x in cases.batch().items() if name in objective.program.tensors}
        given["logits"].requires_grad_()
        loss = objective(**given).loss
        loss.backward()
        found.append([loss.detach(), given["logits"].grad, *(p.grad for p in objective.learn.values())])
    torch.testing.assert_close(found[0], found[1])
