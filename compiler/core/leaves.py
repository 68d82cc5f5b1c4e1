"""The leaves of the graph: tensors, constants, parameters, positions, extents and draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast

from lossc.compiler import intervals as iv
from lossc.compiler.core.node import Axes, Node
from lossc.compiler.intervals import Interval


@dataclass(frozen=True, eq=False)
class Input(Node):
    """A tensor of the batch, with its dimensions in `order`. `kind` is its kind's name; `detached`: it gets no gradient."""

    name: str
    order: tuple[str, ...]
    kind: str = "real"
    bounds: Interval = iv.REAL
    detached: bool = False

    def _axes(self) -> Axes:
        return frozenset(self.order)

    def _domain(self) -> Interval:
        return iv.MASK if self.kind == "mask" else self.bounds

    @property
    def is_mask(self) -> bool:
        return self.kind == "mask"


@dataclass(frozen=True, eq=False)
class Local(Node):
    """A variable bound by a call (`grad`, `worst`, `root`, `fold`). `depth` distinguishes nested ones of the same name."""

    name: str
    depth: int
    order: tuple[str, ...] = ()
    bounds: Interval = iv.REAL

    def _axes(self) -> Axes:
        return frozenset(self.order)

    def _domain(self) -> Interval:
        return self.bounds


@dataclass(frozen=True, eq=False)
class Const(Node):
    """An exact rational, or `pi`, or `inf`. It is rounded once, when code is emitted."""

    value: Fraction | Literal["pi", "inf"]

    def _domain(self) -> Interval:
        return iv.point(float(self))

    def __float__(self) -> float:
        if self.value == "pi":
            return math.pi
        try:
            return float(self.value)
        except OverflowError:
            return math.inf if cast(Fraction, self.value) > 0 else -math.inf


RUN = "run:"
"""The prefix of the names of run values. No declared name begins with it."""


@dataclass(frozen=True, eq=False)
class Param(Node):
    """A value held by the objective: a `param`, a `learn` parameter, a `state`, or a reading of the clock (`run:step`)."""

    name: str
    role: Literal["param", "learn", "state", "run"] = "param"
    order: tuple[str, ...] = ()
    bounds: Interval = iv.REAL

    def _axes(self) -> Axes:
        return frozenset(self.order)

    def _domain(self) -> Interval:
        return self.bounds


@dataclass(frozen=True, eq=False)
class Index(Node):
    """The position along an axis, from 0."""

    axis: str

    def _axes(self) -> Axes:
        return frozenset((self.axis,))

    def _domain(self) -> Interval:
        return Interval(0, iv.INF, integer=True)


@dataclass(frozen=True, eq=False)
class Size(Node):
    """The extent of an axis, padding included."""

    axis: str

    def _domain(self) -> Interval:
        return Interval(1, iv.INF, integer=True)


@dataclass(frozen=True, eq=False)
class Draw(Node):
    """A random tensor. `place` numbers the places of the program that draw; with the step it seeds the draw."""

    distribution: Literal["normal", "uniform"]
    order: tuple[str, ...]
    place: int

    def _axes(self) -> Axes:
        return frozenset(self.order)

    def _domain(self) -> Interval:
        return iv.UNIT if self.distribution == "uniform" else iv.REAL
