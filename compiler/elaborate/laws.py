"""Laws: names, kinds and axes of a claim; every free name is bound by `for` or by `with`."""

from __future__ import annotations

from lossc.compiler import core
from lossc.compiler.elaborate.context import Context
from lossc.compiler.elaborate.terms import formal_value
from lossc.compiler.mentions import axes_made, syntax_nodes
from lossc.compiler.symbols import AxisSymbol, Frame
from lossc.compiler.values import Value
from lossc.grammar import syntax


def check_law(ctx: Context, law: syntax.Law) -> Value:
    """The claim as a mask, in a frame of its own in which the names of `for` are unknowns."""
    frame = Frame("law", own=True, terms=ctx.frame.terms, objective=ctx.session.top)
    inner = Context(ctx.session, frame, depth=1, quiet=True)
    bound = {formal.name for formal in law.formals}
    types = {formal.name: formal.type or _implied(ctx, law, formal.name) for formal in law.formals}
    for type_ in types.values():
        for name in _axes(type_):
            frame.axes.setdefault(name, AxisSymbol(name, law.span, declared=False))
    for formal in law.formals:
        frame.values[formal.name] = formal_value(
            inner, syntax.Formal(formal.name, types[formal.name], span=formal.span)
        )
    for name, span in axes_made((law.lets, law.claim), frame.terms):
        inner.new_axis(name, span)
    for let in law.lets:
        if let.name in bound:
            ctx.wrong("E102", f"`{let.name}` is bound by `for` and by `with`", let.span)
        frame.values[let.name] = inner.value(let.value)
    claim = law.claim
    if not isinstance(claim, syntax.Compare):
        return ctx.wrong(
            "E504", "a law claims a comparison", claim.span, help="write `left == right` or `left >= right`"
        )
    value = inner.value(claim)
    if not value.wrong:
        ctx.session.spans.setdefault(value.node, claim.span)
    return value if not value.wrong else Value(core.ZERO, wrong=True)


def _axes(type_: syntax.Type) -> tuple[str, ...]:
    within = (type_.within,) if type_.kind == "label" and isinstance(type_.within, str) else ()
    return (*(type_.axes or ()), *within)


def _implied(ctx: Context, law: syntax.Law, name: str) -> syntax.Type:
    """The type of the argument for which a name stands in the first call of a term that uses it."""
    for node in syntax_nodes((law.claim, law.lets)):
        if not isinstance(node, syntax.Call):
            continue
        head = node.function.head if isinstance(node.function, syntax.Bracket) else node.function
        term = ctx.frame.terms.get(head.id) if isinstance(head, syntax.Name) else None
        if term is None:
            continue
        formals = term.declaration.formals
        for position, argument in enumerate(node.arguments):
            if isinstance(argument.value, syntax.Name) and argument.value.id == name:
                matching = [f for f in formals if f.name == argument.name] or list(formals[position : position + 1])
                if matching and matching[0].type is not None:
                    return matching[0].type
    return syntax.Type("real")
