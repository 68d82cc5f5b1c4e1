"""Positions that cannot lie outside an axis, so that reading there is never absent."""

from __future__ import annotations

from collections.abc import Iterator

from lossc.compiler.core import Along, Const, Index, Map, Node, Select, Size, StopGrad, apply, const, neg


def never_negative(position: Node) -> bool:
    """Whether a position is never negative."""
    return position.domain.nonneg or _is_from_the_end(position)


def never_beyond(position: Node) -> bool:
    """Whether a position never exceeds the last: an index, `size[t] - 1`, either less something, a position, a remainder.

    The index of another axis counts too: `s[j = index[b]]` is the diagonal of a square matrix.
    """
    match position:
        case Index() | Along(op="rank"):
            return True
        case Const():
            return position.domain.hi <= 0
        case Map(function="mod", arguments=(_, Size())):
            return True
        case Map(function="min", arguments=arguments):
            return any(map(never_beyond, arguments))
        case Map(function="clip", arguments=(_, _, upper)):
            return never_beyond(upper)
        case Map(function="where", arguments=(_, then, otherwise)):
            return never_beyond(then) and never_beyond(otherwise)
        case Map(function="add", arguments=arguments):
            above = [part for part in arguments if not part.domain.nonpos]
            return len(above) == 1 and (never_beyond(above[0]) or _is_size_less_one(above[0], arguments))
    return False


def columns_there(node: Node) -> Iterator[Node]:
    """For each diagonal `s[j = index[b]]` in an expression, the condition that the row has a column; for a `fill` around it."""
    seen: set[Node] = set()
    stack = [node]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        match part:
            case Map(arguments=arguments):
                stack.extend(reversed(arguments))
            case StopGrad(body=body):
                stack.append(body)
            case Select(body=body, axis=column, at=at):
                stack.append(body)
                if isinstance(at, Index):
                    yield apply("lt", at, Size(column))


def _is_size_less_one(size: Node, summands: tuple[Node, ...]) -> bool:
    others = [part for part in summands if part is not size]
    return isinstance(size, Size) and any(isinstance(part, Const) and part.domain.hi <= -1 for part in others)


def _is_from_the_end(position: Node) -> bool:
    """Whether this is `size[t] - 1 - index[t]`, which is never negative."""
    if not isinstance(position, Map) or position.function != "add":
        return False
    return any(set(position.arguments) == {const(-1), Size(axis), neg(Index(axis))} for axis in position.axes)
