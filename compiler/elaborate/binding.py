"""Which axis of the caller each formal axis of a term stands for."""

from __future__ import annotations

from collections.abc import Iterator

from lossc.compiler.elaborate.context import Context
from lossc.compiler.elaborate.misfit import known_misfit
from lossc.compiler.kinds import DISTRIBUTIONS, Signature
from lossc.compiler.mentions import axes_of, formal_axes
from lossc.compiler.symbols import AxisSymbol, TermSymbol
from lossc.compiler.values import Value
from lossc.grammar import syntax
from lossc.grammar.diagnostics import Note
from lossc.grammar.source import Span


def bind_axes(
    ctx: Context,
    term: TermSymbol,
    bracket: syntax.Bracket | None,
    given: dict[str, tuple[Value, Span]],
    expr: syntax.Call,
) -> dict[str, AxisSymbol] | None:
    """Each formal axis with the axis of the caller; None after a report.

    A formal axis is bound, in this order: explicitly, `ce[v = k](z, y)`; by the codomain of a label; by the last axis
    of an argument whose kind names one; by an axis of the same name. It is an error if two of the first three disagree.
    """
    arguments = {name: value for name, (value, _) in given.items()}
    names = formal_axes(term.declaration)
    explicit = _explicit(ctx, term, bracket, names)
    if explicit is None:
        return None
    bound: dict[str, AxisSymbol] = {}
    for name in names:
        found = dict(explicit.get(name, {}))
        for core_name, why in _implied(term, name, arguments):
            found.setdefault(core_name, why)
        if len(found) > 1:
            if not known_misfit(ctx, term, given):
                _disagree(ctx, term, name, found, expr)
            return None
        symbol = ctx.axis_named(next(iter(found))) if found else _same_name(ctx, term, name, arguments)
        if symbol is None:
            if not known_misfit(ctx, term, given):
                _unbound(ctx, term, name, expr)
            return None
        bound[name] = symbol
    return bound if _distinct(ctx, term, bound, expr) else None


def _explicit(
    ctx: Context, term: TermSymbol, bracket: syntax.Bracket | None, names: tuple[str, ...]
) -> dict[str, dict[str, str]] | None:
    found: dict[str, dict[str, str]] = {}
    for selector in bracket.selectors if bracket is not None else ():
        target = selector.value.id if isinstance(selector.value, syntax.Name) else selector.name
        if selector.form not in ("at", "axis") or (
            selector.form == "at" and not isinstance(selector.value, syntax.Name)
        ):
            ctx.wrong("E306", f"a bracket behind `{term.name}` binds its axes", selector.span,
                      help=f"write `{term.name}[{names[0] if names else 'v'} = k](…)`")  # fmt: skip
            return None
        if selector.name not in names:
            known = f"its axes are {', '.join(names)}" if names else "it names none"
            ctx.wrong("E309", f"`{term.name}` has no axis `{selector.name}`", selector.span, help=known)
            return None
        symbol = ctx.axis(target, selector.span)
        if symbol is None:
            return None
        found[selector.name] = {symbol.name: "as written here"}
    if bracket is not None and bracket.where is not None:
        ctx.wrong("E306", f"`{term.name}` takes no `where`", bracket.where.span,
                  help="`where` belongs to a reduction around the call: `mean[t where m](…)`")  # fmt: skip
        return None
    return found


def _implied(term: TermSymbol, name: str, arguments: dict[str, Value]) -> Iterator[tuple[str, str]]:
    for formal in term.declaration.formals:
        value, type_ = arguments.get(formal.name), formal.type
        if value is not None and type_ is not None and type_.kind == "label" and type_.within == name:
            if value.kind.codomain is not None:
                yield value.kind.codomain, f"`{formal.name}` points into it"
    for formal in term.declaration.formals:
        value, type_ = arguments.get(formal.name), formal.type
        if value is not None and type_ is not None and type_.kind == "model" and value.kind.signature is not None:
            for axis in dict.fromkeys(_of_model(name, type_, value.kind.signature)):
                yield axis, f"`{formal.name}` has it there"
        if value is not None and type_ is not None and type_.kind == "weights" and name in (type_.axes or ()):
            if value.kind.leaves is not None:
                yield value.kind.leaves, f"`{formal.name}` has it"
        if value is not None and type_ is not None and type_.kind in DISTRIBUTIONS and type_.axes:
            if type_.axes[-1] == name and value.kind.axis is not None and value.kind.axis in value.axes:
                yield value.kind.axis, f"`{formal.name}` is over it"


def _of_model(name: str, type_: syntax.Type, signature: Signature) -> Iterator[str]:
    """The axes of a model where the kind of a formal names an axis."""
    formal = [*type_.parameters, *((type_.result,) if type_.result is not None else ())]
    for written, (_, order) in zip(formal, (*signature.parameters, signature.result), strict=False):
        yield from (axis for own, axis in zip(written.axes or (), order, strict=False) if own == name)


def _same_name(ctx: Context, term: TermSymbol, name: str, arguments: dict[str, Value]) -> AxisSymbol | None:
    symbol = ctx.frame.axes.get(name)
    naming = [
        arguments[formal.name]
        for formal in term.declaration.formals
        if formal.type is not None and name in axes_of(formal.type) and formal.name in arguments
    ]
    if symbol is not None and (not naming or any(symbol.name in value.axes for value in naming)):
        return symbol
    if not naming and symbol is None:
        return ctx.new_axis(name, term.span)
    return None


def _disagree(ctx: Context, term: TermSymbol, name: str, found: dict[str, str], expr: syntax.Call) -> None:
    reasons = [f"`{ctx.written(axis)}` ({why})" for axis, why in found.items()]
    ctx.wrong("E309", f"axis `{name}` of `{term.name}` would be both {' and '.join(reasons)}", expr.span,
              notes=[Note("declared here", term.span)], help="make the arguments agree on one axis")  # fmt: skip


def _unbound(ctx: Context, term: TermSymbol, name: str, expr: syntax.Call) -> None:
    ctx.wrong("E309", f"it is not clear which axis `{name}` of `{term.name}` stands for", expr.span,
              notes=[Note("declared here", term.span)], help=f"name it: `{term.name}[{name} = …](…)`")  # fmt: skip


def _distinct(ctx: Context, term: TermSymbol, bound: dict[str, AxisSymbol], expr: syntax.Call) -> bool:
    seen: dict[str, str] = {}
    for name, symbol in bound.items():
        if symbol.name in seen:
            ctx.wrong("E309", f"axes `{seen[symbol.name]}` and `{name}` of `{term.name}` would both be"
                      f" `{ctx.written(symbol.name)}`", expr.span, help=f"name them: `{term.name}[{name} = …](…)`")  # fmt: skip
            return False
        seen[symbol.name] = name
    return True
