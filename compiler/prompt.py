"""An objective typed at a prompt, `dpo(beta=0.1) + 0.2*sft` in the setting `pairs`, as a full file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lossc.compiler.elaborate.context import Context, Session
from lossc.compiler.gather import Gathered, Gatherer
from lossc.compiler.library import home_of
from lossc.compiler.mentions import syntax_nodes
from lossc.compiler.symbols import Frame
from lossc.compiler.usual import usual_reduction
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.parser import parse_expression
from lossc.grammar.source import Source
from lossc.grammar.syntax import (
    Argument,
    Binary,
    Block,
    Bracket,
    Call,
    Entry,
    Expr,
    File,
    Item,
    Meta,
    Name,
    Number,
    Unary,
    Use,
)


def prompt_file(
    minimize: str, setting: str | None, problems: Diagnostics | None = None, monitor: str | None = None
) -> File:
    """The file that a prompt stands for: its `use` lines, one entry a summand, and each summand reduced.

    A bare name of a term means its call; a summand that still has axes is reduced by the `reduce` of its setting.
    """
    problems = problems if problems is not None else Diagnostics()
    blocks = [("minimize", minimize), *([("monitor", monitor)] if monitor else [])]
    summands: list[tuple[str, list[Expr]]] = []
    for role, text in blocks:
        expression = parse_expression(Source(f"<{role}>", text), problems)
        summands.append((role, list(_summands(expression)) if expression is not None else []))
    uses = list(_uses(setting, [s for _, found in summands for s in found]))
    gathered = Gatherer(Source("<prompt>", ""), Diagnostics()).objective(File(tuple(uses)))
    items: list[Item] = [Meta("objective", "prompt"), *uses]
    taken: set[str] = set()
    for role, found in summands:
        if not found:
            continue
        entries = tuple(_entry(_called(summand, gathered.frame), gathered, taken) for summand in found)
        items.append(Block("minimize" if role == "minimize" else "monitor", entries))
    return File(tuple(items))


def _summands(expr: Expr, negative: bool = False) -> Iterator[Expr]:
    if isinstance(expr, Binary) and expr.op in "+-" and len(expr.op) == 1:
        yield from _summands(expr.left, negative)
        yield from _summands(expr.right, negative != (expr.op == "-"))
    else:
        yield Unary("-", expr, span=expr.span) if negative else expr


def _uses(setting: str | None, expressions: list[Expr]) -> Iterator[Use]:
    if setting is not None:
        yield Use(setting if "." in setting else f"std.settings.{setting}")
    modules: dict[str, dict[str, None]] = {}
    written = (node for node in syntax_nodes(tuple(expressions)) if isinstance(node, Name))
    for node in sorted(written, key=lambda node: node.span.start):
        home = home_of(node.id)
        if home is not None:
            modules.setdefault(home, {})[node.id] = None
    for module, names in modules.items():
        yield Use(module, names=tuple(names))


def _called(expr: Expr, frame: Frame) -> Expr:
    """The expression with bare names of terms called; what a term is given is left as it is, and may be a term."""
    match expr:
        case Name() if expr.id in frame.terms and expr.id not in frame.values:
            return Call(expr, (), span=expr.span)
        case Binary():
            return Binary(expr.op, _called(expr.left, frame), _called(expr.right, frame), span=expr.span)
        case Unary():
            return Unary(expr.op, _called(expr.operand, frame), span=expr.span)
        case Call(function=Name(id=head) | Bracket(head=Name(id=head))) if head not in frame.terms:
            return replace(expr, arguments=tuple(replace(a, value=_called(a.value, frame)) for a in expr.arguments))
    return expr


def _entry(summand: Expr, gathered: Gathered, taken: set[str]) -> Entry:
    name = _label(summand)
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}{number}", number + 1
    taken.add(unique)
    return Entry(unique, _reduced(summand, gathered), span=summand.span)


def _reduced(summand: Expr, gathered: Gathered) -> Expr:
    frame = gathered.frame
    value = Context(Session(Diagnostics(), frame), frame).value(summand)
    usual = None if value.wrong else usual_reduction(value, gathered.reduces, frame)
    if usual is None:
        return summand
    match summand:
        case Unary(op="-", operand=operand):
            return Unary("-", _reduced(operand, gathered), span=summand.span)
        case Binary(op="*", left=Number() as weight, right=right):
            return Binary("*", weight, _reduced(right, gathered), span=summand.span)
    return Call(usual, (Argument(summand, span=summand.span),), span=summand.span)


def _label(expr: Expr) -> str:
    """A name for a summand: the term or value that it is mostly made of."""
    match expr:
        case Unary():
            return _label(expr.operand)
        case Binary():
            right = _label(expr.right)
            return right if right != "term" else _label(expr.left)
        case Call():
            inner = expr.function.head if isinstance(expr.function, Bracket) else expr.function
            named = isinstance(inner, Name) and (home_of(inner.id) is not None or not expr.arguments)
            return _label(inner) if named or not expr.arguments else _label(expr.arguments[0].value)
        case Bracket():
            return _label(expr.head)
        case Name():
            return expr.id.replace(".", "_")
    return "term"
