"""What is allowed and probably not meant: unused and shadowed names."""

from __future__ import annotations

from lossc.compiler.elaborate.context import Context
from lossc.compiler.gather import BUILT_IN, Gathered, syntax_nodes
from lossc.compiler.symbols import ValueSymbol
from lossc.grammar import syntax
from lossc.grammar.source import Span


def unused(ctx: Context, file: syntax.File, gathered: Gathered, *, objective: bool) -> None:
    """Own names that nothing reads, and own values named as a function is."""
    for name, symbol in ctx.frame.values.items():
        if isinstance(symbol, ValueSymbol) and symbol.own:
            at = _name_span(symbol.span, name)
            if objective and not symbol.used:
                what = {"Tensor": "tensor", "Param": "parameter", "State": "state"}.get(
                    type(symbol.declaration).__name__, "let"
                )
                ctx.warn("W101", f"the {what} `{name}` is never used", at, help="remove it")
            if name in BUILT_IN or name in ctx.frame.terms:
                ctx.warn("W102", f"`{name}` is also a function: `{name}(…)` calls that, `{name}` is this value", at,
                         help="another name reads better")  # fmt: skip
    if not objective:
        return
    read = {node.id for node in syntax_nodes(file.items) if isinstance(node, syntax.Name)}
    for name, span, _ in gathered.imports:
        if name not in read:
            ctx.warn("W101", f"`{name}` is imported and never used", span, help="remove it from the `use` line")
    for name, term in ctx.frame.terms.items():
        if term.own and not term.used and name not in read:
            ctx.warn("W101", f"the term `{name}` is never used", _name_span(term.span, name), help="remove it")


def _name_span(span: Span, name: str) -> Span:
    at = span.text.find(name)
    return Span(span.source, span.start + at, span.start + at + len(name)) if at >= 0 else span
