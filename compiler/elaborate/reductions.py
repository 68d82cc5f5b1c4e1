"""Reductions `op[axes where mask](x)`, group reductions `op[b by g](x)`, and operations along an axis."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.constants import constant_value
from lossc.compiler.core import Node
from lossc.compiler.elaborate.arithmetic import need_mask
from lossc.compiler.elaborate.context import Context, axes_text, declared_note, describe
from lossc.compiler.elaborate.signature import Given, take
from lossc.compiler.kinds import REAL, Kind
from lossc.compiler.suggest import did_you_mean
from lossc.compiler.symbols import AxisSymbol
from lossc.compiler.values import WRONG, Value, is_true, mask
from lossc.grammar import syntax
from lossc.grammar.source import Span

MEAN_LIKE = ("mean", "max", "min", "median", "quantile", "std", "var")
"""Reductions that nothing admitted leaves without a value."""

TRUE = core.apply("eq", core.ZERO, core.ZERO)


@dataclass(frozen=True)
class Scope:
    """What a reduction's bracket says: the axes, the condition, and the groups."""

    over: tuple[str, ...]
    where: Node | None
    groups: tuple[Node, str] | None = None

    @property
    def admitted(self) -> Node | None:
        """The condition with membership in a group: a *none* label joins none."""
        member = core.apply("le", core.ZERO, self.groups[0]) if self.groups else None
        return core.all_of(self.where, member)


def reduction(ctx: Context, name: str, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    options = {"mean": ("weight",), "quantile": ("level",), "var": ("ddof",), "std": ("ddof",)}.get(name, ())
    scope = read_scope(ctx, name, bracket)
    inside = ctx.assuming(scope.where) if scope is not None else ctx
    given = take(inside, name, call, ("x", *options), required=1 + (name == "quantile"))
    if given is None or scope is None:
        return WRONG
    value = given.values["x"]
    if name in ("any", "all") and not need_mask(ctx, value, given.span("x"), f"`{name}`"):
        return WRONG
    if not _numeric(ctx, value, given.span("x"), name) or not _has_axes(ctx, name, scope, value, bracket):
        return WRONG
    if name == "argmax" and len(scope.over) != 1:
        return ctx.wrong("E306", f"`argmax` takes one axis, not {axes_text(ctx, scope.over)}", bracket.span)
    if name == "mean" and "weight" in given.values:
        return _weighted_mean(ctx, scope, value, given)
    option = given.node(options[0]) if options else None
    if option is not None and option.axes:
        ctx.uncompiled(f"`{name}` with an option that differs from row to row", call.span)
    return reduce(ctx, name, scope, value, option)


def reduce(ctx: Context, name: str, scope: Scope, value: Value, option: Node | None = None) -> Value:
    admitted = scope.admitted
    present = core.all_of(admitted, value.present)
    node = core.Reduce(cast(core.ReduceOp, name), scope.over, value.node, present, scope.groups, option)
    kind = _kind(name, value.kind, scope)
    result = Value(node, kind, _presence(name, scope, value, present, option))
    if kind.name == "prob" and kind.axis:
        ctx.session.distributions[node] = kind.axis
    return result


def _presence(name: str, scope: Scope, value: Value, present: Node | None, option: Node | None) -> Node | None:
    """When the result exists: see Absent values on the language page."""
    some = _any(scope, present)
    if name in ("std", "var") and option is not None:
        number = core.Reduce("count", scope.over, value.node, present, scope.groups)
        return core.all_of(some, core.apply("lt", option, number))
    if scope.groups is not None:
        return some
    if name == "argmax":
        return None
    if name in MEAN_LIKE:
        return some if present is not None else None
    if value.present is None or some is None:
        return None
    admitted = _any(scope, scope.admitted) if scope.admitted is not None else None
    return some if admitted is None else core.apply("or", some, core.apply("not", admitted))


def _any(scope: Scope, condition: Node | None) -> Node | None:
    """Whether a condition admits any entry; None where it always does."""
    if condition is None:
        return None
    over = tuple(axis for axis in scope.over if axis in condition.axes)
    return core.Reduce("any", over, condition, None, scope.groups) if over else condition


def _weighted_mean(ctx: Context, scope: Scope, value: Value, given: Given) -> Value:
    """sum(w x) / sum(w), the denominator over the same entries."""
    weight = given.values["weight"]
    if not _numeric(ctx, weight, given.span("weight"), "mean"):
        return WRONG
    if not weight.node.domain.meets(iv.NONNEG):
        return ctx.wrong("E401", "a weight of `mean` is never negative", given.span("weight"),
                         label=f"lies in {weight.node.domain}")  # fmt: skip
    present = core.all_of(scope.admitted, value.present, weight.present)
    top = core.Reduce("sum", scope.over, core.mul(weight.node, value.node), present, scope.groups)
    covered = weight.axes | (present.axes if present is not None else frozenset())
    repeated = [core.Size(axis) for axis in scope.over if axis not in covered]
    bottom_axes = tuple(axis for axis in scope.over if axis in covered)
    bottom: Node = weight.node
    if bottom_axes:
        bottom = core.Reduce("sum", bottom_axes, weight.node, present, scope.groups)
    bottom = core.mul(bottom, *repeated)
    exists = core.apply("ne", bottom, core.ZERO)
    kept = value.kind if _keeps(value.kind, scope) else REAL
    return Value(core.div(top, core.where(exists, bottom, core.ONE)), kept, exists)


def _keeps(kind: Kind, scope: Scope) -> bool:
    return kind.name in ("prob", "logits", "embedding") and kind.axis not in scope.over


def _kind(name: str, kind: Kind, scope: Scope) -> Kind:
    if name in ("any", "all"):
        return mask(core.ZERO).kind
    if name == "argmax":
        return Kind("label", codomain=scope.over[0])
    if name == "mean" and _keeps(kind, scope):
        return kind
    if name == "sum" and kind.name == "logprob" and kind.axis not in scope.over:
        return kind
    return REAL


# ------------------------------------------------------------------------------------------------ the bracket


def read_scope(ctx: Context, name: str, bracket: syntax.Bracket) -> Scope | None:
    over: list[str] = []
    groups: tuple[Node, str] | None = None
    for selector in bracket.selectors:
        symbol = ctx.axis(selector.name, selector.span)
        if symbol is None:
            return None
        if symbol.name in over:
            ctx.wrong("E302", f"axis `{selector.name}` is named twice", selector.span)
            return None
        if selector.form == "by" and selector.value is not None:
            found = _groups(ctx, selector)
            if found is None:
                return None
            groups = found
        elif selector.form != "axis":
            _wrong_form(ctx, name, selector)
            return None
        over.append(symbol.name)
    where = read_where(ctx, bracket)
    return None if isinstance(where, bool) else Scope(tuple(over), where, groups)


def _groups(ctx: Context, selector: syntax.Selector) -> tuple[Node, str] | None:
    assert selector.value is not None
    label = ctx.value(selector.value)
    if label.wrong:
        return None
    if not label.is_label or label.kind.codomain is None:
        ctx.wrong("E208", "`by` needs a label: the group that each entry belongs to", selector.value.span,
                  label=describe(ctx, label), notes=declared_note(label),
                  help="declare it as `data g : label[b] in group`")  # fmt: skip
        return None
    return label.node, label.kind.codomain


def _wrong_form(ctx: Context, name: str, selector: syntax.Selector) -> None:
    ctx.wrong("E306", f"`{name}` takes names of axes here", selector.span,
              help=f"write `{name}[{selector.name}](…)`; a selection follows a value: `x[{selector.name} = …]`")  # fmt: skip


def read_where(ctx: Context, bracket: syntax.Bracket) -> Node | bool | None:
    """The condition of a bracket; None without one, False after a report."""
    if bracket.where is None:
        return None
    condition = ctx.value(bracket.where)
    if not need_mask(ctx, condition, bracket.where.span, "`where`"):
        return False
    return is_true(condition)


def _numeric(ctx: Context, value: Value, span: Span, name: str) -> bool:
    if value.wrong:
        return False
    if value.term is not None or value.kind.name in ("model", "choice", "weights"):
        hint = "`total(w)` sums the entries of a group of weights" if value.kind.name == "weights" else "call it first"
        ctx.wrong("E207", f"`{name}` needs numbers over axes", span, label=describe(ctx, value), help=hint)
        return False
    return True


def _has_axes(ctx: Context, name: str, scope: Scope, value: Value, bracket: syntax.Bracket) -> bool:
    there = value.axes | (scope.where.axes if scope.where is not None else frozenset())
    there |= value.present.axes if value.present is not None else frozenset()
    there |= scope.groups[0].axes if scope.groups else frozenset()
    for axis, selector in zip(scope.over, bracket.selectors, strict=True):
        if axis not in there:
            ctx.wrong("E304", f"`{name}` reduces `{selector.name}`, which is not an axis of its argument", selector.span,
                      label=f"the argument has {axes_text(ctx, there)}",
                      help=did_you_mean(selector.name, [ctx.written(a) for a in there]))  # fmt: skip
            return False
    return True


def count(ctx: Context, bracket: syntax.Bracket) -> Value:
    """`count[t where m]`: how many entries are admitted."""
    scope = read_scope(ctx, "count", bracket)
    if scope is None:
        return WRONG
    if scope.where is None and scope.groups is None:
        return Value(core.mul(*(core.Size(axis) for axis in scope.over)))
    there = scope.admitted.axes if scope.admitted is not None else frozenset()
    inner = tuple(axis for axis in scope.over if axis in there)
    missing = [core.Size(axis) for axis in scope.over if axis not in there]
    body = core.ONE
    counted = core.Reduce("count", inner, body, scope.admitted, scope.groups) if inner else core.where(
        scope.admitted, core.ONE, core.ZERO)  # fmt: skip
    present = None
    if scope.groups is not None:
        present = core.apply("lt", core.ZERO, counted)
    return Value(core.mul(counted, *missing), REAL, present)


# ------------------------------------------------------------------------------------------------ along an axis

MAX_AMOUNT = 2**31
_OPTIONS = {"shift": ("n", "fill"), "scan": ("decay",), "sort": ("by",), "topk": ("k",)}


def along(ctx: Context, name: str, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    options = _OPTIONS.get(name, ())
    required = 1 + (name in ("shift", "scan", "topk"))
    given = take(ctx, name, call, ("x", *options), required=required)
    if given is None:
        return WRONG
    selector = bracket.selectors[0]
    value = given.values["x"]
    if len(bracket.selectors) != 1 and name == "rank":
        return _rank_of_all(ctx, bracket, value, given)
    if len(bracket.selectors) != 1:
        return ctx.wrong("E306", f"`{name}` takes one axis", bracket.span, help=_of_one_axis(name, bracket))
    axis = ctx.axis(selector.name, selector.span)
    where = read_where(ctx, bracket)
    if axis is None or isinstance(where, bool) or not _numeric(ctx, value, given.span("x"), name):
        return WRONG
    by = _along_by(ctx, selector)
    if by is WRONG:
        return WRONG
    if name in ("shift", "topk") and not _is_whole(given.node(options[0])):
        ctx.uncompiled(f"`{name}` by an amount that is not written as a whole number", call.span)
    amount = constant_value(given.values[options[0]].node) if name in ("shift", "topk") else None
    if amount is not None and not (-MAX_AMOUNT if name == "shift" else 1) <= amount <= MAX_AMOUNT:
        return ctx.wrong("E401", "no axis has as many entries" if amount > 1 or name == "shift" else "`topk` takes at least 1",
                         given.span(options[0]))  # fmt: skip
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
        _wrong_form(ctx, name, selector)
        return WRONG
    group = by.node if by is not None else None
    if name == "shift":
        return _shift(axis.name, value, admitted, group, given)
    node = core.Along(cast(core.AlongOp, name), axis.name, value.node, admitted, group, given.node("decay"))
    return _along_value(ctx, name, axis.name, value, node, admitted)


def _rank_of_all(ctx: Context, bracket: syntax.Bracket, value: Value, given: Given) -> Value:
    """The place of each entry among those of several axes together; of equal ones that of the first axis named decides."""
    where = read_where(ctx, bracket)
    if isinstance(where, bool) or not _numeric(ctx, value, given.span("x"), "rank"):
        return WRONG
    there = value.axes | (where.axes if where is not None else frozenset())
    axes: list[str] = []
    for selector in bracket.selectors:
        axis = ctx.axis(selector.name, selector.span)
        if axis is None:
            return WRONG
        if selector.form != "axis" or axis.name in axes:
            return ctx.wrong("E306", "`rank` over several axes takes their names", selector.span, help="write `rank[b, t](…)`")
        if axis.name not in there:
            return ctx.wrong("E304", f"`rank` runs along `{selector.name}`, which is not an axis of its argument",
                             selector.span, label=f"the argument has {axes_text(ctx, value.axes)}")  # fmt: skip
        axes.append(axis.name)
    admitted = core.all_of(where, value.present)
    arguments = (value.node,) if admitted is None else (value.node, admitted)
    node = core.Call("rank", arguments, tuple(axes), tuple(axes), iv.Interval(0, iv.INF, integer=True), order=tuple(axes),
                     names=("", "where")[: len(arguments)])  # fmt: skip
    return Value(core.StopGrad(node), REAL, admitted)


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
    """The value `n` entries earlier, of those admitted and of the same group; absent, or `fill`, where there is none."""
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
        _wrong_form(ctx, name, selector)
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
    """Whether an amount is a whole number that is written out; without one it is."""
    return node is None or (isinstance(node, core.Const) and isinstance(node.value, Fraction) and node.value.denominator == 1)


def _number_of(node: Node | None) -> int | None:
    """A whole number from 1 that is a constant."""
    value = constant_value(node) if node is not None else None
    return int(value) if value is not None and value >= 1 and value == int(value) else None
