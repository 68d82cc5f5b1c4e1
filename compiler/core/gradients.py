"""Through which parts of a graph gradient passes."""

from __future__ import annotations

from lossc.compiler.core.leaves import Input, Param
from lossc.compiler.core.node import Node
from lossc.compiler.core.operations import Reduce, Select, StopGrad
from lossc.compiler.core.traverse import walk


def differentiable_leaf(node: Node) -> bool:
    """Whether a gradient with respect to this leaf may be needed: inputs and learned parameters, not labels, masks or data."""
    if isinstance(node, Input):
        return not node.detached and node.kind not in ("label", "mask")
    return isinstance(node, Param) and node.role == "learn"


def differentiable(node: Node) -> bool:
    """Whether gradient reaches any leaf from the value of `node`."""
    reached = {node}
    for part in reversed(list(walk(node))):
        if part not in reached or part.is_mask or isinstance(part, StopGrad):
            continue
        if differentiable_leaf(part):
            return True
        reached.update(_passing(part))
    return False


def _passing(node: Node) -> tuple[Node, ...]:
    """The children of a node that its gradient reaches."""
    if isinstance(node, Reduce):
        return () if node.op in ("argmax", "count") else (node.body,)
    if isinstance(node, Select):
        return (node.body,)
    return node.children
