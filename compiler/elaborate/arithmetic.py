"""Operators: their nodes, the kinds of their results, and absence, which spreads through all of them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.constants import constant_value, exact_bits
from lossc.compiler.core import Const, Map, Node
from lossc.compiler.elaborate.context import Context, declared_note, describe
from lossc.compiler.elaborate.groups import beside_weights, weights_kind
from lossc.compiler.elaborate.types import domain_text
from lossc.compiler.finite import finite_domain
from lossc.compiler.intervals import Interval
from lossc.compiler.kinds import NUMBERS, REAL, Kind
from lossc.compiler.primitives import PRIMITIVES
from lossc.compiler.values import WRONG, Value, is_true, mask
from lossc.grammar import syntax
from lossc.grammar.expressions import print_expr
from lossc.grammar.source import Span
from lossc.grammar.suggest import did_you_mean

_BUILD: dict[str, Callable[[Node, Node], Node]] = {
    "+": core.add, "-": core.sub, "*": core.mul, "/": core.div, "^": core.power,
}  # fmt: skip
_MOST_BITS = 65_536
"""Of the exact numbers in one expression, about 20,000 decimal digits."""

_COMPARISONS = {"<": ("lt", False), "<=": ("le", False), ">": ("lt", True), ">=": ("le", True), "==": ("eq", False),
                "!=": ("ne", False)}  # fmt: skip


def negate(ctx: Context, expr: syntax.Unary) -> Value:
    operand = ctx.value(expr.operand)
    if operand.wrong or not _is_number(ctx, operand, expr.operand.span, expr.op):
        return WRONG
    if expr.op == "+":
        return operand
    kind = operand.kind if operand.kind.name in ("logits", "embedding", "weights") else REAL
    return Value(core.neg(operand.node), kind, _calculated(operand))


def logical_not(ctx: Context, expr: syntax.Unary) -> Value:
    operand = ctx.value(expr.operand)
    if operand.wrong or not need_mask(ctx, operand, expr.operand.span, "`not`"):
        return WRONG
    return mask(core.apply("not", operand.node), operand.present)


def logical(ctx: Context, op: str, left: Value, right: Value, expr: syntax.Binary) -> Value:
    if not need_mask(ctx, left, expr.left.span, f"`{op}`") or not need_mask(ctx, right, expr.right.span, f"`{op}`"):
        return WRONG
    if op == "or":
        _lint_lost(ctx, left, right, expr)
    return mask(core.apply(op, left.node, right.node), core.all_of(left.present, right.present))


def _lint_lost(ctx: Context, left: Value, right: Value, expr: syntax.Binary) -> None:
    """Warns of a side that may be absent where the other side is present and true."""
    for own, side, other in ((right.present, expr.right, left.present), (left.present, expr.left, right.present)):
        if own is not None and own is not other:
            ctx.warn("W305", "where this is absent, the whole `or` is absent, even if the other side is true", side.span,
                     help=f"say what it counts as there: `fill({print_expr(side)}, 0)`")  # fmt: skip
            return


def arithmetic(ctx: Context, op: str, left: Value, right: Value, expr: syntax.Binary) -> Value:
    if not (_is_number(ctx, left, expr.left.span, op) and _is_number(ctx, right, expr.right.span, op)):
        return WRONG
    left, right = beside_weights((left, right))
    if op == "^" and _huge_power(left.node, right.node):
        return ctx.wrong("E404", "this power is too large to be a number of any use", expr.span,
                         help="write the number, or compute with its logarithm")  # fmt: skip
    if op == "/" and constant_value(right.node) == 0:
        return ctx.wrong("E403", "division by the constant 0", expr.right.span)
    node = _fold(_BUILD[op](left.node, right.node))
    if exact_bits(node) > _MOST_BITS:
        return ctx.wrong("E404", "the numbers in this expression grow beyond any use", expr.span,
                         help="are numbers multiplied again and again along a chain of `let`s?")  # fmt: skip
    if op == "/":
        lint_zero(ctx, right.node, expr.right.span)
    kind = _kind_of(ctx, op, left.kind, right.kind, node)
    return Value(node, kind, _calculated(left, right))


def compare(ctx: Context, expr: syntax.Compare) -> Value:
    operands = _compared(ctx, expr)
    if any(operand.wrong for operand in operands):
        return WRONG
    result: Value | None = None
    for op, left, right in zip(expr.ops, operands[:-1], operands[1:], strict=True):
        function, swapped = _COMPARISONS[op]
        pair = (right.node, left.node) if swapped else (left.node, right.node)
        present = core.all_of(left.present, right.present)
        if left.is_label and right.is_label:
            present = core.all_of(present, *(_exists(label) for label in (left, right)))
        link = mask(core.apply(function, *pair), present)
        result = link if result is None else mask(core.apply("and", result.node, link.node),
                                                  core.all_of(result.present, link.present))  # fmt: skip
    return result or WRONG


def _exists(label: Value) -> Node | None:
    """Where a label is not *none*.

    Compared with another label it stays a label, compared with a number it is its integer.
    """
    return None if label.node.domain.nonneg else core.apply("le", core.ZERO, label.node)


def _calculated(*values: Value) -> Node | None:
    """Where the result of a calculation is present: a label that is *none* cannot be calculated with."""
    return core.all_of(*(part for value in values for part in (value.present, _exists(value) if value.is_label else None)))


def _compared(ctx: Context, expr: syntax.Compare) -> list[Value]:
    """The operands, all of them numbers, or in `mode == token` all of the same choice."""
    chosen = _choice_among(ctx, expr.operands)
    if chosen is None:
        operands = [ctx.value(operand) for operand in expr.operands]
        operands = beside_weights(operands)
        pairs = zip(operands, expr.operands, strict=True)
        return [one if _is_number(ctx, one, written.span, "a comparison") else WRONG for one, written in pairs]
    if any(op not in ("==", "!=") for op in expr.ops):
        ctx.wrong("E207", "a choice has no order", expr.span, help="compare it with `==` or `!=`")
        return [WRONG]
    return [choice(ctx, chosen, operand) for operand in expr.operands]


def _choice_among(ctx: Context, operands: tuple[syntax.Expr, ...]) -> Kind | None:
    """The kind of the first operand that names a choice."""
    for operand in operands:
        if isinstance(operand, syntax.Name) and operand.id in ctx.frame.values:
            value = ctx.value(operand)
            if value.kind.name == "choice":
                return value.kind
    return None


def choice(ctx: Context, kind: Kind, written: syntax.Expr) -> Value:
    """A `token` where a choice between names is expected: the number of that name, or a parameter of the same choice."""
    if isinstance(written, syntax.Name):
        if written.id in kind.choices:
            return Value(core.const(kind.choices.index(written.id)), kind)
        if written.id in ctx.frame.values:
            value = ctx.value(written)
            if value.wrong or value.kind.choices == kind.choices:
                return value
    hint = did_you_mean(written.id, kind.choices) if isinstance(written, syntax.Name) else ()
    return ctx.wrong("E401", f"this must be one of {', '.join(kind.choices)}", written.span, help=hint)


def if_else(ctx: Context, expr: syntax.IfElse) -> Value:
    condition = ctx.value(expr.condition)
    inside = ctx if condition.wrong or not condition.is_mask else ctx.assuming(condition.node)
    then, otherwise = inside.value(expr.then), ctx.value(expr.otherwise)
    if condition.wrong or then.wrong or otherwise.wrong:
        return WRONG
    if not need_mask(ctx, condition, expr.condition.span, "the condition of `if`"):
        return WRONG
    if then.is_mask != otherwise.is_mask and not (_plain(then) and _plain(otherwise)):
        return ctx.wrong("E205", "the branches of `if` are a mask and a number", expr.span,
                         label=f"{describe(ctx, then)} and {describe(ctx, otherwise)}")  # fmt: skip
    condition, then, otherwise = beside_weights((condition, then, otherwise))
    chosen = is_true(condition)
    kind = then.kind if then.kind == otherwise.kind else REAL
    if "weights" in (then.kind.name, otherwise.kind.name):
        kind = weights_kind((then.kind, otherwise.kind))
    present = None
    if then.present is not None or otherwise.present is not None:
        yes = core.apply("eq", core.ZERO, core.ZERO)
        present = core.apply("where", chosen, then.present or yes, otherwise.present or yes)
    return Value(core.where(chosen, then.node, otherwise.node), kind, present)


def _plain(value: Value) -> bool:
    return value.is_mask or value.kind.name in NUMBERS


def need_mask(ctx: Context, value: Value, span: Span, what: str) -> bool:
    if value.wrong:
        return False
    if not value.is_mask:
        ctx.wrong("E205", f"{what} needs a mask, and this is {_a_kind(value)}", span, label=describe(ctx, value),
                  notes=declared_note(value), help=_as_mask(value, span))  # fmt: skip
        return False
    return True


def _a_kind(value: Value) -> str:
    named = {"label": "a label", "term": "a term", "model": "a model", "choice": "a choice", "weights": "weights"}
    return named.get(value.kind.name, "a number")


def _as_mask(value: Value, span: Span) -> tuple[str, ...]:
    text = " ".join(span.text.split())
    if not text.isidentifier():
        return ("compare it: `x > 0`",)
    if value.is_label:
        return (f"where there is a label: `{text} >= 0`",)
    if value.kind.name == "choice":
        return (f"compare it: `{text} == {value.kind.choices[0]}`",)
    declared = isinstance(value.node, core.Input)
    kept = (f"a tensor of 0 and 1, or true and false, is declared as `{text} : mask[…]`",) if declared else ()
    return (f"compare it: `{text} > 0`", *kept)


def _is_number(ctx: Context, value: Value, span: Span, op: str) -> bool:
    if value.wrong:
        return False
    if value.term is not None:
        ctx.wrong("E207", f"`{value.term.name}` is a term, not a value", span, notes=declared_note(value),
                  help=f"call it: `{value.term.name}(…)`")  # fmt: skip
        return False
    if value.kind.name in ("model", "choice"):
        what = "a model" if value.kind.name == "model" else "a choice"
        ctx.wrong("E207", f"{what} cannot be an operand of {_op_text(op)}", span, notes=declared_note(value),
                  help="call the model on its inputs" if value.kind.name == "model" else
                  f"compare it with one of {', '.join(value.kind.choices)}")  # fmt: skip
        return False
    return True


def _op_text(op: str) -> str:
    return op if " " in op else f"`{op}`"


def _kind_of(ctx: Context, op: str, left: Kind, right: Kind, node: Node) -> Kind:
    """The kind of a result, by the rules of the language page, section Values."""
    if "weights" in (left.name, right.name):
        return weights_kind((left, right))
    if op in "+-":
        return _kind_of_sum(ctx, op, left, right, node)
    for kind, other in ((left, right), (right, left)):
        if kind.name in ("logits", "embedding") and _scales(other) and (op == "*" or (op == "/" and kind is left)):
            return kind
    if op == "/" and (axis := convex_axis(ctx, node)):
        return _distribution(ctx, node, axis)
    return REAL


def _kind_of_sum(ctx: Context, op: str, left: Kind, right: Kind, node: Node) -> Kind:
    if left.name == right.name == "logits":
        return left if op == "+" and left == right else REAL
    if left.name == right.name == "embedding" and left == right:
        return left
    if left.name == right.name == "logprob" and op == "+" and left == right:
        return left
    for kind, other in ((left, right), (right, left)):
        if kind.name in ("logits", "embedding") and _scales(other):
            return kind
    if op == "+" and (axis := convex_axis(ctx, node)):
        return _distribution(ctx, node, axis)
    return REAL


def _scales(kind: Kind) -> bool:
    return kind.name in (*NUMBERS, "mask")


def _distribution(ctx: Context, node: Node, axis: str) -> Kind:
    ctx.session.distributions[node] = axis
    return Kind("prob", axis=axis, bounds=iv.UNIT)


def convex_axis(ctx: Context, node: Node) -> str | None:
    """The axis of a convex mix of distributions over that axis; None where the node is not known to be one."""
    known = ctx.session.distributions
    divisor: Node = core.ONE
    if isinstance(node, Map) and node.function == "div":
        node, divisor = node.arguments
    terms = node.arguments if isinstance(node, Map) and node.function == "add" else (node,)
    weighted = [_weighted(term, known) for term in terms]
    found = [entry for entry in weighted if entry is not None]
    axes = {known[distribution] for _, distribution in found}
    if len(found) < len(terms) or len(axes) != 1 or not _sum_to([weight for weight, _ in found], divisor):
        return None
    return axes.pop()


def _weighted(term: Node, known: dict[Node, str]) -> tuple[Node, Node] | None:
    """The weight and the distribution of `weight * distribution`; None for a term of another form."""
    if term in known:
        return core.ONE, term
    if isinstance(term, Map) and term.function == "div":
        inner = _weighted(term.arguments[0], known)
        return (_fold(core.div(inner[0], term.arguments[1])), inner[1]) if inner is not None else None
    factors = term.arguments if isinstance(term, Map) and term.function == "mul" else ()
    mixed = [factor for factor in factors if factor in known]
    return (core.mul(*(f for f in factors if f is not mixed[0])), mixed[0]) if len(mixed) == 1 else None


def _sum_to(weights: list[Node], total: Node) -> bool:
    """Whether the weights are constants with the sum `total`, or w and 1 - w for a w in [0, 1]."""
    exact = [constant_value(weight) for weight in (*weights, total)]
    if all(isinstance(value, Fraction) for value in exact):
        *parts, whole = (Fraction(value) for value in exact if value is not None)
        return sum(parts) == whole and all(part >= 0 for part in parts)
    if len(weights) != 2 or total is not core.ONE:
        return False
    first, second = weights
    complement = core.sub(core.ONE, first) is second or core.sub(core.ONE, second) is first
    return complement and all(weight.domain.within(iv.UNIT) for weight in weights)


def _fold(node: Node) -> Node:
    """A quotient of literals as the exact rational: `1/3`."""
    if isinstance(node, Map) and node.function == "div":
        top, bottom = node.arguments
        if isinstance(top, Const) and isinstance(bottom, Const):
            if isinstance(top.value, Fraction) and isinstance(bottom.value, Fraction) and bottom.value:
                return Const(top.value / bottom.value)
    return node


def _huge_power(base: Node, exponent: Node) -> bool:
    """Whether a power of literals, or a literal exponent, exceeds the bound on literals (10^400)."""
    value = constant_value(exponent)
    if value is None:
        return False
    magnitude = max(value, -value)
    if magnitude > 10_000:
        return True
    literal = constant_value(base)
    if not isinstance(literal, Fraction) or literal == 0:
        return False
    digits = max(len(str(literal.numerator)), len(str(literal.denominator)))
    return digits * magnitude > 800 and abs(literal) != 1


def lint_zero(ctx: Context, divisor: Node, span: Span) -> None:
    """Warns of a divisor that is a given quantity or a count, and may well be 0.

    Norms and deviations are left to their author.
    """
    domain = divisor.domain
    given = isinstance(divisor, core.Input | core.Param) or (isinstance(divisor, core.Reduce) and divisor.op == "count")
    if given and 0.0 in domain and 0 in (domain.lo, domain.hi) and divisor not in ctx.nonzero:
        ctx.warn("W202", f"this divisor lies in {domain} and may be 0", span,
                 help="add a small constant, or exclude those entries with `where` or `if`")  # fmt: skip


def elementwise(ctx: Context, name: str, values: list[Value], arguments: tuple[syntax.Argument, ...]) -> Value:
    """A call of a primitive under its own name."""
    for value, argument in zip(values, arguments, strict=True):
        if not _is_number(ctx, value, argument.value.span, f"`{name}`"):
            return WRONG
    values = beside_weights(values)
    primitive = PRIMITIVES[name]
    if name == "xlogy" and values[0].node.domain.nonneg:
        ctx = ctx.times(values[0].node)  # x log x is 0 where x is
    for value, argument, domain in zip(values, arguments, primitive.domain, strict=False):
        if domain is not None and not _in_domain(ctx, name, value, argument.value.span, domain):
            return WRONG
    node = core.apply(name, *(value.node for value in values))
    kind = _kind_of_function(ctx, name, values[0].kind, node)
    if any(value.kind.name == "weights" for value in values):
        kind = weights_kind(value.kind for value in values)
    return Value(node, kind, _calculated(*values))


def _in_domain(ctx: Context, name: str, value: Value, span: Span, domain: Interval) -> bool:
    actual = value.node.domain
    if not actual.meets(domain):
        ctx.wrong("E405", f"`{name}` is defined on {domain}, and this {domain_text(value)}", span,
                  label=describe(ctx, value), notes=declared_note(value))  # fmt: skip
        return False
    singular = domain.lo if domain.lo > -iv.INF else domain.hi
    batch = frozenset(axis.name for axis in ctx.session.top.axes.values() if axis.batch)
    finite = finite_domain(value.node, batch)
    touches = singular in finite or not finite.within(domain)
    if touches and name in ("log", "log2", "log1p", "xlogy") and not _is_not_zero(ctx, value.node):
        help_ = "restrict it with `clip`, or exclude those entries with `where` or `if`"
        if value.kind.name == "logits":
            help_ = "these are scores, not probabilities; their log-probability is `log_softmax[v](…)`"
        ctx.warn(
            "W201", f"the argument of `{name}` lies in {actual}: the logarithm may not be finite", span, help=help_
        )
    return True


def _is_not_zero(ctx: Context, node: Node) -> bool:
    """Whether the value is nonzero wherever the expression counts: by a condition, or as a product or quotient."""
    if node in ctx.nonzero or node in ctx.factors:
        return True
    if not isinstance(node, Map) or node.function not in ("mul", "div"):
        return False
    above, below = (node.arguments[:1], node.arguments[1:]) if node.function == "div" else (node.arguments, ())
    open_ = [part for part in above if not part.domain.positive]
    return all(part.domain.positive for part in below) and all(part.domain.nonneg and _is_not_zero(ctx, part) for part in open_)


def _kind_of_function(ctx: Context, name: str, kind: Kind, node: Node) -> Kind:
    if name == "exp" and kind.name == "logprob":
        return _distribution(ctx, node, kind.axis) if kind.axis else Kind("unit", bounds=iv.UNIT)
    if name == "log" and kind.name == "prob":
        return Kind("logprob", axis=kind.axis, bounds=iv.LOGPROB)
    return REAL
