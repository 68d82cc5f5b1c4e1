"""Operations along an axis: `softmax[v](z)`, `cumsum[t](x)`, `shift[t by segment](x, 1)`, `sort[b -> r](x)`, `rank[b](x)`."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.constants import constant_value
from lossc.compiler.core import Node
from lossc.compiler.elaborate.brackets import is_numeric, read_where, wrong_form
from lossc.compiler.elaborate.context import Context, axes_text, describe
from lossc.compiler.elaborate.signature import Given, take
from lossc.compiler.kinds import REAL, Kind
from lossc.compiler.symbols import AxisSymbol
from lossc.compiler.values import WRONG, Value, mask
from lossc.grammar import syntax

MAX_AMOUNT = 2**31
"""More entries than any axis has."""

_OPTIONS = {"shift": ("n", "fill"), "scan": ("decay",), "sort": ("by",), "topk": ("k",)}


def along(ctx: Context, name: str, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    """A call of one of `core.ALONG_OPS`; absent entries are excluded, like those outside the `where`."""
    options = _OPTIONS.get(name, ())
    required = 1 + (name in ("shift", "scan", "topk"))
    given = take(ctx, name, call, ("x", *options), required=required)
    if given is None:
        return WRONG
    selector = bracket.selectors[0]
    value = given.values["x"]
    if len(bracket.selectors) != 1 and name in ("rank", "sort"):
        return _of_all(ctx, name, bracket, value, given)
    if len(bracket.selectors) != 1:
        return ctx.wrong("E306", f"`{name}` takes one axis", bracket.span, help=_of_one_axis(name, bracket))
    axis = ctx.axis(selector.name, selector.span)
    where = read_where(ctx, bracket)
    if axis is None or isinstance(where, bool) or not is_numeric(ctx, value, given.span("x"), name):
        return WRONG
    by = _along_by(ctx, selector)
    if by is WRONG:
        return WRONG
    if name in ("shift", "topk") and not _is_possible_amount(ctx, name, given, options[0], call):
        return WRONG
    extra = where.axes if where is not None else frozenset()
    if axis.name not in value.axes | extra:
        return ctx.wrong("E304", f"`{name}` runs along `{selector.name}`, which is not an axis of its argument",
                         selector.span, label=f"the argument has {axes_text(ctx, value.axes)}")  # fmt: skip
    admitted = core.all_of(where, value.present)
    if selector.form == "rename":
        return _reordered(ctx, name, selector, axis, value, admitted, given)
    if name in ("sort", "topk"):
        return ctx.wrong("E306", f"`{name}` makes a new axis", selector.span,
                         help=f"write `{name}[{selector.name} -> r](…)`")  # fmt: skip
    if selector.form not in ("axis", "by"):
        wrong_form(ctx, name, selector)
        return WRONG
    group = by.node if by is not None else None
    if name == "shift":
        return _shift(axis.name, value, admitted, group, given)
    node = core.Along(cast(core.AlongOp, name), axis.name, value.node, admitted, group, given.node("decay"))
    return _along_value(ctx, name, axis.name, value, node, admitted)


def _is_possible_amount(ctx: Context, name: str, given: Given, option: str, call: syntax.Call) -> bool:
    """Whether `shift` or `topk` accepts this amount; reports it otherwise."""
    if not _is_whole(given.node(option)):
        ctx.uncompiled(f"`{name}` by an amount that is not written as a whole number", call.span)
    amount = constant_value(given.values[option].node)
    if amount is None or (-MAX_AMOUNT if name == "shift" else 1) <= amount <= MAX_AMOUNT:
        return True
    message = "no axis has as many entries" if amount > 1 or name == "shift" else "`topk` takes at least 1"
    ctx.wrong("E401", message, given.span(option))
    return False


_OF_ALL = {"rank": "rank[b, t](…)", "sort": "sort[b, t -> r](…)"}


def _of_all(ctx: Context, name: str, bracket: syntax.Bracket, value: Value, given: Given) -> Value:
    """`rank[b, t](x)` and `sort[b, t -> r](x)`: over all entries of these axes; ties go by position, first axis first."""
    where = read_where(ctx, bracket)
    if isinstance(where, bool) or not is_numeric(ctx, value, given.span("x"), name):
        return WRONG
    axes = _several_axes(ctx, name, bracket, value, value.axes | (where.axes if where is not None else frozenset()))
    if axes is None:
        return WRONG
    key = given.values.get("by")
    admitted = core.all_of(where, value.present, key.present if key is not None else None)
    named = {"": value.node, "by": key.node if key is not None else None, "where": admitted}
    arguments = {argument: node for argument, node in named.items() if node is not None}
    if name == "rank":
        node = core.Call("rank", tuple(arguments.values()), axes, axes, iv.Interval(0, iv.INF, integer=True), order=axes,
                         names=tuple(arguments))  # fmt: skip
        return Value(core.StopGrad(node), REAL, admitted)
    last = bracket.selectors[-1]
    symbol = ctx.new_axis(last.new or "", last.span)
    if symbol is None:
        return WRONG
    if symbol.name in value.axes:
        return ctx.wrong("E305", f"the argument already has axis `{last.new}`", last.span)
    node = core.Call("sort", tuple(arguments.values()), axes, (symbol.name,), value.node.domain.hull(iv.point(0)), order=axes,
                     names=tuple(arguments))  # fmt: skip
    number = None if admitted is None else core.Reduce("count", axes, value.node, admitted)
    return Value(node, REAL, None if number is None else core.apply("lt", core.Index(symbol.name), number))


def _several_axes(
    ctx: Context, name: str, bracket: syntax.Bracket, value: Value, there: frozenset[str]
) -> tuple[str, ...] | None:  # fmt: skip
    """The axes of a bracket over several axes, from which `sort` makes a new one; None after a report."""
    forms = ["axis"] * len(bracket.selectors)
    if name == "sort":
        forms[-1] = "rename"
    axes: list[str] = []
    for selector, form in zip(bracket.selectors, forms, strict=True):
        axis = ctx.axis(selector.name, selector.span)
        if axis is None:
            return None
        if selector.form != form or selector.value is not None or axis.name in axes:
            what = "makes one new axis of them" if name == "sort" else "takes their names"
            ctx.wrong("E306", f"`{name}` over several axes {what}", selector.span, help=f"write `{_OF_ALL[name]}`")
            return None
        if axis.name not in there:
            ctx.wrong("E304", f"`{name}` runs along `{selector.name}`, which is not an axis of its argument", selector.span,
                      label=f"the argument has {axes_text(ctx, value.axes)}")  # fmt: skip
            return None
        axes.append(axis.name)
    return tuple(axes)


def _of_one_axis(name: str, bracket: syntax.Bracket) -> str:
    first = bracket.selectors[0].name
    normalised = f"x - logsumexp[{', '.join(selector.name for selector in bracket.selectors)}](x)"
    if name in ("softmax", "log_softmax"):
        return f"over these axes together it is `{normalised if name == 'log_softmax' else f'exp({normalised})'}`"
    return f"write `{name}[{first}{' -> r' if name in ('sort', 'topk') else ''}](…)`"


def _along_by(ctx: Context, selector: syntax.Selector) -> Value | None:
    if selector.form != "by" or selector.value is None:
        return None
    label = ctx.value(selector.value)
    if label.wrong:
        return WRONG
    if not (label.is_label or label.node.domain.integer):
        return ctx.wrong("E208", "`by` needs a label or whole numbers", selector.value.span, label=describe(ctx, label))
    return label


def _along_value(ctx: Context, name: str, axis: str, value: Value, node: Node, admitted: Node | None) -> Value:
    if name == "softmax":
        ctx.session.distributions[node] = axis
        return Value(node, Kind("prob", axis=axis, bounds=iv.UNIT))
    if name == "log_softmax":
        return Value(node, Kind("logprob", axis=axis, bounds=iv.LOGPROB), admitted)
    return Value(node, REAL, admitted)


def _shift(axis: str, value: Value, admitted: Node | None, group: Node | None, given: Given) -> Value:
    """The value `n` admitted entries earlier in the same group; absent, or `fill`, where there is none."""
    n = given.node("n") or core.ONE
    if admitted is None and group is None:
        source = core.sub(core.Index(axis), n)
        exists = core.all_of(core.apply("le", core.ZERO, source), core.apply("lt", source, core.Size(axis)))
        moved: Node = core.Along("shift", axis, value.node, None, None, n)
    else:
        # positions count from 1, since 0 is what a shift brings in
        counted = core.Along("shift", axis, core.add(core.Index(axis), core.ONE), admitted, group, n)
        exists = core.all_of(core.apply("lt", core.ZERO, counted), admitted)
        if value.is_mask or value.is_label:
            moved = core.Select(value.node, axis, core.sub(counted, core.ONE)) if axis in value.node.axes else value.node
        else:
            # not a selection, which would see what is not admitted
            moved = core.Along("shift", axis, value.node, admitted, group, n)
    assert exists is not None
    fill = given.values.get("fill")
    if fill is None:
        return Value(moved, value.kind, exists)
    if value.is_mask and fill.node in (core.ZERO, core.ONE):
        fill = mask(core.apply("ne", fill.node, core.ZERO))
    kind = value.kind if value.is_mask == fill.is_mask and not value.is_label else REAL
    return Value(core.where(exists, moved, fill.node), kind, core.all_of(admitted, fill.present))


def _reordered(
    ctx: Context,
    name: str,
    selector: syntax.Selector,
    axis: AxisSymbol,
    value: Value,
    admitted: Node | None,
    given: Given,
) -> Value:
    """`sort[b -> r]` and `topk[v -> k]`: present entries first, along a new axis."""
    if name not in ("sort", "topk") or selector.new is None or selector.value is not None:
        wrong_form(ctx, name, selector)
        return WRONG
    option = given.node("by") if name == "sort" else given.node("k")
    symbol = ctx.new_axis(selector.new, selector.span, _number_of(option) if name == "topk" else None)
    if symbol is None:
        return WRONG
    new = symbol.name
    if new in value.axes:
        return ctx.wrong("E305", f"the argument already has axis `{selector.new}`", selector.span)
    key = given.values.get("by")
    if key is not None and key.present is not None:
        admitted = core.all_of(admitted, key.present)
    node = core.Along(cast(core.AlongOp, name), axis.name, value.node, admitted, None, option, None, new)
    if admitted is None:
        return Value(node, REAL)
    number = core.Reduce("count", (axis.name,), value.node, admitted)
    return Value(node, REAL, core.apply("lt", core.Index(new), number))


def _is_whole(node: Node | None) -> bool:
    """Whether an amount is a literal whole number, or left out."""
    return node is None or (isinstance(node, core.Const) and isinstance(node.value, Fraction) and node.value.denominator == 1)


def _number_of(node: Node | None) -> int | None:
    """The value of a constant that is a whole number, at least 1; None for anything else."""
    value = constant_value(node) if node is not None else None
    return int(value) if value is not None and value >= 1 and value == int(value) else None
