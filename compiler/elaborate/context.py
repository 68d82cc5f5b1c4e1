"""What the elaboration of one objective shares (`Session`), and what one expression can see (`Context`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lossc.compiler.core import Map, Node
from lossc.compiler.program import Binding
from lossc.compiler.symbols import AxisSymbol, Frame, TermSymbol, ValueSymbol
from lossc.compiler.unread import Unread
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax
from lossc.grammar.diagnostics import Diagnostic, Diagnostics, Note, error, warning
from lossc.grammar.source import Span
from lossc.grammar.suggest import did_you_mean

MAX_UPDATES = 10_000
"""The `steps` of one search or transport plan."""
MAX_STEPS = 20_000
"""Expressions evaluated in the bodies of terms in one check: terms that call terms can grow without bound."""


@dataclass
class Session:
    """One check of one objective: its problems, and everything that elaboration collects."""

    problems: Diagnostics
    top: Frame
    bindings: list[Binding] = field(default_factory=list)
    uncompiled: list[Diagnostic] = field(default_factory=list)
    spans: dict[Node, Span] = field(default_factory=dict)
    distributions: dict[Node, str] = field(default_factory=dict)
    """Nodes known to be distributions, with their axis; a convex mix is recognised by them."""
    leaves: dict[str, str] = field(default_factory=dict)
    """The axis of the leaves of each group of weights, by the axis along which the group is laid out."""
    class_axes: set[str] = field(default_factory=set)
    """Axes that scores, probabilities or labels run over."""
    values: dict[ValueSymbol, Value] = field(default_factory=dict)
    pending: dict[Node, Node] = field(default_factory=dict)
    """What stands for quantities that a `grad` differentiates by, with their definitions."""
    differentiated: set[ValueSymbol] = field(default_factory=set)
    open: list[ValueSymbol] = field(default_factory=list)
    open_terms: list[TermSymbol] = field(default_factory=list)
    unread: Unread = field(default_factory=Unread)
    """Names that are missing for a reason already reported."""
    calls: dict[Any, Value] = field(default_factory=dict)
    marks: dict[Any, str] = field(default_factory=dict)
    """One for each term with its axes, and how deep it was called."""
    places: dict[Any, int] = field(default_factory=dict)
    """The number of each place where something is drawn."""
    extents: dict[str, tuple[int, Span]] = field(default_factory=dict)
    """The number of entries of each axis that a slice or `topk` made, and where it was made first."""
    steps: int = 0
    outermost: Span | None = None
    """The term that is being checked, or the call in the file that is being evaluated."""
    exhausted: Span | None = None
    """Where the bound on evaluation was met, if it was."""


@dataclass(frozen=True)
class Context:
    """The frame of an expression, its depth in calls of terms, and where its problems are reported."""

    session: Session
    frame: Frame
    depth: int = 0
    quiet: bool = False
    """Inside a term that was called: its own text has been checked already, so lints are silent."""
    nonzero: frozenset[Node] = frozenset()
    """Nodes that are not 0 where this expression counts, by a `where` or an `if`."""
    factors: frozenset[Node] = frozenset()
    """Nodes by which this expression is multiplied: where one is 0 a logarithm here does not count, infinite or not."""

    def value(self, expression: syntax.Expr) -> Value:
        from lossc.compiler.elaborate.expressions import evaluate

        self.session.steps += self.depth > 0
        if self.session.steps > MAX_STEPS:
            self.session.exhausted = self.session.exhausted or self.session.outermost or expression.span
            return WRONG
        result = evaluate(self, expression)
        if not result.wrong:
            self.session.spans.setdefault(result.node, expression.span)
        return result

    def inside(self, frame: Frame, *, quiet: bool = False, depth: int | None = None) -> Context:
        return replace(self, frame=frame, quiet=self.quiet or quiet, depth=self.depth if depth is None else depth)

    def assuming(self, condition: Node | None) -> Context:
        """The context of a branch in which a condition holds."""
        return replace(self, nonzero=self.nonzero | set(_not_zero(condition))) if condition is not None else self

    def times(self, *factors: Node) -> Context:
        """The context of an operand that is multiplied by factors."""
        return replace(self, factors=self.factors.union(*map(_vanishing, factors)))

    def alone(self) -> Context:
        """The context of a function's argument, which may be infinite where a factor of the function's value is 0."""
        return replace(self, factors=frozenset()) if self.factors else self

    def wrong(
        self, code: str, message: str, span: Span, *, label: str = "", notes: Iterable[Note] = (),
        help: Iterable[str] | str = (),
    ) -> Value:  # fmt: skip
        """Reports an error, and returns the value that takes the place of a wrong one."""
        self.session.problems.add(error(code, message, span, label=label, notes=notes, help=help))
        return WRONG

    def warn(self, code: str, message: str, span: Span, *, help: Iterable[str] | str = ()) -> None:
        """Reports a lint; only the user's own text is linted."""
        if self.frame.own and not self.quiet:
            self.session.problems.add(warning(code, message, span, help=help))

    def uncompiled(self, what: str, span: Span) -> None:
        """Notes a form that is checked, but compiled by no later stage of this version."""
        message = f"{what} is checked, but this version does not compile it yet"
        help_ = "`check`, `fmt` and `show` work; `plan`, `compile` and `train` will say this again"
        self.session.uncompiled.append(error("E601", message, span, help=help_))

    # -------------------------------------------------------------------------------------- axes

    def axis(self, name: str, span: Span) -> AxisSymbol | None:
        """The axis of this name; None after a report that there is none."""
        symbol = self.frame.axes.get(name)
        if symbol is None and name not in self.session.unread:
            where = "this term" if self.frame.kind == "term" else "this file"
            self.wrong("E301", f"{where} has no axis `{name}`", _place(name, span), help=self._about_axes(name))
        return symbol

    def _about_axes(self, name: str) -> list[str]:
        """What may have been meant by the unknown name of an axis."""
        if name in self.frame.values:
            return [f"`{name}` is a value: a condition is written `[… where {name}]`, a selection `x[v = {name}]`"]
        holder = self.axis_with(name)
        if holder is not None:
            return [f"`{name}` is a position of `{holder}`: write `[{holder} = {name}]`"]
        hints = list(did_you_mean(name, self.frame.axes))
        if self.frame.kind == "term":
            hints.append(f"a term sees only the axes that its arguments name: give it one that has `{name}`, or write a `let`")
        elif not hints and self.frame.axes:
            hints.append(f"its axes are {', '.join(self.frame.axes)}")
            hints.append(f"a second name of an axis is made with an arrow: `x[{next(iter(self.frame.axes))} -> {name}]`")
        return hints

    def axis_with(self, position: str) -> str | None:
        """The name of an axis that has a position of this name."""
        axes = self.frame.axes.items()
        return next((axis for axis, symbol in axes if position in (symbol.positions or ())), None)

    def new_axis(self, name: str, span: Span, extent: int | None = None) -> AxisSymbol | None:
        """The axis made by `-> name`, and its extent where that is a number; None after a report.

        At the level of a file, such an axis belongs to the file and has one extent; inside a term it is distinct from
        all others.
        """
        if name not in self.frame.axes:
            self.frame.axes[name] = AxisSymbol(self.frame.full(name), span, declared=False)
        symbol = self.frame.axes[name]
        if extent is not None:
            known, first = self.session.extents.setdefault(symbol.name, (extent, span))
            if known != extent:
                self.wrong("E313", f"axis `{name}` would have two extents, {known} and {extent}", span,
                           notes=[Note(f"{known} entries here", first)], help="give one of the two another name")  # fmt: skip
                return None
        return symbol

    def mark(self, term: TermSymbol, axes: Iterable[AxisSymbol]) -> str:
        """What distinguishes the axes made in one call of a term from those of its other calls."""
        key = (term, self.depth, tuple(symbol.name for symbol in axes))
        return self.session.marks.setdefault(key, str(len(self.session.marks) + 1))

    def axis_named(self, core_name: str) -> AxisSymbol | None:
        """The axis with this name in the core."""
        top = self.session.top
        for axes in (self.frame.axes, top.axes):
            for symbol in axes.values():
                if symbol.name == core_name:
                    return symbol
        return None

    def written(self, core_name: str) -> str:
        """The name that this frame uses for an axis of the core."""
        for name, symbol in self.frame.axes.items():
            if symbol.name == core_name:
                return name
        return core_name


def _place(name: str, span: Span) -> Span:
    """The first place of a name inside a syntax tree."""
    found = re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", span.text)
    return Span(span.source, span.start + found.start(), span.start + found.end()) if found else span


def _not_zero(condition: Node) -> Iterator[Node]:
    """What a condition says is not 0: `x > 0`, `x != 0`, and both sides of `and`."""
    if isinstance(condition, Map):
        first, *rest = condition.arguments
        if condition.function == "and":
            yield from (node for part in condition.arguments for node in _not_zero(part))
        elif condition.function == "lt" and first.domain.nonneg:
            yield rest[0]
        elif condition.function == "ne":
            yield from (first, rest[0])


def _vanishing(factor: Node) -> Iterator[Node]:
    """What is 0 only where a value is 0: the value, its factors, and whatever it is a multiple or power of."""
    seen: set[Node] = set()
    stack = [factor]
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        yield part
        power = isinstance(part, Map) and part.function == "pow" and not part.arguments[1].domain.positive
        if isinstance(part, Map) and part.function in ("mul", "div", "pow") and not power:
            stack.extend(part.arguments if part.function == "mul" else part.arguments[:1])


def declared_note(value: Value) -> list[Note]:
    return [Note("declared here", value.declared)] if value.declared is not None else []


def axes_text(ctx: Context, axes: Iterable[str]) -> str:
    """Axes for a message: `b, t`, or a phrase where there are none."""
    return ", ".join(sorted(ctx.written(axis) for axis in axes)) or "no axes"


def describe(ctx: Context, value: Value) -> str:
    """The kind and axes of a value, as a type is written: `prob[b, t, v]`."""
    if value.term is not None:
        return f"the term `{value.term.name}`"
    last = value.kind.axis if value.kind.axis in value.axes else None
    names = [ctx.written(axis) for axis in sorted(value.axes) if axis != last and not axis.startswith("#")]
    if last is not None:
        names.append(ctx.written(last))
    inner = f"[{', '.join(names)}]" if names else ""
    codomain = f" in {ctx.written(value.kind.codomain)}" if value.kind.codomain else ""
    return f"{value.kind.name}{inner}{codomain}"
