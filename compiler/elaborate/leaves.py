"""Groups of weights leaf by leaf: `sum[entry](w^2)` is a number for each leaf, over the axis that `weights[layer]` names.

In a bracket over a group of weights, `entry` means the entries of a leaf; `row` and `column` are the axes of the leaf
as a matrix, its first dimension and all others together. A value over the axis of leaves is spread to the entries of
each leaf where it meets weights.
"""

from __future__ import annotations

from dataclasses import replace

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.core import Call, Node
from lossc.compiler.elaborate.brackets import read_where
from lossc.compiler.elaborate.context import Context, declared_note, describe
from lossc.compiler.elaborate.groups import beside_weights, hidden_axis
from lossc.compiler.kinds import REAL
from lossc.compiler.values import WRONG, Value, mask
from lossc.grammar import syntax

ENTRIES = ("entry", "row", "column")
REDUCED = ("sum", "mean", "prod", "max", "min", "std", "var", "median", "logsumexp", "norm")
"""What reduces the entries of a leaf to one number."""
FORMS = {"svdvals": "svdvals[row, column -> k](w)", "sort": "sort[entry](w)"}


def is_of_leaves(ctx: Context, name: str, bracket: syntax.Bracket) -> bool:
    """Whether a bracket is over the entries of leaves; an axis of the file with such a name takes precedence."""
    names = [selector.name for selector in bracket.selectors]
    return bool(names) and all(each in ENTRIES and each not in ctx.frame.axes for each in names)


def leafwise(ctx: Context, name: str, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    """An operation on every leaf separately."""
    if len(call.arguments) != 1 or call.arguments[0].name is not None or call.arguments[0].to is not None:
        return ctx.wrong("E201", f"`{name}` of a group of weights takes one argument", call.span)
    value = ctx.value(call.arguments[0].value)
    condition = read_where(ctx, bracket)
    if value.wrong or isinstance(condition, bool):
        return WRONG
    where = None if condition is None else beside_weights((value, mask(condition)))[1].node
    hidden = hidden_axis(value)
    layer = value.kind.leaves or ctx.session.leaves.get(hidden or "")
    if hidden is None or (layer is None and name != "sort"):
        message = f"`{bracket.selectors[0].name}` is of the leaves of a group of weights"
        return ctx.wrong("E204", message, call.arguments[0].span, label=describe(ctx, value), notes=declared_note(value),
                         help='name the axis of its leaves: `input w : weights[layer] in "*.weight"`')  # fmt: skip
    forms = [(selector.form, selector.name) for selector in bracket.selectors]
    admitted = core.all_of(where, value.present)
    if admitted is not None and not admitted.axes <= value.axes:
        return ctx.wrong("E304", "the condition has axes that the weights do not have", bracket.span,
                         label=describe(ctx, value))  # fmt: skip
    if name in (*REDUCED, "any", "all") and forms == [("axis", "entry")]:
        return _reduced(name, value, hidden, str(layer), admitted)
    if name == "sort" and forms == [("axis", "entry")] and admitted is None:
        return replace(value, node=Call("leaf:sort", (value.node,), (hidden,), (hidden,), value.node.domain, (hidden,)))
    if name == "svdvals" and forms == [("axis", "row"), ("rename", "column")]:
        return _singular_values(ctx, bracket, value, hidden, str(layer), admitted)
    return ctx.wrong("E306", f"`{name}` has no such form over a group of weights", bracket.span,
                     help=f"write `{FORMS.get(name, f'{name}[entry](w)')}`")  # fmt: skip


def _reduced(name: str, value: Value, hidden: str, layer: str, admitted: Node | None) -> Value:
    if name in ("any", "all"):
        counted = value.node if name == "any" else core.apply("not", value.node)
        number = _leaf("sum", (core.where(counted, core.ONE, core.ZERO),), hidden, layer, iv.NONNEG, admitted)
        return mask(core.apply("lt", core.ZERO, number) if name == "any" else core.apply("eq", number, core.ZERO))
    bounds = iv.NONNEG if name in ("norm", "std", "var") or (name in ("sum", "mean") and value.node.domain.nonneg) else iv.REAL
    node = _leaf(name, (value.node,), hidden, layer, bounds, admitted)
    if admitted is None or name in ("sum", "prod", "logsumexp", "norm"):
        return Value(node)
    some = _leaf("sum", (core.where(admitted, core.ONE, core.ZERO),), hidden, layer, iv.NONNEG, None)
    return Value(node, REAL, core.apply("lt", core.ZERO, some))


def _leaf(
    op: str, arguments: tuple[Node, ...], hidden: str, layer: str, bounds: iv.Interval, admitted: Node | None
) -> Node:  # fmt: skip
    given = arguments if admitted is None else (*arguments, admitted)
    names = ("",) * len(arguments) + (() if admitted is None else ("where",))
    return Call(f"leaf:{op}", _with_axis(given, hidden), (hidden,), (layer,), bounds, (hidden,), names=names)


def _with_axis(arguments: tuple[Node, ...], hidden: str) -> tuple[Node, ...]:
    """The arguments, where the first has the axis of entries even if it is constant along it."""
    first, *rest = arguments
    if hidden in first.axes:
        return arguments
    return (core.where(core.apply("le", core.ZERO, core.Index(hidden)), first, core.ZERO), *rest)


def _singular_values(
    ctx: Context, bracket: syntax.Bracket, value: Value, hidden: str, layer: str, admitted: Node | None
) -> Value:
    """The singular values of each leaf, largest first; a leaf has min(rows, columns) of them, the rest is absent."""
    last = bracket.selectors[-1]
    symbol = ctx.new_axis(last.new or "", last.span)
    if symbol is None:
        return WRONG
    body = core.where(admitted, value.node, core.ZERO)
    node = Call("leaf:svdvals", (body,), (hidden,), (layer, symbol.name), iv.NONNEG, (hidden,))
    number = Call("leaf:rank", (body,), (hidden,), (layer,), iv.NONNEG, (hidden,))
    return Value(node, REAL, core.apply("lt", core.Index(symbol.name), number))
