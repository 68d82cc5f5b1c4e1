"""The normal form of reductions and selections: no missing axes, masks joined, selections next to the leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from weakref import WeakKeyDictionary

from lossc.compiler import core
from lossc.compiler.core import (
    Along,
    Const,
    Index,
    Map,
    Node,
    Reduce,
    Rename,
    Select,
    Size,
    Slice,
    StopGrad,
)
from lossc.compiler.simplify import masks
from lossc.compiler.simplify.arithmetic import product, sum_of, without_number
from lossc.compiler.simplify.views import Product, Scaled, is_map, monomial, product_of, terms_of

Construct = Callable[[Node], Node]

_CONSTANT_LINE: dict[str, Callable[[Node, Node, Node], Node]] = {
    "softmax": lambda _, size, __: core.div(core.ONE, size),
    "log_softmax": lambda _, size, __: core.neg(core.apply("log", size)),
    "cumsum": lambda body, _, index: core.mul(body, core.add(core.ONE, index)),
    "cumprod": lambda body, _, index: core.power(body, core.add(core.ONE, index)),
    "cumlogsumexp": lambda body, _, index: core.add(body, core.apply("log1p", index)),
    "cummax": lambda body, _, __: body,
}
"""What an operation along an axis of a value that is constant along it is."""

LINEAR = ("sum", "mean")
"""Reductions that a factor free of the reduced axes may leave."""

_CONSTANT_ALONG: dict[str, Callable[[Node, Node], Node]] = {
    "sum": lambda body, size: core.mul(body, size),
    "prod": core.power,
    "logsumexp": lambda body, size: core.add(body, core.apply("log", size)),
    "count": lambda _, size: size,
    **{op: lambda body, _: body for op in ("mean", "max", "min", "median", "quantile", "any", "all")},
}
"""What a reduction of a value that is constant along an axis of this size is."""


def reduction(node: Reduce, construct: Construct) -> Node:
    """A reduction with sorted axes, a mask in normal form, and numbers taken out."""
    node = replace_where(node, construct)
    if node.where is None and node.groups is None and node.op in _CONSTANT_ALONG:
        missing = [axis for axis in node.over if axis not in node.body.axes]
        if missing:
            return _without(node, missing, construct)
    ordered = Reduce(node.op, tuple(sorted(node.over)), node.body, node.where, node.groups, node.option)
    return _without_number(ordered, construct) if node.op in LINEAR else ordered


def replace_where(node: Reduce, construct: Construct) -> Reduce:
    """A reduction with its mask in normal form and with choices decided where the mask implies the condition."""
    where = masks.both(node.where)
    body = decided(node.body, masks.conjuncts(where), construct)
    return Reduce(node.op, node.over, body, where, node.groups, node.option)


def along(node: Along, construct: Construct) -> Node:
    """The same for an operation along an axis."""
    where = masks.both(node.where)
    body = decided(node.body, masks.conjuncts(where), construct)
    constant = node.axis not in body.axes and where is None and node.by is None
    if constant and node.op in _CONSTANT_LINE:
        return construct_parts(_CONSTANT_LINE[node.op](body, Size(node.axis), Index(node.axis)), construct)
    return Along(node.op, node.axis, body, where, node.by, node.option, node.fill, node.new)


def decided(body: Node, known: tuple[Node, ...], construct: Construct) -> Node:
    """The body with every elementwise choice decided whose condition follows where all of `known` hold."""
    if not known or not _has_choice(body):
        return body
    done: dict[Node, Node] = {}

    def settled(node: Node) -> Node:
        if node not in done:
            branch = _branch(node, known)
            done[node] = settled(branch) if branch is not None else rebuilt(node)
        return done[node]

    def rebuilt(node: Node) -> Node:
        if not _has_choice(node):
            return node
        parts = tuple(map(settled, node.children))
        return node if parts == node.children else construct(node.rebuild(parts))

    return settled(body)


def _branch(node: Node, known: tuple[Node, ...]) -> Node | None:
    """The branch of a choice that is taken where all of `known` hold, if that follows."""
    if not isinstance(node, Map) or node.function != "where":
        return None
    condition, then, otherwise = node.arguments
    parts = masks.conjuncts(condition)
    if all(part in known for part in parts):
        return then
    return otherwise if any(masks.negation(part) in known for part in parts) else None


def choice(node: Map, construct: Construct) -> Node:
    """A choice with constant conditions decided, and each branch simplified given that it is taken."""
    condition, then, otherwise = node.arguments
    if condition is masks.TRUE or condition is masks.FALSE:
        return then if condition is masks.TRUE else otherwise
    parts = masks.conjuncts(condition)
    then = decided(then, parts, construct)
    otherwise = decided(otherwise, (masks.negation(condition),) if len(parts) == 1 else (), construct)
    return then if then is otherwise else Map("where", (condition, then, otherwise))


_CHOICES: WeakKeyDictionary[Node, bool] = WeakKeyDictionary()


def _has_choice(node: Node) -> bool:
    """Whether there is a choice among the elementwise parts of a node."""
    if not isinstance(node, Map):
        return False
    found = _CHOICES.get(node)
    if found is None:
        found = _CHOICES[node] = node.function == "where" or any(map(_has_choice, node.arguments))
    return found


def _without(node: Reduce, missing: list[str], construct: Construct) -> Node:
    """A reduction over axes that its body does not have, in closed form."""
    kept = tuple(axis for axis in node.over if axis not in missing)
    result = construct(Reduce(node.op, kept, node.body, None, None, node.option)) if kept else node.body
    if node.op == "count" and not kept:
        return construct(core.mul(*(Size(axis) for axis in missing)))
    for axis in missing:
        size = Size(axis)
        closed = core.mul(result, size) if node.op == "count" else _CONSTANT_ALONG[node.op](result, size)
        result = construct_parts(closed, construct)
    return result


def construct_parts(node: Node, construct: Construct) -> Node:
    """The node with all parts that are not in normal form yet constructed anew."""
    if not isinstance(node, Map):
        return node
    return construct(node.rebuild(tuple(construct_parts(part, construct) for part in node.arguments)))


def _without_number(node: Reduce, construct: Construct) -> Node:
    """A sum with the number in its body before it, and with the factors that all summands of the body share pulled out."""
    pulled, rest = without_number(node.body)
    if is_map(rest, "add"):
        rest = construct(with_common_factors(rest))
    inner = Reduce(node.op, node.over, rest, node.where, node.groups, node.option)
    if pulled == 1:
        return inner if rest is node.body else construct(inner)
    return construct(core.mul(Const(pulled), construct(inner)))


def with_common_factors(node: Node) -> Node:
    """`a * x + a * y` as `a * (x + y)`."""
    terms = [(term.coefficient, product_of(term.monomial)) for term in terms_of(node)]
    above, below = (Counter(terms[0][1].above), Counter(terms[0][1].below))
    for _, view in terms[1:]:
        above &= Counter(view.above)
        below &= Counter(view.below)
    if not above and not below:
        return node
    shared = Product(Fraction(1), tuple(above.elements()), tuple(below.elements()))
    rest = [_less(coefficient, view, above, below) for coefficient, view in terms]
    return product(shared.times(product_of(sum_of(rest))))


def _less(coefficient: Fraction, view: Product, above: Counter[Node], below: Counter[Node]) -> Scaled:
    upper, lower = Counter(view.above) - above, Counter(view.below) - below
    return Scaled(coefficient, monomial(upper.elements(), lower.elements()))


def selection(node: Select, construct: Construct) -> Node:
    """A selection moved inside elementwise functions, which then see only the selected entries."""
    body = node.body
    if node.axis not in body.axes:
        return body
    match body:
        case Index(axis=axis) if axis == node.axis:
            return node.at if isinstance(node.at, Node) else core.const(node.at)
        case Map():
            parts = (
                construct(Select(part, node.axis, node.at)) if node.axis in part.axes else part
                for part in body.arguments
            )
            return construct(Map(body.function, tuple(parts)))
        case StopGrad():
            return construct(StopGrad(construct(Select(body.body, node.axis, node.at))))
    return node


def renamed(node: Rename) -> Node:
    return node if node.old in node.body.axes else node.body


def sliced(node: Slice) -> Node:
    return node if node.axis in node.body.axes else node.body
