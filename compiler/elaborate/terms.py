"""Calls of terms: arguments, defaults, the binding of formal axes, and the body substituted for the call."""

from __future__ import annotations

from dataclasses import replace

from lossc.compiler import core
from lossc.compiler.elaborate.arithmetic import choice
from lossc.compiler.elaborate.binding import bind_axes
from lossc.compiler.elaborate.context import Context, describe
from lossc.compiler.elaborate.externs import check_extern, extern_call
from lossc.compiler.elaborate.misfit import accepted, found, lint_masks, wanted
from lossc.compiler.elaborate.signature import match_arguments
from lossc.compiler.elaborate.types import bounds_text, domain_text, fits, in_bounds, read_type
from lossc.compiler.elaborate.variables import as_variable, differentiated_names, settled_value
from lossc.compiler.kinds import NUMBERS, REAL, Kind
from lossc.compiler.mentions import axes_made, formal_axes, syntax_nodes
from lossc.compiler.program import Binding
from lossc.compiler.symbols import AxisSymbol, Frame, TermSymbol, ValueSymbol
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax
from lossc.grammar.diagnostics import Diagnostics, Note
from lossc.grammar.printer import print_expr
from lossc.grammar.source import Span

TERM = Kind("term")
_REAL_TYPE = syntax.Type("real")


def built_in(ctx: Context, function: str) -> TermSymbol:
    """A function of the language passed as a term: `fdiv(exp, p, q)`."""
    body = syntax.Call(syntax.Name(function), (syntax.Argument(syntax.Name("x")),))
    declaration = syntax.Term(function, (syntax.Formal("x", _REAL_TYPE),), body)
    return TermSymbol(function, declaration, Frame("objective", own=False), own=False, sound=True)


ABSTRACT = TermSymbol(
    "f", syntax.Term("f", (syntax.Formal("x", _REAL_TYPE),), syntax.Name("x")), Frame("objective", own=False), own=False
)
"""What stands for a term that is an argument, while the body around it is checked on its own."""


def call(ctx: Context, term: TermSymbol, bracket: syntax.Bracket | None, expr: syntax.Call) -> Value:
    term.used = True
    if ctx.depth == 0:
        ctx.session.outermost = expr.span
    if not sound(ctx, term):
        return WRONG
    formals = term.declaration.formals
    arguments = _arguments(ctx, term, formals, expr)
    if arguments is None:
        return WRONG
    if term is ABSTRACT:
        value = arguments["x"][0]
        return Value(core.Call("abstract", (value.node,)), REAL, value.present)
    axes = bind_axes(ctx, term, bracket, arguments, expr)
    if axes is None:
        return WRONG
    frame = Frame("term", own=term.own, terms=term.frame.terms, axes=dict(axes), objective=ctx.session.top)
    inner = ctx.inside(frame, quiet=True, depth=ctx.depth + 1)
    frame.mark = inner.mark(term, axes.values())
    for formal in formals:
        bound = _bound(ctx, inner, term, formal, arguments, expr)
        if bound is None:
            return WRONG
        frame.values[formal.name] = bound
    return _memoised(ctx, inner, term, expr)


def _arguments(
    ctx: Context, term: TermSymbol, formals: tuple[syntax.Formal, ...], expr: syntax.Call
) -> dict[str, tuple[Value, Span]] | None:
    """The arguments, written or captured by `from`, evaluated in the context of the call."""
    placed = match_arguments(ctx, term.name, expr, tuple(formal.name for formal in formals))
    if placed is None:
        return None
    found: dict[str, tuple[Value, Span]] = {}
    for formal in formals:
        if formal.name in placed:
            written = placed[formal.name].value
            found[formal.name] = (_argument(ctx, formal, written), written.span)
        elif isinstance(formal.default, syntax.From):
            captured = _captured(ctx, term, formal, formal.default, expr)
            if captured is None:
                return None
            found[formal.name] = (captured, expr.span)
        elif formal.default is None:
            _missing(ctx, term, formal, expr)
            return None
    if any(value.wrong for value, _ in found.values()):
        return None
    lint_masks(ctx, term, expr, placed, found)
    return found


def _argument(ctx: Context, formal: syntax.Formal, written: syntax.Expr) -> Value:
    """An argument or default, evaluated for its kind: the name of a choice is one of that choice's words."""
    if formal.type is not None and formal.type.kind == "choice":
        return choice(ctx, Kind("choice", choices=formal.type.choices), written)
    return ctx.value(written)


def _captured(
    ctx: Context, term: TermSymbol, formal: syntax.Formal, default: syntax.From, expr: syntax.Call
) -> Value | None:
    """`from name`: the value of that name at the level of the objective."""
    symbol = ctx.frame.values.get(default.name) if ctx.frame.kind in ("objective", "setting") else None
    if not isinstance(symbol, ValueSymbol):
        if default.name in ctx.session.unread:
            return None
        where = "nothing of that name is in this file" if ctx.frame.kind != "term" else "a term captures nothing"
        ctx.wrong("E201", f"`{term.name}` needs `{formal.name}`: it is taken from `{default.name}`, and {where}",
                  expr.span, notes=[Note("declared here", formal.span)],
                  help=f"write `{term.name}({formal.name} = …)`, or use a setting that has `{default.name}`")  # fmt: skip
        return None
    value = ctx.value(syntax.Name(default.name, span=expr.span))
    if not value.wrong and ctx.frame.kind == "objective":
        ctx.session.bindings.append(Binding(term.name, formal.name, default.name, expr.span))
    return value


def _missing(ctx: Context, term: TermSymbol, formal: syntax.Formal, expr: syntax.Call) -> None:
    type_text = f" : {formal.type.kind}" if formal.type is not None else ""
    ctx.wrong("E201", f"`{term.name}` needs `{formal.name}{type_text}`", expr.span,
              notes=[Note("declared here", formal.span)],
              help=f"its arguments are {', '.join(f.name for f in term.declaration.formals)}")  # fmt: skip


def _bound(
    ctx: Context, inner: Context, term: TermSymbol, formal: syntax.Formal,
    arguments: dict[str, tuple[Value, Span]], expr: syntax.Call,
) -> Value | None:  # fmt: skip
    """The value of a formal inside the body, after a check of its kind, domain and axes."""
    if formal.name in arguments:
        value, span = arguments[formal.name]
    else:
        assert formal.default is not None and not isinstance(formal.default, syntax.From)
        value, span = _argument(inner, formal, formal.default), expr.span
        if value.wrong:
            return None
        if ctx.frame.kind == "objective":
            text = print_expr(formal.default)
            ctx.session.bindings.append(Binding(term.name, formal.name, text, expr.span))
    read = read_type(inner, formal.type or _REAL_TYPE)
    if read is None:
        return None
    kind, order = read
    captured = isinstance(formal.default, syntax.From) and span is expr.span
    text = formal.default.name if captured else " ".join(span.text.split())  # type: ignore[union-attr]
    if not accepted(ctx, inner, term, formal, kind, order, value, span, text):
        return None
    if kind.name == "prob" and kind.axis:
        ctx.session.distributions[value.node] = kind.axis
    return replace(value, kind=_inner_kind(kind, value), declared=value.declared or formal.span)


def _inner_kind(kind: Kind, value: Value) -> Kind:
    if kind.name == "label" and kind.codomain is None:
        return value.kind
    if kind.name in NUMBERS:
        return value.kind if value.is_label or value.kind.name == "weights" else REAL
    return value.kind if kind.name in ("weights", "term", "model") else kind


# ------------------------------------------------------------------------------------------------ the body


def _memoised(ctx: Context, inner: Context, term: TermSymbol, expr: syntax.Call) -> Value:
    """The body, evaluated once for equal arguments, so that terms over terms grow only with their text."""
    key = (
        term,
        tuple((v.node, v.kind, v.present, v.term) for v in inner.frame.values.values() if isinstance(v, Value)),
        tuple((name, symbol.name) for name, symbol in inner.frame.axes.items()),
    )
    calls = ctx.session.calls
    if key not in calls:
        calls[key] = _body(ctx, inner, term, expr)
    return calls[key]


_MISFIT = "this call of"


def _body(ctx: Context, inner: Context, term: TermSymbol, expr: syntax.Call) -> Value:
    if isinstance(term.declaration, syntax.Extern):
        return extern_call(inner, term.name, term.declaration)
    outer, ctx.session.problems = ctx.session.problems, Diagnostics()
    try:
        value = evaluate_body(inner, term.declaration)
        faults = ctx.session.problems.errors
    finally:
        ctx.session.problems = outer
    if not value.wrong:
        return value
    for fault in faults[:1]:
        deeper = fault.message.startswith(_MISFIT)
        message = fault.message.partition(": ")[2] if deeper else fault.message
        notes = fault.notes if deeper else (Note("in its body", fault.span), *fault.notes)
        ctx.wrong(fault.code, f"{_MISFIT} `{term.name}` does not fit: {message}", expr.span, notes=notes,
                  label=fault.label, help=fault.help)  # fmt: skip
    return WRONG


def evaluate_body(ctx: Context, term: syntax.Term) -> Value:
    """Evaluates the lets of a term in order, then its expression, and checks the result against the signature."""
    made = [name for name, span in axes_made((term.lets, term.body), ctx.frame.terms) if ctx.new_axis(name, span)]
    by, before = set(differentiated_names((term.lets, term.body))), len(ctx.session.pending)
    for name in by & ctx.frame.values.keys():
        given = ctx.frame.values[name]
        ctx.frame.values[name] = as_variable(ctx.session, name, given) if isinstance(given, Value) else given
    for let in term.lets:
        if let.name in ctx.frame.values:
            return ctx.wrong("E102", f"`{let.name}` is already a name in this term", let.span)
        value = ctx.value(let.value)
        if value.wrong:
            return WRONG
        if let.name in by:
            value = as_variable(ctx.session, let.name, value)
        ctx.frame.values[let.name] = replace(value, declared=let.span)
    value = ctx.value(term.body)
    value = settled_value(ctx.session, value, before) if by else value
    if value.wrong or not _axes_as_promised(ctx, term, value, made):
        return WRONG
    if term.result is None:
        return value
    read = read_type(ctx, term.result)
    if read is None:
        return WRONG
    kind, _ = read
    if not fits(kind, value):
        return ctx.wrong("E204", f"the result of `{term.name}` is declared as {wanted(ctx, kind)}, and it is"
                         f" {found(value)}", term.body.span, notes=[Note("declared here", term.result.span)])  # fmt: skip
    return value if kind.name in NUMBERS else replace(value, kind=kind)


def _axes_as_promised(ctx: Context, term: syntax.Term, value: Value, made: list[str]) -> bool:
    """Checks that the result has, among the axes named or made by the term, those of its signature; others pass through."""
    named = formal_axes(term)
    inside = [name for name in made if name not in named and ctx.frame.axes[name].name in value.axes]
    promised = set(term.result.axes or ()) if term.result is not None else set()
    notes = [Note("declared here", term.result.span)] if term.result is not None else []
    missing = [name for name in promised if ctx.frame.axes[name].name not in value.axes]
    extra = [name for name in named if ctx.frame.axes[name].name in value.axes and name not in promised]
    if inside:
        message = f"axis `{inside[0]}` is made in `{term.name}` and leaves it unannounced"
        help_ = f"name the axes of the result: `term {term.name}(…) -> real[…, {inside[0]}] = …`, or reduce it"
    elif missing:
        message, help_ = f"the result of `{term.name}` is declared with axis `{missing[0]}`, and does not have it", ""
    elif extra and term.result is not None:
        message, help_ = f"the result of `{term.name}` is declared without axis `{extra[0]}`, and has it", ""
    else:
        return True
    ctx.wrong("E310", message, term.body.span, label=describe(ctx, value), notes=notes, help=help_)
    return False


# ------------------------------------------------------------------------------------------------ a term on its own


def sound(ctx: Context, term: TermSymbol) -> bool:
    """Checks the body of a term on its own, once; reports a term that calls itself."""
    if term in ctx.session.open_terms:
        cycle = [*ctx.session.open_terms[ctx.session.open_terms.index(term) :], term]
        path = f": {' -> '.join(f'`{link.name}`' for link in cycle)}" if len(cycle) > 2 else ""
        notes = [Note(f"`{link.name}` is declared here", link.span) for link in cycle[1:-1]]
        ctx.wrong("E106", f"the term `{term.name}` calls itself{path}", term.span, notes=notes,
                  help="a term is an equation, not a program")  # fmt: skip
        return False
    if term.sound is None:
        ctx.session.open_terms.append(term)
        ctx.session.outermost = ctx.session.open_terms[0].span
        outer, ctx.session.problems = ctx.session.problems, Diagnostics()
        _check(ctx, term)
        found, ctx.session.problems = ctx.session.problems, outer
        ctx.session.open_terms.pop()
        term.sound = not found.errors
        for problem in found.found:
            ctx.session.problems.add(problem)
    return term.sound


def _check(ctx: Context, term: TermSymbol) -> None:
    frame = Frame("term", own=term.own, terms=term.frame.terms, objective=ctx.session.top)
    inner = Context(ctx.session, frame, depth=1)
    frame.mark = inner.mark(term, ())
    for name in formal_axes(term.declaration):
        frame.axes[name] = AxisSymbol(name, term.span, declared=False, formal=True)
    for formal in term.declaration.formals:
        if formal.name in frame.values:
            ctx.wrong("E102", f"`{formal.name}` is declared twice", formal.span)
        frame.values[formal.name] = formal_value(inner, formal)
    if isinstance(term.declaration, syntax.Extern):
        check_extern(inner, term)
    if isinstance(term.declaration, syntax.Term) and not any(
        isinstance(value, Value) and value.wrong for value in frame.values.values()
    ):
        for formal in term.declaration.formals:
            if formal.default is not None and not isinstance(formal.default, syntax.From):
                _check_default(inner, term, formal)
        evaluate_body(inner, term.declaration)
        _unused(inner, term.declaration)


def _check_default(ctx: Context, term: TermSymbol, formal: syntax.Formal) -> None:
    assert formal.default is not None and not isinstance(formal.default, syntax.From)
    value = _argument(ctx, formal, formal.default)
    read = read_type(ctx, formal.type or _REAL_TYPE)
    if read is not None and not value.wrong and read[0].name in NUMBERS and not in_bounds(read[0], value):
        message = f"the default of `{formal.name}` must be {bounds_text(read[0])}, and this {domain_text(value)}"
        ctx.wrong("E401", message, formal.default.span)


def _unused(ctx: Context, term: syntax.Term) -> None:
    read = {node.id.split(".")[0] for node in syntax_nodes((term.body, term.lets)) if isinstance(node, syntax.Name)}
    defaults = tuple(formal.default for formal in term.formals)
    read |= {node.id for node in syntax_nodes(defaults) if isinstance(node, syntax.Name)}
    declared: list[syntax.Formal | syntax.Let] = [*term.formals, *term.lets]
    for item in declared:
        if item.name not in read:
            place = replace(item.span, end=item.span.start + len(item.name))
            at = place if isinstance(item, syntax.Formal) else item.name_span
            ctx.warn("W101", f"`{item.name}` of `{term.name}` is never used", at, help="remove it")


def formal_value(ctx: Context, formal: syntax.Formal) -> Value:
    """A formal argument as an unknown of its kind."""
    read = read_type(ctx, formal.type or _REAL_TYPE)
    if read is None:
        return WRONG
    kind, order = read
    if kind.name == "term":
        return Value(core.ZERO, TERM, declared=formal.span, term=ABSTRACT)
    node = core.Input(f"{formal.name}", order, kind.name, kind.bounds)
    if kind.name == "prob" and kind.axis:
        ctx.session.distributions[node] = kind.axis
    return Value(node, REAL if kind.name in NUMBERS else kind, None, formal.span)
