"""Side conditions of rules: small named predicates over the values of a pattern's variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lossc.compiler.core import Along, Const, Map, Node, Param, Reduce, Rename, Select, Size, Slice, StopGrad
from lossc.compiler.simplify.views import is_map, number, product_of, terms_of

_EXPONENTIALS = ("exp", "sigmoid", "normcdf")
_VIEWS = (Select, Rename, Slice, StopGrad)


def exponential(node: Node) -> bool:
    """A positive value whose log is a stable primitive: exp, softmax, sigmoid, normcdf, or a selection from one."""
    match node:
        case Map(function=function):
            return function in _EXPONENTIALS
        case Along(op=op):
            return op == "softmax"
        case Select(body=body) | Rename(body=body) | Slice(body=body) | StopGrad(body=body):
            return exponential(body)
    return False


def partition(node: Node) -> bool:
    """A sum or mean of exponentials with positive weights, such as a normaliser."""
    match node:
        case Map(function="add"):
            terms = terms_of(node)
            parts = [term.monomial for term in terms]
            return all(term.coefficient > 0 for term in terms) and _positive_parts(parts, exponential_or_partition)
        case Reduce(op="sum" | "mean", body=body):
            return exponential_or_partition(body)
        case Map(function="mul" | "div"):
            return _product_of(node, exponential_or_partition)
        case Select(body=body) | Rename(body=body) | Slice(body=body) | StopGrad(body=body):
            return partition(body)
    return False


def exponential_or_partition(node: Node) -> bool:
    return exponential(node) or partition(node)


def loggable(node: Node) -> bool:
    """A value whose log can be split, part by part, into stable primitives."""
    if exponential(node):
        return True
    match node:
        case Map(function="add"):
            return _loggable_sum(node)
        case Map(function="mul" | "div"):
            return _complement(node) or _product_of(node, loggable)
        case Map(function="pow", arguments=(base, exponent)):
            return loggable(base) and exponent.domain.positive
        case Map(function="sqrt", arguments=(base,)):
            return loggable(base)
        case Map(function="expm1"):
            return node.arguments[0].domain.positive
        case Map(function="where", arguments=(_, then, otherwise)):
            return loggable(then) and loggable(otherwise)
        case Reduce(op="sum" | "mean" | "prod", body=body):
            return loggable(body)
        case Along(op="cumsum" | "cumprod", body=body):
            return loggable(body)
        case Select(body=body) | Rename(body=body) | Slice(body=body) | StopGrad(body=body):
            return loggable(body)
    return False


def _complement(node: Node) -> bool:
    """`-expm1(x)`, which is the normal form of 1 - exp(x), and below 1."""
    view = product_of(node)
    return (
        view.coefficient < 0
        and not view.below
        and len(view.above) == 1
        and is_map(view.above[0], "expm1")
        and view.above[0].children[0].domain.nonpos
    )


def _loggable_sum(node: Node) -> bool:
    terms = terms_of(node)
    negative = [term.monomial for term in terms if term.coefficient < 0]
    if negative:
        one = [term for term in terms if number(term.monomial) == 1]
        return (
            len(one) == 1
            and one[0].coefficient == 1
            and len(negative) == len(terms) - 1
            and all(map(loggable, negative))
        )
    return _positive_parts([term.monomial for term in terms], loggable)


def _positive_parts(parts: list[Node], accepted: Callable[[Node], bool]) -> bool:
    """Whether each part is accepted, a positive scalar, or bounded away from 0; at least one has to be accepted."""
    return any(map(accepted, parts)) and all(
        accepted(part) or _positive_scalar(part) or part.domain.lo > 0 for part in parts
    )


def _product_of(node: Node, accepted: Callable[[Node], bool]) -> bool:
    view = product_of(node)
    parts = [*view.above, *view.below]
    return view.coefficient > 0 and node not in parts and _positive_parts(parts, accepted)


def _positive_scalar(node: Node) -> bool:
    return isinstance(node, Const | Param | Size) and not node.axes and (node.domain.positive or isinstance(node, Size))


def logarithmic(node: Node) -> bool:
    """A log-probability along an axis, or a selection from one: its exp is a softmax."""
    if isinstance(node, _VIEWS):
        return logarithmic(node.body)
    return isinstance(node, Along) and node.op == "log_softmax"


def steady(node: Node) -> bool:
    """A scalar that is finite whenever it is computed, so that no mask has to hide it."""
    match node:
        case Const():
            return number(node) is not None
        case Param() | Size():
            return not node.axes
        case Map(function="add" | "mul", arguments=arguments):
            return all(map(steady, arguments))
        case Map(function="div", arguments=(upper, lower)):
            return steady(upper) and steady(lower) and lower.domain.nonzero
        case Map(function="pow", arguments=(base, exponent)):
            return steady(base) and steady(exponent) and base.domain.positive
    return False


def may_vanish(node: Node) -> bool:
    """A value that may be 0, or so small that it underflows to 0."""
    return 0.0 in node.domain if steady(node) else node.domain.lo <= 0 <= node.domain.hi


def _free(node: Any, axes: Any) -> bool:
    return not isinstance(node, Node) or not node.axes & frozenset(axes.over)


PREDICATES: dict[str, Callable[..., bool]] = {
    "exponential": exponential,
    "loggable": loggable,
    "normaliser": exponential_or_partition,
    "logarithmic": logarithmic,
    "may_vanish": may_vanish,
    "steady": steady,
    "unsteady": lambda node: not steady(node),
    "rational": lambda node: number(node) is not None,
    "symbolic": lambda node: number(node) is None,
    "given": lambda node: node is not None,
    "nontrivial": lambda node: number(node) not in (0, 1),
    "nonzero": lambda node: number(node) != 0,
    "not_negative": lambda node: node.domain.hi > 0,
    "nonneg": lambda node: node.domain.nonneg,
    "nonpos": lambda node: node.domain.nonpos,
    "unsigned": lambda node: product_of(node).coefficient > 0,
    "positive": lambda node: node.domain.positive,
    "unit": lambda node: node.domain.lo >= 0 and node.domain.hi <= 1,
    "above_minus_one": lambda node: node.domain.lo > -1,
    "mask": lambda node: node.is_mask,
    "even": lambda node: (number(node) or 1) % 2 == 0,
    "free": _free,
    "along": lambda node, axes: not _free(node, axes),
    "inside_or_steady": lambda node, where: where is None or steady(node),
}
"""The predicates that a rule may name."""
