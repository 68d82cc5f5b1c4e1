"""Statements of a file, each checked against its form: states, constraints, and the reduction of a setting."""

from __future__ import annotations

from typing import Literal

from lossc.compiler import core
from lossc.compiler import intervals as iv
from lossc.compiler.builtins import REDUCTIONS
from lossc.compiler.elaborate.brackets import read_scope
from lossc.compiler.elaborate.context import Context, axes_text, declared_note, describe
from lossc.compiler.elaborate.types import read_type
from lossc.compiler.intervals import Interval
from lossc.compiler.lagrangian import multiplier
from lossc.compiler.program import ConstraintInfo, StateInfo
from lossc.compiler.symbols import AxisSymbol
from lossc.compiler.values import Value
from lossc.grammar import syntax
from lossc.grammar.diagnostics import Note
from lossc.grammar.source import Span


def state(ctx: Context, name: str, item: syntax.State, node: core.Param) -> StateInfo | None:
    """`state name : type = initial then renewal`; None after a report."""
    read = read_type(ctx, item.type)
    initial, renewal = ctx.value(item.initial), ctx.value(item.renewal)
    if read is None or initial.wrong or renewal.wrong:
        return None
    kind, order = read
    if not all(_is_fixed(leaf) for leaf in core.walk(initial.node)):
        ctx.wrong("E402", f"the value with which `{name}` begins must be a constant", item.initial.span,
                  help="what it becomes from the batch stands behind `then`")  # fmt: skip
        return None
    split = [symbol for axis in order if (symbol := ctx.axis_named(axis)) is not None and symbol.batch]
    if split:
        ctx.wrong("E408", f"the state `{name}` would have the batch axis `{ctx.written(split[0].name)}`", item.type.span,
                  notes=[Note("declared here", split[0].span)],
                  help=f"for a value of each training example write `{name} : {kind.name}[example]` with"
                  " `data id : label[b] in example`, read it as "
                  f"`{name}[example = id]` and renew it by `mean[b by id](…)`")  # fmt: skip
        return None
    for what, value, span in (("first value", initial, item.initial.span), ("renewal", renewal, item.renewal.span)):
        if not _has_only(ctx, f"the {what} of `{name}`", value, order, span):
            return None
    return StateInfo(name, kind, order, node, initial.node, renewal.node, renewal.present, item.name_span)


def _is_fixed(node: core.Node) -> bool:
    """Whether a part of an expression is known before the run begins."""
    if isinstance(node, core.Param):
        return node.role == "param"
    return not isinstance(node, core.Input | core.Draw | core.Call)


def _has_only(ctx: Context, what: str, value: Value, order: tuple[str, ...], span: Span) -> bool:
    extra = (value.axes | (value.present.axes if value.present is not None else frozenset())) - set(order)
    if extra:
        ctx.wrong("E312", f"{what} still has {axes_text(ctx, extra)}", span, label=describe(ctx, value),
                  help="reduce it, or declare the state over that axis")  # fmt: skip
    return not extra


def constraint(ctx: Context, item: syntax.Constraint) -> ConstraintInfo | None:
    """`subject to name [per axis [by id]] : u <= bound`; None after a report."""
    compared = item.value
    if not isinstance(compared, syntax.Compare) or len(compared.ops) != 1 or compared.ops[0] not in ("<=", ">=", "=="):
        ctx.wrong("E503", f"the constraint `{item.name}` must be one comparison", item.value.span,
                  help="write `u <= bound`, `u >= bound` or `u == value`; two bounds are two constraints")  # fmt: skip
        return None
    left, right = (ctx.value(side) for side in compared.operands)
    head = Span(item.span.source, item.span.start, item.value.span.start)
    per = ctx.axis(item.per, head) if item.per else None
    by = ctx.value(syntax.Name(item.by, span=_of(head, item.by))) if item.by else None
    if left.wrong or right.wrong or (item.per and per is None) or (by is not None and by.wrong):
        return None
    if compared.ops[0] == ">=":
        left, right = right, left
    node, present = core.sub(left.node, right.node), core.all_of(left.present, right.present)
    own = {per.name} if per else set()
    extra = (node.axes | (by.axes if by else frozenset())) - own
    if extra:
        ctx.wrong("E312", f"the constraint `{item.name}` still has {axes_text(ctx, extra)}", item.value.span,
                  help="reduce it, or write `per` an axis")  # fmt: skip
        return None
    if _relation(compared.ops[0]) == "<=" and not (node.domain.meets(iv.POSITIVE) and node.domain.meets(NOT_POSITIVE)):
        always = "always" if not node.domain.meets(iv.POSITIVE) else "never"
        ctx.warn("W304", f"the constraint `{item.name}` {always} holds, whatever the batch", item.value.span,
                 help="its two sides lie apart: is the bound the one that was meant?")  # fmt: skip
    if per is not None and not _has_multipliers(ctx, item, per, by, head):
        return None
    relation = _relation(compared.ops[0])
    codomain = by.kind.codomain if by is not None else None
    order = (codomain,) if codomain is not None else tuple(own)
    leaf = multiplier(item.name, relation, order)
    return ConstraintInfo(
        item.name, relation, node, present, per.name if per else None, by.node if by else None, leaf, item.span
    )  # fmt: skip


NOT_POSITIVE = Interval(-iv.INF, 0)


def _relation(operator: str) -> Literal["<=", "=="]:
    """The relation of a constraint, with everything on one side."""
    return "==" if operator == "==" else "<="


def _has_multipliers(ctx: Context, item: syntax.Constraint, per: AxisSymbol, by: Value | None, head: Span) -> bool:
    """Checks `per` and `by`: one multiplier for each entry of an axis, or for each label of the entries."""
    declare = "declare `axis example` and `data id : label[b] in example`, and write `per b by id`"
    if by is not None and (not by.is_label or by.kind.codomain is None):
        ctx.wrong("E208", "`by` needs a label: the training example that each entry is", _of(head, item.by or ""),
                  label=describe(ctx, by), notes=declared_note(by), help=declare)  # fmt: skip
        return False
    if by is None and per.batch:
        ctx.wrong("E506", f"`{item.name}` would have a multiplier for each row of a batch, and the rows change", head,
                  notes=[Note("declared here", per.span)], help=declare)  # fmt: skip
        return False
    return True


def _of(head: Span, name: str) -> Span:
    """The last place of a name in the head of a constraint."""
    at = head.text.rfind(name)
    return Span(head.source, head.start + at, head.start + at + len(name)) if at >= 0 else head


def usual_reduction(ctx: Context, item: syntax.Reduce) -> None:
    """`reduce mean[b, t where mask]`: a reduction, its axes and a condition."""
    value = item.value
    if (
        not isinstance(value, syntax.Bracket)
        or not isinstance(value.head, syntax.Name)
        or value.head.id not in REDUCTIONS
    ):
        ctx.wrong("E502", "`reduce` names a reduction and its axes", value.span, help="write `reduce mean[b]`")
    else:
        read_scope(ctx, value.head.id, value)
