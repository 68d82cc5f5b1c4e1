"""Axes of training examples of which a step touches only the entries to which its labels point.

A state or multiplier for each training example is read at labels and renewed by groups of them. Where nothing else
happens along its axis, a call can run over only the entries that it touches: labels are renumbered, and other entries
are neither read nor written.
"""

from __future__ import annotations

from collections.abc import Iterator

from lossc.compiler import core
from lossc.compiler.core import Input, Map, Node, Reduce
from lossc.compiler.program import Program
from lossc.compiler.renewal import NAME, Renewals
from lossc.compiler.simplify import roots


def sparse_axes(program: Program, renewals: Renewals) -> dict[str, tuple[str, ...]]:
    """The axes of this kind in a program, each with the labels that point into it."""
    kept = {axis for state in program.states.values() for axis in state.order}
    kept |= {axis for each in program.constraints for axis in each.multiplier.order}
    kept -= {axis for tensor in program.tensors.values() for axis in tensor.order}
    kept -= {axis.name for axis in program.axes.values() if axis.positions}
    nodes = list(core.walk(*_graphs(program, renewals)))
    found = {}
    for axis in sorted(kept):
        labels = [tensor for tensor in program.tensors.values() if tensor.kind.codomain == axis]
        given = frozenset[Node](tensor.node for tensor in labels)
        renewed = [state for state in program.states.values() if axis in state.order]
        touched = all(_only_of_groups(state.renewal_present, axis) for state in renewed)
        once = any(each.merging == "first" and axis in each.node.axes for each in renewals.gathered)
        if labels and touched and not once and all(_allows(node, axis, given) for node in nodes):
            found[axis] = tuple(tensor.name for tensor in labels)
    return found


def _graphs(program: Program, renewals: Renewals) -> Iterator[Node]:
    yield from roots(program)
    yield from (constraint.by for constraint in program.constraints if constraint.by is not None)
    yield from (each.node for each in renewals.gathered)
    for behind in (*renewals.states.values(), *renewals.violations.values()):
        yield from (node for node in (behind.value, behind.present) if node is not None)


def _only_of_groups(present: Node | None, axis: str) -> bool:
    """Whether a renewal exists only where a group of the axis has a member."""
    return any(_of_groups(part, axis) for part in core.conjuncts(present))


def _of_groups(part: Node, axis: str) -> bool:
    match part:
        case Reduce(op="any", groups=(_, group)):
            return group == axis
        case Map(function="ne", arguments=(Reduce(op="sum" | "count", groups=(_, group)), core.ZERO)):
            return group == axis
        case Map(function="lt", arguments=(core.ZERO, Reduce(op="count", groups=(_, group)))):
            return group == axis
    return False


def _allows(node: Node, axis: str, labels: frozenset[Node]) -> bool:
    """Whether a node has the same value over the touched entries only."""
    if any(child in labels for child in node.children) and not _reads(node, labels):
        return False
    match node:
        case Input(order=order, name=name):
            return axis not in order or name.startswith(NAME)
        case core.Param() | Map() | core.StopGrad() | core.Const():
            return True
        case Reduce(over=over, groups=groups):
            return axis not in over and (groups is None or groups[1] != axis or groups[0] in labels)
        case core.Select(axis=along, at=at):
            return along != axis or at in labels
        case core.Size(axis=along) | core.Index(axis=along):
            return along != axis
    return axis not in node.axes and all(axis not in child.axes for child in node.children)


def _reads(node: Node, labels: frozenset[Node]) -> bool:
    """Whether labels are used only for their identity and existence, not for their numbers."""
    match node:
        case core.Select(body=body):
            return body not in labels
        case Reduce(body=body):
            return body not in labels
        case Map(function="le", arguments=(core.ZERO, _)):
            return True
        case Map(function="eq" | "ne", arguments=(left, right)):
            return left in labels and right in labels
    return False
