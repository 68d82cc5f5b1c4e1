"""Properties of nodes on which emission depends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lossc.compiler.core import Along, Const, Input, Map, Node, Param, Rename, Select, Size, Slice, StopGrad, remembered
from lossc.compiler.emission.procedure import Emitted, Slot
from lossc.compiler.intervals import INF, LOGPROB, Interval

LARGEST = (2 - 2**-23) * 2.0**127
"""The largest number in single precision."""

_LOGARITHMS = ("log", "log2", "log1p", "log1mexp")


@remembered
def may_be_infinite(node: Node) -> bool:
    """Whether the value is built by sums, products, quotients and selections from logarithms of what may be 0."""
    match node:
        case Input(kind=kind, bounds=bounds):
            return kind == "logprob" or bounds == LOGPROB
        case Map(function=function, arguments=arguments):
            if function in _LOGARITHMS:
                return arguments[0].domain.lo <= 0 or function in ("log1p", "log1mexp")
            if function == "xlogy":
                return arguments[1].domain.lo <= 0
            if function == "div":
                return may_be_infinite(arguments[0])
            return function in ("add", "mul", "where") and any(may_be_infinite(part) for part in arguments)
        case Along(op=op):
            return op == "log_softmax"
        case Select(body=body) | Slice(body=body) | Rename(body=body) | StopGrad(body=body):
            return may_be_infinite(body)
    return False


def is_weighed(node: Map) -> bool:
    """Whether a product counts as 0 where one factor is 0 and another one infinite, as in 0 * log(0)."""
    logs = [may_be_infinite(factor) for factor in node.arguments]
    return any(logs) and any(may_vanish(factor) for factor, log in zip(node.arguments, logs, strict=True) if not log)


def logarithms(node: Node) -> Iterator[Map]:
    """The logarithms in a value that may be infinite."""
    seen, stack = {node}, [node]
    while stack:
        part = stack.pop()
        if isinstance(part, Map) and part.function in (*_LOGARITHMS, "xlogy"):
            yield part
        elif isinstance(part, Map | Select | Slice | Rename | StopGrad):
            inner = [child for child in part.children if child not in seen and may_be_infinite(child)]
            seen.update(inner)
            stack += inner


def may_vanish(node: Node) -> bool:
    """Whether a factor that differs between entries may be 0."""
    return not isinstance(node, Const | Param | Size) and node.domain.lo <= 0 <= node.domain.hi


def is_representable(number: float) -> bool:
    """Whether a number exists in single precision too: torch refuses others as options and bounds."""
    return abs(number) <= LARGEST or abs(number) == INF


def leaf(node: Node) -> Input | None:
    """The tensor at the end of a chain of selections and renamings."""
    while isinstance(node, Select | Slice | Rename):
        node = node.body
    return node if isinstance(node, Input) else None


def safe_number(bounds: Interval) -> float:
    """A number of a domain at which everything is finite: 0 where the domain has it."""
    for candidate in (0.0, 1.0, -1.0):
        if candidate in bounds:
            return candidate
    if bounds.finite:
        return (bounds.lo + bounds.hi) / 2
    return bounds.lo + 1 if bounds.lo > -INF else bounds.hi - 1


def literal_places(function: str, values: Sequence[Emitted]) -> tuple[int, ...]:
    """The positions of operands that may be literals."""
    if function == "clip":
        bounds = [value.at for value in values[1:] if not isinstance(value.at, Slot)]
        return (1, 2) if len(bounds) == 2 and all(map(is_representable, bounds)) else ()
    return {"div": (1,), "pow": (0, 1)}.get(function, ())
