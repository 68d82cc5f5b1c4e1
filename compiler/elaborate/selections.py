"""Selections `x[v = y]`, slices, renamed axes, and constants along a named axis."""

from __future__ import annotations

from fractions import Fraction

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.core import Const, Node
from lossc.compiler.elaborate.context import Context, axes_text, declared_note, describe
from lossc.compiler.elaborate.places import never_beyond, never_negative
from lossc.compiler.kinds import REAL, Kind
from lossc.compiler.symbols import AxisSymbol
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax
from lossc.grammar.expressions import print_expr
from lossc.grammar.suggest import did_you_mean


def selection(ctx: Context, expr: syntax.Bracket) -> Value:
    value = ctx.value(expr.head)
    if value.wrong:
        return WRONG
    if value.term is not None:
        return ctx.wrong("E207", f"`{value.term.name}` is a term, not a value", expr.head.span,
                         help=f"call it: `{value.term.name}[…](…)`")  # fmt: skip
    if expr.where is not None:
        return ctx.wrong("E306", "a selection takes no `where`", expr.where.span,
                         help="`where` belongs to a reduction: `mean[t where m](x)`")  # fmt: skip
    for selector in expr.selectors:
        value = _select(ctx, selector, value)
        if value.wrong:
            return WRONG
    return value


def _select(ctx: Context, selector: syntax.Selector, value: Value) -> Value:
    axis = ctx.axis(selector.name, selector.span)
    if axis is None:
        return WRONG
    if axis.name not in value.axes:
        return ctx.wrong("E304", f"this has no axis `{selector.name}` to select from", selector.span,
                         label=f"it has {axes_text(ctx, value.axes)}", notes=declared_note(value))  # fmt: skip
    match selector.form:
        case "at":
            return _at(ctx, selector, axis, value)
        case "rename":
            return _rename(ctx, selector, axis, value)
        case "slice":
            return _unnamed_slice(ctx, selector)
    return ctx.wrong("E306", "this is not a selection", selector.span,
                     help=f"write `x[{selector.name} = …]`, or reduce with `mean[{selector.name}](x)`")  # fmt: skip


def _unnamed_slice(ctx: Context, selector: syntax.Selector) -> Value:
    assert selector.value is not None and selector.upper is not None
    ends = f"{print_expr(selector.value)}..{print_expr(selector.upper)}"
    return ctx.wrong("E306", "a slice needs a name for its shorter axis", selector.span,
                     help=f"write `{selector.name} -> part = {ends}`: an axis has one extent in a file")  # fmt: skip


def _at(ctx: Context, selector: syntax.Selector, axis: AxisSymbol, value: Value) -> Value:
    written = selector.value
    assert written is not None
    if axis.positions is not None and isinstance(written, syntax.Name):
        if written.id in axis.positions:
            return _at_position(axis.name, axis.positions.index(written.id), value)
        if written.id not in ctx.frame.values:
            return ctx.wrong("E307", f"axis `{selector.name}` has no position `{written.id}`", written.span,
                             help=did_you_mean(written.id, axis.positions)
                             or f"its positions are {', '.join(axis.positions)}")  # fmt: skip
    if isinstance(written, syntax.Name) and axis.positions is None and written.id not in ctx.frame.values:
        if axis.formal:
            return _at_position(axis.name, 0, value)
        if ctx.frame.kind == "term":
            return ctx.wrong("E307", f"axis `{ctx.written(axis.name)}` has no position `{written.id}`", written.span,
                             help=f"declare them: `axis {axis.name} = {{{written.id}, …}}`")  # fmt: skip
    index = ctx.value(written)
    if index.wrong:
        return WRONG
    if index.is_label:
        return _at_label(ctx, selector, axis, value, index)
    if isinstance(index.node, Const) and isinstance(index.node.value, Fraction):
        return _at_number(ctx, selector, axis, value, index.node.value)
    if not index.node.domain.integer or index.is_mask:
        if axis.formal and isinstance(written, syntax.Name):
            return _at_position(axis.name, 0, value)  # an argument may have the name of a position, which wins
        return ctx.wrong("E208", f"axis `{selector.name}` is read at a label or a whole number", written.span,
                         label=describe(ctx, index), notes=declared_note(index))  # fmt: skip
    return _gather(axis.name, value, index)


def _at_number(ctx: Context, selector: syntax.Selector, axis: AxisSymbol, value: Value, number: Fraction) -> Value:
    assert selector.value is not None
    if number.denominator != 1 or number < 0:
        last = f"the last one is `{selector.name} = size[{selector.name}] - 1`" if number == -1 else ()
        return ctx.wrong("E208", "positions are whole numbers, counted from 0", selector.value.span, help=last)
    if axis.positions is not None and number >= len(axis.positions):
        return _beyond(ctx, selector, axis, selector.value)
    return _at_position(axis.name, int(number), value)


def _at_position(axis: str, position: int, value: Value) -> Value:
    present = value.present
    if present is not None and axis in present.axes:
        present = core.Select(present, axis, position)
    return Value(core.Select(value.node, axis, position), _kind(value.kind, axis), present)


def _at_label(ctx: Context, selector: syntax.Selector, axis: AxisSymbol, value: Value, label: Value) -> Value:
    assert selector.value is not None
    if label.kind.codomain != axis.name:
        if label.kind.codomain is None:
            message = "the declaration of this label does not say which axis it points into"
            help_ = f"write `label in {selector.name}`"
            return ctx.wrong("E209", message, selector.value.span, notes=declared_note(label), help=help_)
        target = ctx.written(label.kind.codomain)
        return ctx.wrong("E209", f"this label points into `{target}`, not into `{selector.name}`", selector.value.span,
                         label=describe(ctx, label), notes=declared_note(label),
                         help=f"write `[{target} = …]`, or declare the label `in {selector.name}`")  # fmt: skip
    return _gather(axis.name, value, label)


def _gather(axis: str, value: Value, index: Value) -> Value:
    """The entry at an index; absent where the label is *none*, or outside the axis."""
    exists = None if never_negative(index.node) else core.apply("le", core.ZERO, index.node)
    if not index.is_label and not never_beyond(index.node):
        exists = core.all_of(exists, core.apply("lt", index.node, core.Size(axis)))
    there = value.present
    if there is not None and axis in there.axes:
        there = core.Select(there, axis, index.node)
    return Value(
        core.Select(value.node, axis, index.node),
        _kind(value.kind, axis),
        core.all_of(exists, index.present, there),
    )


def _kind(kind: Kind, axis: str) -> Kind:
    if kind.axis != axis:
        return kind
    if kind.name == "prob":
        return Kind("unit", bounds=iv.UNIT)
    return Kind("logprob", bounds=iv.LOGPROB) if kind.name == "logprob" else REAL


def _rename(ctx: Context, selector: syntax.Selector, axis: AxisSymbol, value: Value) -> Value:
    """`x[b -> j]`, the same values under another name, or `x[t -> part = 0..3]`, some of them."""
    assert selector.new is not None
    if selector.value is not None:
        return _sliced(ctx, selector, axis, value)
    symbol = ctx.new_axis(selector.new, selector.span)
    if symbol is None or not _is_free(ctx, selector, symbol.name, value):
        return WRONG
    kind = value.kind.renamed(axis.name, symbol.name)
    present = _moved(value.present, axis.name, symbol.name)
    return _known(ctx, Value(_renamed(value.node, axis.name, symbol.name), kind, present))


def _sliced(ctx: Context, selector: syntax.Selector, axis: AxisSymbol, value: Value) -> Value:
    assert selector.new is not None and selector.value is not None
    if selector.upper is None:
        help_ = f"write `{selector.name} -> {selector.new} = 0..3`; one entry is `x[{selector.name} = 3]`"
        return ctx.wrong("E306", "a slice has two ends", selector.span, help=help_)
    start, stop = (_position(ctx, end) for end in (selector.value, selector.upper))
    if start is None or stop is None:
        return WRONG
    if stop <= start:
        return ctx.wrong("E306", f"the slice {start}..{stop} is empty", selector.span,
                         help="a slice `a..b` holds the positions a to b - 1")  # fmt: skip
    if axis.positions is not None and stop > len(axis.positions):
        return _beyond(ctx, selector, axis, selector.upper)
    symbol = ctx.new_axis(selector.new, selector.span, stop - start)
    if symbol is None or not _is_free(ctx, selector, symbol.name, value):
        return WRONG
    present = value.present
    if present is not None and axis.name in present.axes:
        present = core.Slice(present, axis.name, symbol.name, start, stop)
    kind = REAL if value.kind.axis == axis.name else value.kind
    return Value(core.Slice(value.node, axis.name, symbol.name, start, stop), kind, present)


def _is_free(ctx: Context, selector: syntax.Selector, new: str, value: Value) -> bool:
    if new in value.axes:
        ctx.wrong("E305", f"the value already has an axis `{selector.new}`", selector.span,
                  label=f"it has {axes_text(ctx, value.axes)}", help="choose another name for the new axis")  # fmt: skip
    return new not in value.axes


def _beyond(ctx: Context, selector: syntax.Selector, axis: AxisSymbol, written: syntax.Expr) -> Value:
    assert axis.positions is not None
    return ctx.wrong("E307", f"axis `{selector.name}` has {len(axis.positions)} positions, counted from 0", written.span,
                     help=f"they are {', '.join(axis.positions)}")  # fmt: skip


def _renamed(node: Node, old: str, new: str) -> Node:
    """The node with its axis renamed; successive renames become one."""
    if isinstance(node, core.Rename) and node.new == old:
        return _renamed(node.body, node.old, new) if node.old != new else node.body
    return core.Rename(node, old, new)


def _moved(present: Node | None, old: str, new: str) -> Node | None:
    return _renamed(present, old, new) if present is not None and old in present.axes else present


def _known(ctx: Context, value: Value) -> Value:
    if value.kind.name == "prob" and value.kind.axis:
        ctx.session.distributions[value.node] = value.kind.axis
    return value


def _position(ctx: Context, expr: syntax.Expr) -> int | None:
    value = ctx.value(expr)
    if value.wrong:
        return None
    if isinstance(value.node, Const) and isinstance(value.node.value, Fraction):
        if value.node.value.denominator == 1 and value.node.value >= 0:
            return int(value.node.value)
    ctx.wrong("E306", "the ends of a slice are whole numbers from 0", expr.span)
    return None


def axis_constant(ctx: Context, expr: syntax.AxisConstant) -> Value:
    """`side{chosen: 1, rejected: -1}`: one value for each position, as choices by the index along the axis."""
    axis = ctx.axis(expr.axis, expr.span)
    if axis is None:
        return WRONG
    given = dict(expr.entries)
    positions = tuple(given) if axis.positions is None and axis.formal else axis.positions
    if positions is None:
        return ctx.wrong("E307", f"axis `{expr.axis}` has no named positions", expr.span,
                         help=f"declare them: `axis {expr.axis} = {{a, b}}`")  # fmt: skip
    for name, value in expr.entries:
        if name not in positions:
            return ctx.wrong("E307", f"axis `{expr.axis}` has no position `{name}`", value.span,
                             help=did_you_mean(name, positions))  # fmt: skip
    missing = [position for position in positions if position not in given]
    if missing or len(given) != len(expr.entries):
        what = f"`{missing[0]}` has no value" if missing else "a position is given twice"
        return ctx.wrong("E307", f"{what} in this constant along `{expr.axis}`", expr.span)
    values = [ctx.value(given[position]) for position in positions]
    if any(value.wrong for value in values):
        return WRONG
    node, present = values[-1].node, core.all_of(*(value.present for value in values))
    for position in range(len(values) - 2, -1, -1):
        here = core.apply("eq", core.Index(axis.name), core.const(position))
        node = core.where(here, values[position].node, node)
    return Value(node, REAL, present)
