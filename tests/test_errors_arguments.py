"""Whatever the functions of the package are given, they answer, or refuse with a code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import lossc
from lossc.grammar.diagnostics import LosscError

RICH = """use std.settings.classes
param w : positive = 1
param each : positive[v] = 1
learn s : real = 0
state c : real = 0 then 0.9 * c + 0.1 * mean[b](nll)
minimize
  f : w * mean[b](nll * each[v = labels]) + s + c + 0 * progress
subject to sure : mean[b](p_true) >= 0.5
"""
Z, Y = torch.linspace(-1, 1, 20).reshape(4, 5), torch.tensor([0, 1, 2, 3])

VALUES: dict[str, Any] = {
    "nothing": None, "a whole number": 3, "a negative one": -1, "a number": 1.5, "nan": float("nan"), "inf": float("inf"),
    "a fraction": Fraction(1, 3), "a huge number": 10**5000, "a complex one": 1j, "true": True, "a text": "x", "no text": "",
    "a surrogate": "\ud800", "a zero byte": "a\0b", "bytes": b"x", "a list": [1], "a mapping": {"a": 1}, "a tuple": (1, 2),
    "an object": object(), "a class": int, "a function": len, "a module": torch.nn.Linear(2, 2), "a tensor": torch.zeros(2),
    "a scalar": torch.tensor(1), "complex numbers": torch.zeros(2, 2, dtype=torch.complex64),
    "of no device": torch.empty(2, 3, device="meta"), "sparse": torch.eye(3).to_sparse(),
    "a parameter": torch.nn.Parameter(torch.zeros(4, 5)), "an array": np.zeros((4, 5)),
    "laid out otherwise": torch.zeros(4, 5).to_mkldnn(),
    "by number": {1: torch.zeros(2)},
    "of 8 bits": torch.zeros(4, 5).to(torch.float8_e4m3fn), "a device that is not here": "xla:3",
}  # fmt: skip


@cache
def kept() -> lossc.Objective:
    return lossc.loads(RICH, total_steps=5)


def called(**changes: object) -> lossc.Result:
    return kept()(**{"logits": Z, "labels": Y, **changes})


def constrained(**changes: Any) -> None:
    objective = lossc.loads(RICH, constraints={"sure": lossc.Constraint(**changes)}, total_steps=3)
    objective(logits=Z, labels=Y).loss.backward()
    objective.advance()


def headed(**changes: Any) -> None:
    head = lossc.Linear(**{"hidden": torch.zeros(4, 3), "weight": torch.zeros(5, 3), **changes})
    for backend in ("auto", "c"):
        plain(backend)(logits=head, labels=Y)


@cache
def plain(backend: str = "auto") -> lossc.Objective:
    return lossc.loads("nll", setting="classes", backend=backend)


@cache
def contrastive() -> lossc.Objective:
    return lossc.loads("info_nce(s)", setting="embeddings")


def paired(**changes: Any) -> None:
    contrastive()(s=lossc.Pairs(**{"x": Z, "y": Z, **changes}))


@cache
def shares() -> lossc.Denominators:
    return kept().denominators(logits=Z, labels=Y)


@cache
def weighed() -> lossc.Objective:
    return lossc.loads('use std.settings.classes\ninput w : weights in "*"\nminimize\n  f : mean[b](nll) + total(w^2)\n')


def loaded(**changes: Any) -> None:
    objective = lossc.loads(RICH, **{"total_steps": 5, **changes})
    objective(logits=Z, labels=Y).loss.backward()
    objective.advance()
    objective.state_dict()


def shared(values: Any, calls: Any = 1) -> None:
    called(denominators=lossc.Denominators(values, calls))


ENTRIES: dict[str, Callable[[Any], object]] = {
    "load": lossc.load,
    "loads": lossc.loads,
    "setting": lambda x: lossc.loads("nll", setting=x) if x is not None else None,
    "Objective": lossc.Objective,
    "axes": lambda x: called(logits=lossc.axes(x, "b v")),
    "layout": lambda x: called(logits=lossc.axes(Z, x)),
    "example_inputs": lossc.example_inputs,
    "batch": lambda x: kept()(x),
    "denominators": lambda x: kept().denominators(x),
    "advance": lambda x: kept().advance(x),
    "variant": lambda x: kept().variant(x),
    "set_extra_state": lambda x: kept().set_extra_state(x),
    "Denominators": shared,
    "Denominators of a term": lambda x: shared({"f": x}),
    "Denominators of a part": lambda x: shared({"f": (x,)}),
    "calls": lambda x: shared({"f": (None,)}, x),
    **{f"example_inputs {name}": lambda x, name=name: lossc.example_inputs(plain(), **{name: x})
       for name in ("sizes", "seed", "dtype")},
    **{f"load {name}": lambda x, name=name: loaded(**{name: x})
       for name in ("backend", "sizes", "check_labels", "total_steps", "seed", "constraints", "formulation", "multiplier_lr",
                    "allow", "w", "each", "unknown")},
    **{f"Constraint {name}": lambda x, name=name: constrained(**{name: x})
       for name in ("formulation", "multiplier_lr", "initial", "penalty", "growth", "tolerance")},
    **{f"call {name}": lambda x, name=name: called(**{name: x})
       for name in ("logits", "labels", "denominators", "per_term", "values", "draws", "nll", "unknown")},
    **{f"set {name}": lambda x, name=name: kept().set(**{name: x})
       for name in ("w", "each", "s", "c", "unknown")},
    **{f"Linear {name}": lambda x, name=name: headed(**{name: x})
       for name in ("hidden", "weight", "bias", "scale", "softcap", "group")},
    "added": lambda x: shares() + x,
    "added to": lambda x: x + shares(),
    "denominators to": lambda x: shares().to(x),
    "to": lambda x: plain().to(x),
    "train": lambda x: plain().train(x),
    "load_state_dict": lambda x: kept().load_state_dict(x),
    "an entry of a state_dict": lambda x: kept().load_state_dict({**kept().state_dict(), "learn.s": x}),
    "strict": lambda x: kept().load_state_dict(kept().state_dict(), strict=x),
    "a state": lambda x: kept().state[x],
    "weights": lambda x: weighed()(logits=Z, labels=Y, w=x),
    **{f"assigned {name}": lambda x, name=name: setattr(plain(), name, x)
       for name in ("total_steps", "step", "seed", "settings", "program", "state", "learn")},
    **{f"Pairs {name}": lambda x, name=name: paired(**{name: x}) for name in ("x", "y", "cosine", "scale")},
}  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.filterwarnings("ignore")
def test_no_argument_is_answered_with_an_exception_of_another_kind(entry: str) -> None:
    values = list(VALUES.values())
    for value in values[:: 3 if entry.startswith(("load ", "Constraint")) else 1]:
        with contextlib.suppress(LosscError):
            ENTRIES[entry](value)


@pytest.mark.parametrize(("code", "x", "y"), [("E704", (6, 3), (4, 3)), ("E722", (2, 3), (2, 4))])
def test_pairs_that_are_none(code: str, x: tuple[int, int], y: tuple[int, int]) -> None:
    with pytest.raises(LosscError, match=code):
        paired(x=torch.zeros(x), y=torch.zeros(y))


DIAGONAL = "axis b : batch\naxis j\ninput s : real[b, j]\nminimize\n  f : mean[b](logsumexp[j](s) - s[j = index[b]])\n"


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_more_rows_than_columns_of_a_diagonal(backend: str) -> None:
    objective = lossc.loads(DIAGONAL, backend=backend)
    assert objective(s=lossc.Pairs(torch.ones(4, 3), torch.ones(6, 3))).loss.isfinite()
    with pytest.raises(LosscError, match="6 rows, and 4 columns"):
        objective(s=lossc.Pairs(torch.ones(6, 3), torch.ones(4, 3)))


TWICE = "axis b : batch\naxis t\ninput x : real[b, t]\ninput y : real[r]\nminimize\n  f : {}\n"


@pytest.mark.parametrize(
    "twice",
    [
        "sum[b, r](sort[t -> r](x)) + sum[r](y)", "sum[r](sum[t](x)[b -> r] * y)", "sum[r](topk[t -> r](x[b = 0], 2) * y)",
        "sum[b, t, k](x[t -> k] * x[b -> k])", "sum[k](svdvals[b, t -> k](x) * x[t = 0][b -> k])",
        "sum[b, k](sort[t -> k](x) - x[t -> k = 0..2])",
    ],
)  # fmt: skip
def test_an_axis_that_is_made_has_one_extent(twice: str) -> None:
    with pytest.raises(LosscError, match="E704"):
        lossc.loads(TWICE.format(twice))(**({"y": torch.ones(5)} if "y" in twice else {}), x=torch.ones(4, 3))


@pytest.mark.parametrize("read", ["s[j = 7]", "sum[k](s[j -> k = 2..9])", "log_softmax[j](s)[j = 4]"])
@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_positions_beyond_the_end(read: str, backend: str) -> None:
    with pytest.raises(LosscError, match="E712"):
        lossc.loads(DIAGONAL.replace("s[j = index[b]]", read), backend=backend)(s=torch.ones(3, 4))


def test_advance_takes_nothing() -> None:
    with pytest.raises(LosscError, match="E726"):
        kept().advance(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["hidden", "weight", "bias"])
@pytest.mark.parametrize("made", ["sparse", "meta", "nested"])
@pytest.mark.filterwarnings("ignore")
def test_parts_of_a_head_that_cannot_be_multiplied(part: str, made: str) -> None:
    shape = {"hidden": (4, 3), "weight": (5, 3), "bias": (5,)}[part]
    x = torch.ones(shape)
    wrong = {"sparse": x.to_sparse(), "meta": x.to("meta"), "nested": torch.nested.nested_tensor([x])}[made]
    with pytest.raises(LosscError, match="E722"):
        headed(**{part: wrong})
