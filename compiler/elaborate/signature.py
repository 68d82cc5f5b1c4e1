"""The arguments of a built-in function, by position or by name."""

from __future__ import annotations

from dataclasses import dataclass

from lossc.compiler.core import Node
from lossc.compiler.elaborate.context import Context
from lossc.compiler.values import Value
from lossc.grammar import syntax
from lossc.grammar.source import Span
from lossc.grammar.suggest import did_you_mean


@dataclass(frozen=True)
class Given:
    """Evaluated arguments by the names of a signature, each with its place."""

    values: dict[str, Value]
    spans: dict[str, Span]

    def node(self, name: str) -> Node | None:
        value = self.values.get(name)
        return value.node if value is not None else None

    def span(self, name: str) -> Span:
        return self.spans[name]


def take(ctx: Context, function: str, call: syntax.Call, names: tuple[str, ...], required: int) -> Given | None:
    """Matches a call with a signature whose first `required` arguments have no default; None after a report."""
    placed = match_arguments(ctx, function, call, names)
    if placed is None:
        return None
    missing = [name for name in names[:required] if name not in placed]
    if missing:
        ctx.wrong("E201", f"`{function}` takes {_signature(function, names, required)}: `{missing[0]}` is missing",
                  call.span)  # fmt: skip
        return None
    values = {name: ctx.value(argument.value) for name, argument in placed.items()}
    if any(value.wrong for value in values.values()):
        return None
    return Given(values, {name: argument.value.span for name, argument in placed.items()})


def match_arguments(
    ctx: Context, function: str, call: syntax.Call, names: tuple[str, ...]
) -> dict[str, syntax.Argument] | None:
    """Each argument under the name of its parameter."""
    placed: dict[str, syntax.Argument] = {}
    for position, argument in enumerate(call.arguments):
        if argument.to is not None:
            ctx.wrong("E210", f"`->` has no meaning in a call of `{function}`", argument.span)
            return None
        if argument.name is None and position >= len(names):
            most = f"{len(names)} argument{'s' * (len(names) != 1)} at most" if names else "no argument"
            ctx.wrong("E201", f"`{function}` takes {most}, and this is one more", argument.span,
                      help=f"it is called as `{function}({', '.join(names)})`")  # fmt: skip
            return None
        name = argument.name or names[position]
        if name not in names:
            ctx.wrong("E202", f"`{function}` has no argument `{name}`", argument.span,
                      help=did_you_mean(name, names) or f"its arguments are {', '.join(names)}")  # fmt: skip
            return None
        if name in placed:
            ctx.wrong("E203", f"argument `{name}` of `{function}` is given twice", argument.span)
            return None
        placed[name] = argument
    return placed


def _signature(function: str, names: tuple[str, ...], required: int) -> str:
    shown = [name if position < required else f"[{name}]" for position, name in enumerate(names)]
    return f"`{function}({', '.join(shown)})`"
