"""What names stand for, and the frames in which they are looked up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lossc.compiler.values import Value
from lossc.grammar.source import Span
from lossc.grammar.syntax import Extern, Let, Param, Setting, State, Tensor, Term

FrameKind = Literal["objective", "setting", "term", "law"]


@dataclass(frozen=True)
class AxisSymbol:
    """An axis with its name in the core and what its declaration says. `declared`: it has an `axis` line of its own."""

    name: str
    span: Span
    batch: bool = False
    positions: tuple[str, ...] | None = None
    declared: bool = True
    formal: bool = False
    """An axis of a signature while its term is checked on its own: its positions are known only to the caller."""


@dataclass(eq=False)
class ValueSymbol:
    """A tensor, parameter, state or let under its full name.

    `own`: declared in the checked file itself, not imported.
    """

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
    """A term or extern, with the frame of its module, in which names of its body are looked up."""

    name: str
    declaration: Term | Extern
    frame: Frame
    own: bool
    used: bool = False
    sound: bool | None = None
    """Whether the body, checked on its own, has no errors; None before it is checked."""

    @property
    def span(self) -> Span:
        """The declared name, for messages that point to it."""
        return self.declaration.name_span


Symbol: TypeAlias = ValueSymbol | Value


@dataclass(eq=False)
class Frame:
    """The names that an expression can see, values, terms, axes and settings, each as it is written there."""

    kind: FrameKind
    own: bool
    prefix: str = ""
    values: dict[str, Symbol] = field(default_factory=dict)
    terms: dict[str, TermSymbol] = field(default_factory=dict)
    axes: dict[str, AxisSymbol] = field(default_factory=dict)
    settings: dict[str, tuple[Setting, Frame]] = field(default_factory=dict)
    objective: Frame | None = None
    """The frame of the whole objective, in which new axes are named and `from` looks names up."""
    mark: str = ""
    """A suffix for the core names of axes made in a term, which keeps those of two calls apart."""

    def full(self, name: str) -> str:
        """The name in the core of an axis or value that this frame calls `name`."""
        if self.mark:
            return f"{name}'{self.mark}"
        return f"{self.prefix}.{name}" if self.prefix else name
