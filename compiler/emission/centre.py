"""Sums that do not change when the same number is added to every logit, computed from centred logits.

`logsumexp[v](z) - z[v = y]` at z = 1e4 + small loses the small part: 1e4 + log s - 1e4. With c the largest logit of the
row, held fixed, it is `log sum exp(z - c) - (z_y - c)`. The rule applies to any sum in which the coefficients of z
cancel, as in label smoothing: `logsumexp(z) - (1 - e) z_y - e mean(z)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lossc.compiler.core import (
    ONE,
    Map,
    Node,
    Reduce,
    Select,
    Size,
    StopGrad,
    add,
    apply,
    const,
    mul,
    neg,
)
from lossc.compiler.emission.coefficients import Polynomial, plus, polynomial

_HUGE = const(3 * 10**38)
"""Beyond any logit in single precision: the centre of a row with an infinite one."""


@dataclass(frozen=True)
class Atom:
    """One operand `coefficient * atom` of a sum, where the atom grows by `shift * c` when the logits grow by c."""

    operand: Node
    coefficient: Node
    atom: Node
    base: Node
    axis: str
    shift: Node


def centred(node: Node) -> Node:
    """A sum over centred logits, if its coefficients of some logits cancel; any other node unchanged."""
    if not isinstance(node, Map) or node.function != "add":
        return node
    for base, axis in dict.fromkeys(_bases(node)):
        atoms = [atom for operand in node.arguments if (atom := _atom(operand, base, axis)) is not None]
        total: Polynomial = {}
        for atom in atoms:
            total = plus(total, polynomial(mul(atom.coefficient, atom.shift)))
        if not total and len(atoms) > 1:
            node = _rebuilt(node, atoms)
    return node


def _bases(node: Map) -> Iterator[tuple[Node, str]]:
    """The logits whose logsumexp occurs in the sum, with the axis."""
    for operand in node.arguments:
        for factor in _factors(operand):
            if isinstance(factor, Reduce) and factor.op == "logsumexp" and len(factor.over) == 1:
                if factor.groups is None and not _is_centred(factor.body):
                    yield factor.body, factor.over[0]


def _factors(operand: Node) -> tuple[Node, ...]:
    return operand.arguments if isinstance(operand, Map) and operand.function == "mul" else (operand,)


def _is_centred(body: Node) -> bool:
    return isinstance(body, Map) and body.function == "add" and any(
        isinstance(factor, StopGrad) for operand in body.arguments for factor in _factors(operand)
    )


def _atom(operand: Node, base: Node, axis: str) -> Atom | None:
    factors = _factors(operand)
    shifts = [(at, shift) for at, factor in enumerate(factors) if (shift := _shift(factor, base, axis)) is not None]
    if len(shifts) != 1:
        return None
    at, shift = shifts[0]
    coefficient = mul(*factors[:at], *factors[at + 1 :])
    return Atom(operand, coefficient, factors[at], base, axis, shift)


def _shift(node: Node, base: Node, axis: str) -> Node | None:
    if node is base:
        return ONE
    match node:
        case Select(body=body, axis=selected) if body is base and selected == axis:
            return ONE
        case Reduce(op="logsumexp", over=(over,), body=body, groups=None) if body is base and over == axis:
            return ONE
        case Reduce(op="mean" | "max" | "min", over=(over,), body=body, where=None, groups=None):
            return ONE if body is base and over == axis else None
        case Reduce(op="sum", over=(over,), body=body, where=None, groups=None):
            return Size(axis) if body is base and over == axis else None
    return None


def _rebuilt(node: Map, atoms: list[Atom]) -> Map:
    """The sum with every atom in its centred form."""
    largest = Reduce("max", (atoms[0].axis,), atoms[0].base, _mask(atoms))
    centre = StopGrad(apply("clip", largest, neg(_HUGE), _HUGE))
    replaced = {atom.operand: _times(atom.coefficient, _moved(atom, centre)) for atom in atoms}
    result = add(*(replaced.get(operand, operand) for operand in node.arguments))
    assert isinstance(result, Map)
    return result


def _times(coefficient: Node, atom: Node) -> Node:
    return atom if coefficient is ONE else mul(coefficient, atom)


def _mask(atoms: list[Atom]) -> Node | None:
    """The mask of the logsumexp, so that excluded entries are not read."""
    reduced = (atom.atom for atom in atoms if isinstance(atom.atom, Reduce) and atom.atom.op == "logsumexp")
    return next(reduced).where


def _moved(atom: Atom, centre: Node) -> Node:
    if isinstance(atom.atom, Reduce):
        inner = add(atom.base, neg(centre))
        return Reduce(atom.atom.op, atom.atom.over, inner, atom.atom.where)
    return add(atom.atom, neg(centre))
