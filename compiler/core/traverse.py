"""Going through a graph: every node once, parts before wholes, without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from lossc.compiler.core.node import Node

T = TypeVar("T")


def remembered(function: Callable[[Node], T]) -> Callable[[Node], T]:
    """A function of one node that is worked out once for each, as long as that lives: parts may stand in many wholes."""
    known: WeakKeyDictionary[Node, T] = WeakKeyDictionary()

    @wraps(function)
    def found(node: Node) -> T:
        if node not in known:
            known[node] = function(node)
        return known[node]

    return found


def walk(*roots: Node) -> Iterator[Node]:
    """Every node reachable from `roots` once, parts before wholes."""
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))


def rewrite(root: Node, step: Callable[[Node], Node], memo: dict[Node, Node] | None = None) -> Node:
    """The graph with `step` applied to every node, children first. `memo` may be shared by several calls."""
    done: dict[Node, Node] = {} if memo is None else memo
    for node in walk(root):
        if node not in done:
            children = tuple(done[child] for child in node.children)
            done[node] = step(node if children == node.children else node.rebuild(children))
    return done[root]


def substitute(root: Node, replacements: dict[Node, Node]) -> Node:
    """The graph with some nodes replaced by others."""
    done: dict[Node, Node] = dict(replacements)
    for node in walk(root):
        if node not in done:
            done[node] = node.rebuild(tuple(done[child] for child in node.children)) if node.children else node
    return done[root]
