"""`Value`, the meaning of an expression during a check: a core node with its kind and its presence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossc.compiler import core
from lossc.compiler.core import Node
from lossc.compiler.kinds import MASK, REAL, Kind
from lossc.grammar.source import NOWHERE, Span

if TYPE_CHECKING:
    from lossc.compiler.symbols import TermSymbol


@dataclass(frozen=True)
class Value:
    """A `node` over named axes, its `kind`, and `present`, a mask of the entries that exist (None: all).

    `declared` is where its name was declared. A `wrong` value replaces an erroneous one that has been reported, so that
    nothing computed from it is reported again.
    """

    node: Node
    kind: Kind = REAL
    present: Node | None = None
    declared: Span | None = None
    wrong: bool = False
    term: TermSymbol | None = None
    """Set where the value is a term itself, passed to another term, as `f` in `fdiv(f, p, q)`."""

    @property
    def axes(self) -> frozenset[str]:
        return self.node.axes

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
    """A mask as the condition of a `where` or `if`: absent entries count as false."""
    both = core.all_of(value.node, value.present)
    return value.node if both is None else both
