"""From a table to the sweep that writes the gradients of its streams, as torch operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from lossc.compiler.core import ONE, ZERO, Index, Input, Map, Node, add, all_of, apply, const, div, mul, walk, where
from lossc.compiler.emission import Emitted, Procedure
from lossc.compiler.emission.builder import Builder
from lossc.compiler.emission.prepare import recursion_for
from lossc.compiler.emission.restrict import Restrictor
from lossc.compiler.sweeps.emitter import SweepEmitter
from lossc.compiler.sweeps.forward import builder_for, enumerate_names, graphs
from lossc.compiler.sweeps.model import Contribution, GradientSweep, coefficient
from lossc.compiler.sweeps.spaces import Space, spaces
from lossc.compiler.table.model import Statistic, Table

Term = tuple[Node, tuple[Node, ...]]
"""A row factor and the class factors that it multiplies."""

AT = " at"
"""What the name of an output ends with that is the class at which another is added."""

STEADY = frozenset({"add", "mul", "exp", "where", "lt", "le", "eq", "ne", "and", "or", "not", "tanh", "sigmoid", "abs",
                    "sign", "min", "max", "clip"})  # fmt: skip
"""Functions whose slope is finite wherever the statistics of the row are."""


def gradient_sweeps(
    table: Table, streams: frozenset[str], statistics: frozenset[str], *, exact: bool, scatter: bool
) -> tuple[GradientSweep, ...]:
    """The sweeps for the gradients of `streams` through `statistics`.

    `exact` hides rows whose coefficient is 0, whatever they hold; without it everything hidden must be finite.
    `scatter` adds entries at labels by index, instead of comparing every class with the label.
    """
    reaching = [
        s for s in table.statistics if s.name in statistics and any(slope.of in streams for slope in s.gradients)
    ]
    return tuple(_sweep(table, space, streams, exact, scatter) for space in spaces(table, reaching))


def _sweep(table: Table, space: Space, streams: frozenset[str], exact: bool, scatter: bool) -> GradientSweep:
    roots: dict[str, Node] = {}
    found: list[Contribution] = []
    for stream in sorted(streams):
        by_rows: dict[frozenset[str], list[Statistic]] = {}
        rows = table.stream(stream).leaf.axes - {table.axis}
        for statistic in space.statistics:
            if not any(slope.of == stream for slope in statistic.gradients):
                continue
            if statistic.op == "select" and (scatter or not statistic.leaf.axes <= rows):
                found.append(_picked(table, stream, statistic, roots))
            else:
                by_rows.setdefault(statistic.leaf.axes, []).append(statistic)
        for members in by_rows.values():
            name = f"{stream} {len(roots)}"
            roots[name] = _combined(table, stream, members, exact)
            found.append(Contribution(stream, name))
    return GradientSweep(space.cut, _procedure(table, roots, exact), tuple(found))


def _procedure(table: Table, roots: dict[str, Node], exact: bool) -> Procedure:
    nodes = (*graphs(table), *roots.values())
    builder = builder_for(nodes)
    given = {f"@{entry.name}" for group in (table.statistics, table.scalars, table.computed) for entry in group}
    given |= {coefficient(statistic.name) for statistic in table.statistics}
    emitter = SweepEmitter(builder, table, frozenset(given), exact=exact)
    with recursion_for(dict(enumerate_names(nodes))):
        outputs = {name: _output(builder, emitter.emit(root), name.endswith(AT)) for name, root in roots.items()}
    bound = tuple(sorted(builder.bound.values(), key=lambda entry: entry.slot))
    return Procedure(bound, tuple(builder.instructions), outputs)


def _output(builder: Builder, value: Emitted, label: bool) -> Emitted:
    return builder.integer(value) if label else builder.tensor(builder.number(value))


def _weight(statistic: Statistic) -> Input:
    assert isinstance(statistic.leaf, Input)
    return Input(coefficient(statistic.name), statistic.leaf.order, "real")


def _slope(statistic: Statistic, stream: str) -> Node:
    return next(slope.value for slope in statistic.gradients if slope.of == stream)


# ------------------------------------------------------------------------------------------------ at labels


def _picked(table: Table, stream: str, statistic: Statistic, roots: dict[str, Node]) -> Contribution:
    """What a selection adds at its label."""
    assert statistic.at is not None
    slope = _slope(statistic, stream)
    if isinstance(slope, Map) and slope.function == "where" and _is_here(slope.arguments[0], table.axis):
        slope = slope.arguments[1]
    weight = _weight(statistic)
    slope = Restrictor().gathered(slope, table.axis, statistic.at)
    name = f"{stream} {len(roots)}"
    roots[name] = where(apply("ne", weight, ZERO), mul(weight, slope), ZERO)
    roots[name + AT] = const(statistic.at) if isinstance(statistic.at, int) else statistic.at
    return Contribution(stream, name, name + AT)


def _is_here(condition: Node, axis: str) -> bool:
    return isinstance(condition, Map) and condition.function == "eq" and any(
        isinstance(part, Index) and part.axis == axis for part in condition.arguments
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ everywhere


def _combined(table: Table, stream: str, statistics: Iterable[Statistic], exact: bool) -> Node:
    """The sum of coefficient * slope; what is hidden under one condition is kept together."""
    groups: dict[Node | None, list[Term]] = {}
    for statistic in statistics:
        weight, slope = _weight(statistic), _slope(statistic, stream)
        seen = apply("ne", weight, ZERO) if exact or not _is_steady(slope) else None
        for row, cls in _terms(slope, table.axis):
            masks = tuple(node for node in cls if node.is_mask)
            terms = groups.setdefault(all_of(seen, statistic.mask, *masks), [])
            terms.append((mul(weight, row) if row is not ONE else weight, tuple(node for node in cls if node not in masks)))
    return add(*(where(condition, factored(terms), ZERO) for condition, terms in groups.items()))


def _is_steady(slope: Node) -> bool:
    return all(part.function in STEADY for part in walk(slope) if isinstance(part, Map))


def _terms(slope: Node, axis: str) -> Iterator[Term]:
    """A slope as a sum of row factors times class factors. Sums of class values are never split."""
    if axis not in slope.axes:
        yield slope, ()
    elif isinstance(slope, Map) and slope.function == "mul":
        yield from _of_product(slope, axis)
    elif isinstance(slope, Map) and slope.function == "where" and slope.arguments[2] is ZERO:
        yield from ((row, (slope.arguments[0], *cls)) for row, cls in _terms(slope.arguments[1], axis))
    elif isinstance(slope, Map) and slope.function == "div" and axis not in slope.arguments[1].axes:
        yield from ((div(row, slope.arguments[1]), cls) for row, cls in _terms(slope.arguments[0], axis))
    elif isinstance(slope, Map) and slope.function == "add":
        rows = [part for part in slope.arguments if axis not in part.axes]
        wide = [part for part in slope.arguments if axis in part.axes]
        if rows:
            yield add(*rows), ()
        yield from _terms(wide[0], axis) if len(wide) == 1 else [(ONE, (add(*wide),))]
    elif isinstance(slope, Map) and slope.function == "div":
        above = slope.arguments[0]
        factors = above.arguments if isinstance(above, Map) and above.function == "mul" else (above,)
        masks = tuple(factor for factor in factors if factor.is_mask)
        rest = mul(*(factor for factor in factors if factor not in masks)) if len(masks) < len(factors) else ONE
        yield ONE, (*masks, div(rest, slope.arguments[1]))
    else:
        yield ONE, (slope,)


def _of_product(slope: Map, axis: str) -> Iterator[Term]:
    """The product of its factors, multiplied out if only one factor is a sum."""
    parts = [list(_terms(factor, axis)) for factor in slope.arguments]
    sums = [terms for terms in parts if len(terms) > 1]
    if len(sums) > 1:
        yield ONE, (slope,)
        return
    single = [terms[0] for terms in parts if len(terms) == 1]
    row, cls = _product(row for row, _ in single), tuple(node for _, nodes in single for node in nodes)
    for other, more in sums[0] if sums else [(ONE, ())]:
        yield _product((row, other)), (*cls, *more)


def _product(factors: Iterable[Node]) -> Node:
    return mul(*(factor for factor in factors if factor is not ONE))


def factored(terms: list[Term]) -> Node:
    """The sum of the terms, with the class factor that most of them share taken out."""
    counted = Counter(node for _, cls in terms for node in dict.fromkeys(cls))
    if not counted:
        return add(*(row for row, _ in terms))
    shared = max(counted, key=lambda node: (counted[node], node.digest))
    inside = [(row, _without(cls, shared)) for row, cls in terms if shared in cls]
    outside = [(row, cls) for row, cls in terms if shared not in cls]
    product = _product((factored(inside), shared))
    return add(factored(outside), product) if outside else product


def _without(cls: tuple[Node, ...], shared: Node) -> tuple[Node, ...]:
    at = cls.index(shared)
    return cls[:at] + cls[at + 1 :]
