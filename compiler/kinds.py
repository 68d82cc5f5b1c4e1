"""Kinds: what the numbers of a value mean, and what a check may reject for certain."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lossc.compiler import intervals as iv
from lossc.compiler.intervals import Interval

NUMBERS: dict[str, Interval] = {
    "real": iv.REAL,
    "positive": iv.POSITIVE,
    "nonneg": iv.NONNEG,
    "unit": iv.UNIT,
    "sign": Interval(-1, 1, integer=True),
    "int": iv.INTEGER,
}
"""Kinds of plain numbers, with their domains."""

DISTRIBUTIONS = ("logits", "logprob", "prob", "embedding")
"""Kinds whose last axis is part of their meaning: logits, log-probabilities or probabilities over it, a vector along it."""

KIND_NAMES = (*NUMBERS, *DISTRIBUTIONS, "label", "mask", "weights", "model", "choice")


@dataclass(frozen=True)
class Signature:
    """The arguments and the result of a model: kinds, each with its axes in the order of the dimensions."""

    parameters: tuple[tuple[Kind, tuple[str, ...]], ...]
    result: tuple[Kind, tuple[str, ...]]


@dataclass(frozen=True)
class Kind:
    """What numbers mean. `axis` is the axis that a distribution is over, `codomain` the axis that a label points into."""

    name: str
    axis: str | None = None
    codomain: str | None = None
    bounds: Interval = iv.REAL
    choices: tuple[str, ...] = ()
    signature: Signature | None = None
    leaves: str | None = None
    """For `weights`: the axis that numbers the tensors of the group, if it is named."""

    def renamed(self, old: str, new: str) -> Kind:
        """The kind of the value with one of its axes renamed. A label still points into the same axis."""
        return replace(self, axis=new) if self.axis == old else self

    def __str__(self) -> str:
        return f"label in {self.codomain}" if self.name == "label" and self.codomain else self.name


REAL = Kind("real")
MASK = Kind("mask", bounds=iv.MASK)
