"""A checked objective: declarations, the core graph of each term, and how each term is normalised."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from lossc.compiler.core import Input as InputNode
from lossc.compiler.core import Node, Param, Rename, walk
from lossc.compiler.kinds import Kind
from lossc.grammar.diagnostics import Diagnostic
from lossc.grammar.source import Span


@dataclass(frozen=True)
class AxisInfo:
    """A named axis. `batch`: split over micro-batches and ranks. `positions`: the names of its entries."""

    name: str
    span: Span
    batch: bool = False
    positions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TensorInfo:
    """An `input` or `data` line: what the caller passes under this name, dimensions in `order`."""

    name: str
    role: Literal["input", "data"]
    kind: Kind
    order: tuple[str, ...]
    node: InputNode
    span: Span


@dataclass(frozen=True)
class ParamInfo:
    """A `param` or `learn` line. `default` is a core expression over constants and other parameters."""

    name: str
    role: Literal["param", "learn"]
    kind: Kind
    order: tuple[str, ...]
    node: Param
    default: Node | None
    span: Span


@dataclass(frozen=True)
class StateInfo:
    """A `state` line: read, then renewed once a step, without gradient."""

    name: str
    kind: Kind
    order: tuple[str, ...]
    node: Param
    initial: Node
    renewal: Node
    renewal_present: Node | None
    span: Span


@dataclass(frozen=True)
class LetInfo:
    """A named quantity; a caller may give it in place of what it is computed from.

    `order` is the order of its dimensions when given; `present` masks entries that exist (None: all).
    """

    name: str
    kind: Kind
    order: tuple[str, ...]
    node: Node
    present: Node | None
    span: Span


@dataclass(frozen=True)
class Part:
    """One summand `coefficient * numerator / denominator` of a term.

    | form      | numerator                         | denominator                   | over micro-batches and ranks |
    |-----------|-----------------------------------|-------------------------------|------------------------------|
    | `ratio`   | a sum over batch axes             | a sum over batch axes         | both add up                  |
    | `sum`     | a sum over batch axes             | None                          | the numerators add up        |
    | `once`    | free of batch axes                | None                          | counts once a step           |
    | `coupled` | depends on how the batch is split | None                          | averaged over the calls      |

    `coefficient` is free of batch axes. `body` and `admitted` are the entries that numerator (and, with `weight`, the
    denominator) sum: numerator = sum over `over` of body * weight where admitted.
    """

    form: Literal["ratio", "sum", "once", "coupled"]
    coefficient: Node
    numerator: Node
    denominator: Node | None = None
    body: Node | None = None
    weight: Node | None = None
    admitted: Node | None = None
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class TermInfo:
    """A named term of the objective (`sign` is -1 under `maximize`), or a monitor; `text` is its source.

    `present` says where its value exists (None: always).
    """

    name: str
    sign: Literal[1, -1]
    parts: tuple[Part, ...]
    value: Node
    span: Span
    text: str
    present: Node | None = None

    @property
    def additive(self) -> bool:
        return all(part.form != "coupled" for part in self.parts)


@dataclass(frozen=True)
class ConstraintInfo:
    """`subject to name : value <= 0` after moving everything to the left; `per` is the axis of one multiplier each.

    With `by`, a label of each entry, there is one multiplier for each label instead. `present` masks what exists.
    """

    name: str
    relation: Literal["<=", "=="]
    value: Node
    present: Node | None
    per: str | None
    by: Node | None
    multiplier: Param
    span: Span


@dataclass(frozen=True)
class Binding:
    """A default that was filled in: `dpo` took `margin` from the setting, or `beta` from its default."""

    term: str
    argument: str
    value: str
    span: Span


@dataclass(frozen=True)
class Pruned:
    """A term or a summand that was dropped because its weight is 0."""

    term: str
    text: str


@dataclass(frozen=True)
class Program:
    """Everything later stages need of an objective."""

    name: str
    meta: dict[str, str]
    axes: dict[str, AxisInfo]
    tensors: dict[str, TensorInfo]
    params: dict[str, ParamInfo]
    states: dict[str, StateInfo]
    lets: dict[str, LetInfo]
    terms: tuple[TermInfo, ...]
    monitors: tuple[TermInfo, ...]
    constraints: tuple[ConstraintInfo, ...] = ()
    bindings: tuple[Binding, ...] = ()
    spans: dict[Node, Span] = field(default_factory=dict)
    """Where a node was first written; kept beside the graph, since equal expressions are one node."""
    uncompiled: tuple[Diagnostic, ...] = ()
    """Forms that are checked but that this version does not compile: the reason and the place of each."""
    overrides: dict[str, Fraction | str] = field(default_factory=dict)
    """Parameter values given from outside (`--set`, `lossc.load(..., beta=0.2)`)."""
    canonical: str = ""
    """The objective as canonical text, the identity of an Objective together with its parameters and backend."""


def copied_axes(program: Program) -> dict[str, str]:
    """Axes of the file that are another one under a new name, `x[b -> j]`, each with that one: they have one extent."""
    roots = [term.value for term in (*program.terms, *program.monitors)]
    renamed = [node for node in walk(*roots) if isinstance(node, Rename)]
    return {node.new: node.old for node in renamed if {node.new, node.old} <= program.axes.keys()}
