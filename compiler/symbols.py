"""What a name stands for, and the frames in which names are looked up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lossc.compiler.values import Value
from lossc.grammar.source import Span
from lossc.grammar.syntax import Axis, Extern, Let, Param, Setting, State, Tensor, Term

FrameKind = Literal["objective", "setting", "term", "law"]


@dataclass(frozen=True)
class AxisSymbol:
    """An axis: its name in the core, its declaration, and what kind of axis it is."""

    name: str
    span: Span
    batch: bool = False
    positions: tuple[str, ...] | None = None
    declared: bool = True
    formal: bool = False
    """An axis of a signature while its term is checked on its own: its positions are those of the caller's axis."""


@dataclass(eq=False)
class ValueSymbol:
    """A tensor, parameter, state or let under its full name, and the frame in which it was written."""

    name: str
    declaration: Tensor | Param | State | Let
    frame: Frame
    own: bool
    used: bool = False

    @property
    def span(self) -> Span:
        """The declared name, for messages that point to it."""
        return self.declaration.name_span


@dataclass(eq=False)
class TermSymbol:
    """A term or extern and the frame of the module in which it was written."""

    name: str
    declaration: Term | Extern
    frame: Frame
    own: bool
    used: bool = False
    sound: bool | None = None
    """Whether the body has been checked on its own and found right; None before that."""

    @property
    def span(self) -> Span:
        """The declared name, for messages that point to it."""
        return self.declaration.name_span


Symbol: TypeAlias = ValueSymbol | Value


@dataclass(eq=False)
class Frame:
    """The names that an expression can see: values, terms and axes, each under the name that is written."""

    kind: FrameKind
    own: bool
    prefix: str = ""
    values: dict[str, Symbol] = field(default_factory=dict)
    terms: dict[str, TermSymbol] = field(default_factory=dict)
    axes: dict[str, AxisSymbol] = field(default_factory=dict)
    settings: dict[str, tuple[Setting, Frame]] = field(default_factory=dict)
    objective: Frame | None = None
    """The frame of the whole objective, where new axes are named and `from` looks."""
    mark: str = ""
    """Behind the names in the core of axes made in a term, so that those of two calls are apart."""

    def full(self, name: str) -> str:
        if self.mark:
            return f"{name}'{self.mark}"
        return f"{self.prefix}.{name}" if self.prefix else name


AxisDeclaration: TypeAlias = Axis
