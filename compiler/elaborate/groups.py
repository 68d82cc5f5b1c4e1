"""Groups of weights combined with values for each leaf: `gamma * w^2` uses, for each entry, the gamma of its leaf."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lossc.compiler import core
from lossc.compiler.core import Call, Node
from lossc.compiler.kinds import Kind
from lossc.compiler.values import Value

WEIGHTS_AXIS = "#weights"
"""The hidden axis along which a group of parameters is laid out flat, one for each pattern of names."""


def hidden_axis(value: Value) -> str | None:
    """The axis along which a group of weights is laid out flat."""
    return next((axis for axis in sorted(value.axes) if axis.startswith(WEIGHTS_AXIS)), None)


def beside_weights(values: Iterable[Value]) -> list[Value]:
    """The operands, where values over the axis of the leaves become one number for each entry of the weights."""
    operands = list(values)
    groups = [(operand.kind.leaves, hidden_axis(operand)) for operand in operands if operand.kind.name == "weights"]
    for layer, hidden in groups:
        if layer is not None and hidden is not None:
            operands = [_spread(operand, layer, hidden) for operand in operands]
    return operands


def _spread(value: Value, layer: str, hidden: str) -> Value:
    def over_entries(node: Node) -> Node:
        if layer not in node.axes:
            return node
        if node.is_mask:
            return core.apply("ne", over_entries(core.where(node, core.ONE, core.ZERO)), core.ZERO)
        return Call("leaf:spread", (node,), (layer,), (hidden,), node.domain, (hidden,))

    present = None if value.present is None else over_entries(value.present)
    return replace(value, node=over_entries(value.node), present=present)


def weights_kind(kinds: Iterable[Kind]) -> Kind:
    """The kind of a value made from weights: that of the operand that names their leaves."""
    found = [kind for kind in kinds if kind.name == "weights"]
    return next((kind for kind in found if kind.leaves is not None), found[0])
