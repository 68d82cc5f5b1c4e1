"""`Program`, a checked objective: its declarations, the core graph of each term, and the parts that each term is split into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lossc.compiler.core import Input as InputNode
from lossc.compiler.core import Node, Param, Rename, walk
from lossc.compiler.kinds import Kind
from lossc.grammar.diagnostics import Diagnostic
from lossc.grammar.source import Span


@dataclass(frozen=True)
class AxisInfo:
    """A named axis. `batch`: it is split over micro-batches and ranks. `positions`: the names of its entries, if any."""

    name: str
    span: Span
    batch: bool = False
    positions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TensorInfo:
    """An `input` or `data` line: a tensor that the caller passes under this name, with its dimensions in `order`."""

    name: str
    role: Literal["input", "data"]
    kind: Kind
    order: tuple[str, ...]
    node: InputNode
    span: Span


@dataclass(frozen=True)
class ParamInfo:
    """A `param` or `learn` line. `default` is an expression over constants and other parameters."""

    name: str
    role: Literal["param", "learn"]
    kind: Kind
    order: tuple[str, ...]
    node: Param
    default: Node | None
    span: Span


@dataclass(frozen=True)
class StateInfo:
    """A `state` line: a tensor that calls read, and that takes the value of `renewal` once a step, without gradient.

    `renewal_present` masks the entries of the renewal that exist (None: all); the others keep their value.
    """

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
    """A `let`: a named quantity, which a caller may pass in place of the tensors that it is computed from.

    `order` is the order of its dimensions when passed; `present` masks the entries that exist (None: all).
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

    `coefficient` is free of batch axes. Unless the part is `coupled` or `once`, numerator = sum of `body` over the axes
    `over` where `admitted` (None: everywhere).
    """

    form: Literal["ratio", "sum", "once", "coupled"]
    coefficient: Node
    numerator: Node
    denominator: Node | None = None
    body: Node | None = None
    admitted: Node | None = None
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class TermInfo:
    """A named term of the objective, or a monitor. `sign` is -1 under `maximize`; `text` is the expression as written.

    `present` is a scalar mask: whether the value exists (None: always). A term that has no value counts as 0.
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
        """Whether the calls of a step add up to the term over the whole batch."""
        return all(part.form != "coupled" for part in self.parts)


@dataclass(frozen=True)
class ConstraintInfo:
    """A `subject to` line, brought to the form `value <= 0` or `value == 0`.

    With `per` there is one multiplier for each entry of that axis; with `by`, a label of each entry, one for each label.
    `present` masks the entries of `value` that exist (None: all).
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
    """An argument that was filled in: `dpo` took `margin` from the setting (`from margin`), or `beta` from its default."""

    term: str
    argument: str
    value: str
    span: Span


@dataclass(frozen=True)
class Pruned:
    """A term or summand, as written, that simplification dropped because it is 0."""

    term: str
    text: str


@dataclass(frozen=True)
class Program:
    """A checked objective: all that later stages read. They return new programs and change none."""

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
    """Where each node was first written. Kept beside the graph, since equal expressions are one node."""
    uncompiled: tuple[Diagnostic, ...] = ()
    """Forms that are checked but that this version does not compile, each with its reason and place."""
    canonical: str = ""
    """The objective as one self-contained text, formatted; with parameters and backend it determines an `Objective`."""

    @property
    def batch_axes(self) -> frozenset[str]:
        """The axes whose entries are split over micro-batches and ranks."""
        return frozenset(axis.name for axis in self.axes.values() if axis.batch)


def copied_axes(program: Program) -> dict[str, str]:
    """The declared axes that are another axis under a new name, `x[b -> j]`, with that axis: both have the same extent."""
    roots = [term.value for term in (*program.terms, *program.monitors)]
    renamed = [node for node in walk(*roots) if isinstance(node, Rename)]
    return {node.new: node.old for node in renamed if {node.new, node.old} <= program.axes.keys()}
