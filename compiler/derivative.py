"""The symbolic derivative of an elementwise graph, by the chain rule over the table of primitives."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from lossc.compiler.core import ONE, ZERO, Const, Map, Node, StopGrad, add, apply, div, mul, power, walk, where
from lossc.compiler.faults import InternalError
from lossc.compiler.formula import formula
from lossc.compiler.primitives import PRIMITIVES
from lossc.compiler.steep import is_steep

_NAMES = ("x", "y", "z")


def derivative(node: Node, wrt: Node) -> Node:
    """d node / d wrt, elementwise: both are functions of the same position.

    Whatever is not elementwise is a leaf that does not depend on `wrt`; `StopGrad` has derivative 0. It is a fault of
    the caller to ask for the derivative of a graph in which `wrt` is below a reduction, a selection or an operation
    along an axis.
    """
    slopes: dict[Node, Node] = {wrt: ONE}
    for part in walk(node):
        if part not in slopes:
            slopes[part] = _slope(part, slopes, wrt)
    return slopes[node]


def cancelled(node: Node) -> Node:
    """A derivative over one denominator where that is shorter: `log(u) + u / (1 + u) + 1 / (1 + u)` is `log(u) + 1`.

    It is meant for functions of a plain variable: with an exponential in its place the parts overflow, and nothing
    cancels.
    """
    from lossc.compiler.algebra import combined
    from lossc.compiler.simplify import Simplifier

    plain = Simplifier()(node)
    if not any(_divides_by_a_sum(part) for part in walk(plain)):
        return plain
    together = combined(plain)
    simpler = plain if together is None else Simplifier()(together)
    return simpler if _size(simpler) < _size(plain) else plain


def _divides_by_a_sum(node: Node) -> bool:
    return (
        isinstance(node, Map)
        and node.function == "div"
        and any(isinstance(part, Map) and part.function == "add" for part in walk(node.arguments[1]))
    )


def _size(node: Node) -> int:
    return sum(1 for _ in walk(node))


def _slope(node: Node, slopes: dict[Node, Node], wrt: Node) -> Node:
    if isinstance(node, Map):
        return _of_map(node, slopes)
    if not isinstance(node, StopGrad) and any(child is wrt or slopes[child] is not ZERO for child in node.children):
        raise InternalError(f"a derivative was asked through `{type(node).__name__}`, which is not elementwise")
    return ZERO


def _of_map(node: Map, slopes: dict[Node, Node]) -> Node:
    inner = [slopes[argument] for argument in node.arguments]
    if all(slope is ZERO for slope in inner):
        return ZERO
    special = _SPECIAL.get(node.function)
    if special is not None:
        return special(node.arguments, inner)
    partials = (partial(node, k) if slope is not ZERO else ZERO for k, slope in enumerate(inner))
    return total(*(scaled(p, slope) for p, slope in zip(partials, inner, strict=True)))


def partial(node: Map, position: int) -> Node:
    """The derivative of a primitive with respect to one of its arguments, at those arguments."""
    texts = PRIMITIVES[node.function].derivatives
    text = texts[position] if position < len(texts) else ""
    if not text:
        return ZERO
    return tidy(formula(text, dict(zip(_NAMES, node.arguments, strict=False))))


def slope_at(node: Map, position: int) -> Node:
    """The same, also for primitives with any number of arguments."""
    special = _SPECIAL.get(node.function)
    if special is None:
        return partial(node, position)
    return tidy(special(node.arguments, [ONE if at == position else ZERO for at in range(len(node.arguments))]))


# ------------------------------------------------------------------------------------------------ own rules


def _of_add(_: tuple[Node, ...], inner: list[Node]) -> Node:
    return total(*inner)


def _of_mul(arguments: tuple[Node, ...], inner: list[Node]) -> Node:
    terms = []
    for k, slope in enumerate(inner):
        if slope is not ZERO:
            terms.append(product(slope, *arguments[:k], *arguments[k + 1 :]))
    return total(*terms)


def _of_where(arguments: tuple[Node, ...], inner: list[Node]) -> Node:
    """The slope of the branch that is taken; the other one is not read."""
    return where(arguments[0], inner[1], inner[2])


def _of_extremum(function: str) -> Callable[[tuple[Node, ...], list[Node]], Node]:
    def rule(arguments: tuple[Node, ...], inner: list[Node]) -> Node:
        """Those that attain the extremum share the slope evenly."""
        if len(arguments) == 2:
            node = Map(function, arguments)
            return total(*(scaled(partial(node, k), slope) for k, slope in enumerate(inner) if slope is not ZERO))
        extremum = Map(function, arguments)
        attained = [apply("eq", argument, extremum) for argument in arguments]
        shares = (scaled(chosen, slope) for slope, chosen in zip(inner, attained, strict=True))
        return div(total(*shares), add(*attained))

    return rule


_SPECIAL: dict[str, Callable[[tuple[Node, ...], list[Node]], Node]] = {
    "add": _of_add,
    "mul": _of_mul,
    "where": _of_where,
    "min": _of_extremum("min"),
    "max": _of_extremum("max"),
}


# ------------------------------------------------------------------------------------------------ tidy construction


def scaled(share: Node, slope: Node) -> Node:
    """The product of a share and a slope.

    Where a branch is not taken its share is 0, and its slope, which may be infinite there, is not read.
    """
    if share in (ZERO, ONE) or not is_steep(slope):
        return product(share, slope)
    if isinstance(share, Map) and share.function == "where":
        condition, then, otherwise = share.arguments
        return where(condition, scaled(then, slope), scaled(otherwise, slope))
    return where(share, slope, ZERO) if share.is_mask else product(share, slope)


def total(*terms: Node) -> Node:
    """A sum without its zeros, constants added up."""
    return _folded(add, ZERO, lambda x, y: x + y, [term for term in terms if term is not ZERO])


def product(*factors: Node) -> Node:
    """A product without its ones, 0 where a factor is 0, constants multiplied."""
    if any(factor is ZERO for factor in factors):
        return ZERO
    return _folded(mul, ONE, lambda x, y: x * y, [factor for factor in factors if factor is not ONE])


def _folded(
    build: Callable[..., Node], unit: Const, join: Callable[[Fraction, Fraction], Fraction], parts: list[Node]
) -> Node:
    flat = build(*parts)
    operands = flat.arguments if isinstance(flat, Map) and flat.function == build.__name__ else (flat,)
    assert isinstance(unit.value, Fraction)
    constant, others = unit.value, []
    for operand in operands:
        if isinstance(operand, Const) and isinstance(operand.value, Fraction):
            constant = join(constant, operand.value)
        else:
            others.append(operand)
    return build(*others) if constant == unit.value and others else build(Const(constant), *others)


def tidy(node: Node) -> Node:
    """The graph with constants folded where a derivative text meets constant arguments: `y * x^(y - 1)` at y = 2."""
    done: dict[Node, Node] = {}
    for part in walk(node):
        children = tuple(done[child] for child in part.children)
        done[part] = _tidied(part if children == part.children else part.rebuild(children))
    return done[node]


def _tidied(node: Node) -> Node:
    match node:
        case Map(function="add", arguments=terms):
            return total(*terms)
        case Map(function="mul", arguments=factors):
            return product(*factors)
        case Map(function="div", arguments=(x, y)) if y is ONE or x is ZERO:
            return x
        case Map(function="pow", arguments=(x, y)) if y is ONE:
            return x
        case Map(function="pow", arguments=(_, y)) if y is ZERO:
            return ONE
        case Map(function="pow", arguments=(x, Const(value=Fraction() as exponent))) if isinstance(x, Const):
            return _constant_power(x, exponent)
    return node


def _constant_power(base: Const, exponent: Fraction) -> Node:
    if isinstance(base.value, Fraction) and exponent.denominator == 1 and 0 <= exponent <= 16:
        return Const(base.value ** int(exponent))
    return power(base, Const(exponent))
