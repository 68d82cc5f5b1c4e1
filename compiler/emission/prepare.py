"""Rewrites a core graph before emission: the same values and gradients, in a form that computes them safely."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lossc.compiler.core import ZERO, Along, Node, Reduce, Rename, add, all_of, apply, neg, rewrite, walk, where
from lossc.compiler.emission.centre import centred
from lossc.compiler.emission.folds import by_steps
from lossc.compiler.emission.restrict import Restrictor


def prepared(roots: Mapping[str, Node]) -> dict[str, Node]:
    """The roots with centred logits, selections at the leaves, softmax by groups written out, and folds by steps."""
    restrictor = Restrictor()
    first: dict[Node, Node] = {}
    second: dict[Node, Node] = {}

    def early(node: Node) -> Node:
        return by_steps(centred(_softmax_by_groups(node)))

    return {name: rewrite(rewrite(root, early, first), restrictor.step, second) for name, root in roots.items()}


def _softmax_by_groups(node: Node) -> Node:
    """`softmax[t by g](x)` is exp(x - logsumexp of x over the entries of the same group)."""
    if not isinstance(node, Along) or node.op not in ("softmax", "log_softmax") or node.by is None:
        return node
    other = f"{node.axis}'"

    def across(part: Node) -> Node:
        return Rename(part, node.axis, other) if node.axis in part.axes else part

    same = apply("eq", across(node.by), node.by)
    admitted = None if node.where is None else across(node.where)
    total = Reduce("logsumexp", (other,), across(node.body), all_of(admitted, same))
    log = add(node.body, neg(total))
    return log if node.op == "log_softmax" else where(node.where, apply("exp", log), ZERO)


@contextmanager
def recursion_for(roots: Mapping[str, Node]) -> Iterator[None]:
    """Raises the recursion limit for functions that descend into the graph."""
    depth: dict[Node, int] = {}
    for node in walk(*roots.values()):
        depth[node] = 1 + max((depth[child] for child in node.children), default=0)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 2_000 + 16 * max(depth.values(), default=0)))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
