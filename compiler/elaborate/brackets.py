"""The bracket of a reduction: `[b, t by g where mask]`."""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler import core
from lossc.compiler.core import Node
from lossc.compiler.elaborate.arithmetic import need_mask
from lossc.compiler.elaborate.context import Context, declared_note, describe
from lossc.compiler.values import Value, is_true
from lossc.grammar import syntax
from lossc.grammar.source import Span


@dataclass(frozen=True)
class Scope:
    """The axes that are reduced, the condition on entries, and the groups (a label, and the axis of the groups)."""

    over: tuple[str, ...]
    where: Node | None
    groups: tuple[Node, str] | None = None

    @property
    def admitted(self) -> Node | None:
        """The condition on entries, including membership in a group: an entry with the label *none* is in no group."""
        member = core.apply("le", core.ZERO, self.groups[0]) if self.groups else None
        return core.all_of(self.where, member)


def read_scope(ctx: Context, name: str, bracket: syntax.Bracket) -> Scope | None:
    """The bracket of the reduction `name`; None after a report."""
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
            wrong_form(ctx, name, selector)
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


def wrong_form(ctx: Context, name: str, selector: syntax.Selector) -> None:
    """Reports a selector that is not the name of an axis."""
    ctx.wrong("E306", f"`{name}` takes names of axes here", selector.span,
              help=f"write `{name}[{selector.name}](…)`; a selection follows a value: `x[{selector.name} = …]`")  # fmt: skip


def read_where(ctx: Context, bracket: syntax.Bracket) -> Node | bool | None:
    """The condition of a bracket; None where there is none, False after a report."""
    if bracket.where is None:
        return None
    condition = ctx.value(bracket.where)
    if not need_mask(ctx, condition, bracket.where.span, "`where`"):
        return False
    return is_true(condition)


def is_numeric(ctx: Context, value: Value, span: Span, name: str) -> bool:
    """Whether a value is numeric and has axes, as `name` requires; reports it otherwise."""
    if value.wrong:
        return False
    if value.term is not None or value.kind.name in ("model", "choice", "weights"):
        hint = "`total(w)` sums the entries of a group of weights" if value.kind.name == "weights" else "call it first"
        ctx.wrong("E207", f"`{name}` needs numbers over axes", span, label=describe(ctx, value), help=hint)
        return False
    return True
