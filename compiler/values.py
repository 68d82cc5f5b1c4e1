"""What an expression means while it is checked: a core node with its kind and its presence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lossc.compiler import core
from lossc.compiler.core import Node
from lossc.compiler.kinds import MASK, REAL, Kind
from lossc.grammar.source import NOWHERE, Span

if TYPE_CHECKING:
    from lossc.compiler.symbols import TermSymbol


@dataclass(frozen=True)
class Value:
    """`node` over named axes, of a `kind`; `present` masks the entries that exist (None: every one).

    `declared` is where its name was declared. A value that is `wrong` stands for a fault already reported, so that one
    fault is reported once.
    """

    node: Node
    kind: Kind = REAL
    present: Node | None = None
    declared: Span | None = None
    wrong: bool = False
    term: TermSymbol | None = None
    """Set where the value is a term itself, handed to another term (`fdiv(f, p, q)`)."""

    @property
    def axes(self) -> frozenset[str]:
        return self.node.axes

    def with_kind(self, kind: Kind) -> Value:
        return replace(self, kind=kind)

    @property
    def is_mask(self) -> bool:
        return self.kind.name == "mask"

    @property
    def is_label(self) -> bool:
        return self.kind.name == "label"


WRONG = Value(core.ZERO, Kind("wrong"), declared=NOWHERE, wrong=True)


def mask(node: Node, present: Node | None = None) -> Value:
    return Value(node, MASK, present)


def is_true(value: Value) -> Node:
    """A mask as a condition: what is absent is false."""
    both = core.all_of(value.node, value.present)
    return value.node if both is None else both
