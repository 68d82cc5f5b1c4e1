"""Reductions `op[axes where mask](x)`, group reductions `op[b by g](x)`, and `count`.

The rules of absence (the value of a reduction over nothing, or over absent entries only) are on the language page,
section Absent and excluded.
"""

from __future__ import annotations

from typing import cast

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.core import Node
from lossc.compiler.elaborate.arithmetic import need_mask
from lossc.compiler.elaborate.brackets import Scope, is_numeric, read_scope
from lossc.compiler.elaborate.context import Context, axes_text
from lossc.compiler.elaborate.signature import Given, take
from lossc.compiler.kinds import MASK, REAL, Kind
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax
from lossc.grammar.suggest import did_you_mean

MEAN_LIKE = ("mean", "max", "min", "median", "quantile", "std", "var")
"""Reductions that have no value where no entry is admitted."""


def reduction(ctx: Context, name: str, bracket: syntax.Bracket, call: syntax.Call) -> Value:
    """A call of one of `builtins.REDUCTIONS`."""
    options = {"mean": ("weight",), "quantile": ("level",), "var": ("ddof",), "std": ("ddof",)}.get(name, ())
    scope = read_scope(ctx, name, bracket)
    inside = ctx.assuming(scope.where) if scope is not None else ctx
    given = take(inside, name, call, ("x", *options), required=1 + (name == "quantile"))
    if given is None or scope is None:
        return WRONG
    value = given.values["x"]
    if name in ("any", "all") and not need_mask(ctx, value, given.span("x"), f"`{name}`"):
        return WRONG
    if not is_numeric(ctx, value, given.span("x"), name) or not _has_axes(ctx, name, scope, value, bracket):
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
    """The reduction of a value; `option` is the level of a quantile, or the ddof of `var` and `std`."""
    admitted = scope.admitted
    present = core.all_of(admitted, value.present)
    node = core.Reduce(cast(core.ReduceOp, name), scope.over, value.node, present, scope.groups, option)
    kind = _kind(name, value.kind, scope)
    result = Value(node, kind, _presence(name, scope, value, present, option))
    if kind.name == "prob" and kind.axis:
        ctx.session.distributions[node] = kind.axis
    return result


def _presence(name: str, scope: Scope, value: Value, present: Node | None, option: Node | None) -> Node | None:
    """The mask of the entries of a result that exist; None means all."""
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
    """Whether a condition admits any entry; None if it always does."""
    if condition is None:
        return None
    over = tuple(axis for axis in scope.over if axis in condition.axes)
    return core.Reduce("any", over, condition, None, scope.groups) if over else condition


def _weighted_mean(ctx: Context, scope: Scope, value: Value, given: Given) -> Value:
    """sum(w x) / sum(w), both over the same entries."""
    weight = given.values["weight"]
    if not is_numeric(ctx, weight, given.span("weight"), "mean"):
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
        return MASK
    if name == "argmax":
        return Kind("label", codomain=scope.over[0])
    if name == "mean" and _keeps(kind, scope):
        return kind
    if name == "sum" and kind.name == "logprob" and kind.axis not in scope.over:
        return kind
    return REAL


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
    """`count[t where m]`: the number of admitted entries."""
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
