"""From core nodes to instructions.

`emit(node, guard)` returns the value of a node of which only the entries that the guard admits are seen. The invariant:
the value at all other entries is finite, and so is every slope below it. Leaves keep the invariant with a safe number
in place of each excluded entry, functions with singularities with a safe argument; everything else is finite on finite
arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from itertools import takewhile
from typing import NoReturn

from lossc.compiler.core import (
    Along,
    Call,
    Const,
    Draw,
    Index,
    Input,
    Local,
    Map,
    Node,
    Param,
    Reduce,
    Rename,
    Select,
    Size,
    Slice,
    StopGrad,
    apply,
    const,
    differentiable_leaf,
    walk,
)
from lossc.compiler.emission.along import RUNNING, emit_along
from lossc.compiler.emission.arithmetic import emit_quotient, emit_sum, product
from lossc.compiler.emission.builder import Builder
from lossc.compiler.emission.calls import emit_call
from lossc.compiler.emission.facts import is_weighed, leaf, literal_places, may_be_infinite, safe_number
from lossc.compiler.emission.guards import (
    ALL,
    Guard,
    extended,
    projected,
    read,
    renamed,
    unlifted,
)
from lossc.compiler.emission.masks import emit_condition
from lossc.compiler.emission.nested import Inner
from lossc.compiler.emission.opaque import differentiated, emit_opaque
from lossc.compiler.emission.procedure import Emitted, Slot, ValueType
from lossc.compiler.emission.reduce import emit_reduce
from lossc.compiler.emission.untaken import perhaps_untaken, shielded
from lossc.compiler.faults import InternalError
from lossc.compiler.primitives import PRIMITIVES
from lossc.compiler.steep import singular
from lossc.grammar.diagnostics import LosscError, error
from lossc.grammar.source import NOWHERE, Span

SWAPPED = {"lt": "torch.gt", "le": "torch.ge", "eq": "torch.eq", "ne": "torch.ne"}
"""Each comparison as the function of its operands in the other order."""

MAX_VALUES = 20_000
"""The values that one program computes, those in searches among them; those of a long paper are some hundreds."""


class Emitter:
    """Emits graphs into one builder; `spans` tells where an unsupported form was written.

    Without `guards` the values are the same, but a gradient may meet excluded entries.
    """

    def __init__(
        self, builder: Builder, spans: dict[Node, Span] | None = None, *, guards: bool = True,
        tracked: frozenset[Node] = frozenset(), untaken: frozenset[Node] = frozenset(),
    ) -> None:  # fmt: skip
        self.builder = builder
        self.guards = guards
        self.untaken = set(untaken)
        self.attaches = 1 + len(tracked) if untaken else 0
        """How often what may go untaken has its slopes attached: once, and again for what differentiates inside."""
        self.spans = spans or {}
        self.minima: dict[str, int] = {}
        self.squares: dict[tuple[str, str], None] = {}
        self.tracked = tracked
        self.locals: dict[Local, Emitted] = {}
        """The variables that calls around this place bind."""
        self.roots: dict[Node, tuple[Node, Slot, Slot]] = {}
        """The roots found so far: their body, value and slope."""
        builder.measured = self._measured
        self._around: Emitter | None = None
        self._binding: frozenset[Node] = frozenset()
        self._free: dict[Node, bool] = {}
        self._done: dict[tuple[Node, Guard, int], Emitted] = {}
        self._masks: dict[Guard, Emitted] = {}
        self._work = [0]
        self.has_numbers: Callable[[Node], bool] = cache(self._has_numbers)
        self.passes: Callable[[Node], bool] = cache(self._passes)
        self.is_steep: Callable[[Node], bool] = cache(self._is_steep)

    def _has_numbers(self, node: Node) -> bool:
        """Whether the value contains a number of the batch."""
        if isinstance(node, Input):
            return node.kind not in ("mask", "label")
        return isinstance(node, Draw | Call | Local) or any(self.has_numbers(child) for child in node.children)

    def _passes(self, node: Node) -> bool:
        """Whether gradient may flow through a value: to a leaf, or to a variable of a derivative inside."""
        if node.is_mask or isinstance(node, StopGrad):
            return False
        if node in self.tracked or isinstance(node, Local | Call):
            return True
        return differentiable_leaf(node) or any(map(self.passes, node.children))

    def _is_steep(self, node: Node) -> bool:
        """Whether some function in a value may be infinite, or infinitely steep, at finite leaves."""
        return (isinstance(node, Map) and bool(singular(node))) or any(map(self.is_steep, node.children))

    def _measured(self, node: Node, axis: str) -> Slot:
        """The extent of an axis that is known only from the result of a call."""
        value = self.emit(node)
        extent = self.builder.call("operations.extent", (value.at,), (), dim=value.axes.index(axis)).at
        assert isinstance(extent, Slot)
        return extent

    # -------------------------------------------------------------------------------------- guards

    def emit(self, node: Node, guard: Guard = ALL) -> Emitted:
        """The value of the node under the guard."""
        guard = projected(guard, node.axes) if self.guards and self.has_numbers(node) else ALL
        if self._around is not None and self._is_free(node) and not self._is_shielded(node, guard):
            return self._from_around(self._around, node, guard)
        key = (node, guard, self.attaches)
        if key not in self._done:
            self._count(node)
            self._done[key] = self._emit(node, guard)
        return self._done[key]

    def _count(self, node: Node) -> None:
        """Counts emissions of a value: one for each guard under which it is seen; nested cases may double them each time."""
        self._work[0] += 1
        if self._work[0] > MAX_VALUES:
            message = f"written out, this program has more than {MAX_VALUES} values"
            help_ = "a quantity that is used in many cases inside cases, or searches, is computed anew for each of them"
            raise LosscError([error("E505", message, self.spans.get(node, NOWHERE), help=help_)])

    # -------------------------------------------------------------------------------------- the body of a search or fold

    def inside(self, builder: Inner, body: Node, variable: Local) -> Emitter:
        """The emitter for the body of a search or fold; whatever does not depend on its variable is computed outside."""
        tracked, untaken = differentiated((body,), variable), perhaps_untaken((body,))
        inner = Emitter(builder, self.spans, guards=self.guards, tracked=tracked, untaken=untaken)
        inner.locals[variable] = builder.variable
        inner._around = self
        inner._work = self._work
        inner._binding = frozenset((variable, *inner.tracked))
        return inner

    def _is_free(self, node: Node) -> bool:
        """Whether a value belongs to the program around the search."""
        for part in walk(node):
            if part not in self._free:
                own = part in self._binding or (isinstance(part, Local) and part in self.locals)
                self._free[part] = not own and all(self._free[child] for child in part.children)
        return self._free[node]

    def _is_around(self, guard: Guard) -> bool:
        return all(
            self._is_free(part) if isinstance(part, Node)
            else self._is_around(part.guard) and all(map(self._is_free, part.reads))
            for part in guard
        )  # fmt: skip

    def _is_shielded(self, node: Node, guard: Guard) -> bool:
        """Whether a value of the outer program is computed inside, because the variable decides which entries are safe."""
        return isinstance(node, Map) and self.is_steep(node) and not self._is_around(guard)

    def _from_around(self, around: Emitter, node: Node, guard: Guard) -> Emitted:
        """The part of a guard known outside this body: up to the first condition that depends on the variable."""
        assert isinstance(self.builder, Inner)
        known = tuple(takewhile(lambda condition: self._is_around((condition,)), guard))
        value = self.builder.capture(around.emit(node, known))
        return value if known == guard else self.guarded(value, guard, safe_number(node.domain))

    # -------------------------------------------------------------------------------------- masks

    def mask_of(self, guard: Guard) -> Emitted:
        """The mask of the entries that the guard admits."""
        if guard not in self._masks and self._around is not None and self._is_around(guard):
            assert isinstance(self.builder, Inner)
            self._masks[guard] = self.builder.capture(self._around.mask_of(unlifted(guard, self.builder.step)))
        if guard not in self._masks:
            last = emit_condition(self, guard[-1], guard[:-1])
            if len(guard) > 1:
                last = self.elementwise("torch.logical_and", (self.mask_of(guard[:-1]), last), "mask")
            self._masks[guard] = last
        return self._masks[guard]

    def guarded(self, value: Emitted, guard: Guard, safe: float) -> Emitted:
        """The value with a safe number wherever the guard does not hold."""
        if not guard or value.literal or value.type != "number":
            return value
        mask = self.mask_of(guard)
        (condition, x), axes = self.builder.aligned((mask, value))
        return self.builder.call("torch.where", (condition, x, safe), axes)

    # -------------------------------------------------------------------------------------- nodes

    def _emit(self, node: Node, guard: Guard) -> Emitted:
        match node:
            case Const():
                return Emitted(float(node))
            case Input():
                return self.guarded(self._input(node), guard, safe_number(node.bounds))
            case Local():
                value = self.builder.arranged(self.locals[node], self.builder.sorted(node.order))
                return self.guarded(value, guard, safe_number(node.bounds))
            case Param():
                return self.builder.arranged(self.bound(node), self.builder.sorted(node.order))
            case Index(axis=axis):
                arguments = (self.builder.size(axis), self.builder.like)
                return self.builder.call("operations.index", arguments, (axis,), "integer")
            case Size(axis=axis):
                return self.builder.call("operations.constant", (self.builder.size(axis), self.builder.like), ())
            case Map():
                return self._map(node, guard)
            case StopGrad(body=body):
                value = self.emit(body, guard)
                if value.literal or value.type != "number":
                    return value
                return self.builder.call("torch.detach", (value.at,), value.axes)
            case Rename(body=body, old=old, new=new):
                return self.relabelled(self.emit(body, renamed(guard, old, new)), old, new)
            case Select() | Slice():
                return self._selection(node, guard)
            case Reduce():
                return emit_reduce(self, node, guard)
            case Along():
                return emit_along(self, node, guard)
            case Call(is_opaque=True):
                return emit_opaque(self, node, guard) or self.unsupported(node, f"`{_title(node)}`")
            case Call():
                return emit_call(self, node, guard) or self.unsupported(node, f"`{_title(node)}`")
        return self.unsupported(node, f"`{_title(node)}`")

    def instead(self, node: Node, other: Node) -> Node:
        """Emits a node in place of another one, whose property of going untaken it inherits."""
        if node in self.untaken:
            self.untaken.add(other)
        return other

    def number(self, node: Node, guard: Guard) -> Emitted:
        """The node as a tensor or literal in the type of the computation."""
        return self.builder.number(self.emit(node, guard))

    def _input(self, node: Input) -> Emitted:
        return self.builder.arranged(self.bound(node), self.builder.sorted(node.order))

    def bound(self, node: Input | Param) -> Emitted:
        """A tensor or parameter with its declared dimensions; as a variable where something is differentiated by it."""
        kinds: dict[str, ValueType] = {"label": "integer", "mask": "mask"}
        type_ = kinds.get(node.kind, "number") if isinstance(node, Input) else "number"
        kind = "tensor" if isinstance(node, Input) else "param"
        value = Emitted(self.builder.bind(kind, node.name, node.order, type_), node.order, type_)
        return self.builder.call("operations.tracked", (value.at,), value.axes) if node in self.tracked else value

    def relabelled(self, value: Emitted, old: str, new: str) -> Emitted:
        if value.literal or old not in value.axes:
            return value
        axes = tuple(new if axis == old else axis for axis in value.axes)
        return self.builder.arranged(Emitted(value.at, axes, value.type), self.builder.sorted(axes))

    # -------------------------------------------------------------------------------------- elementwise

    def elementwise(self, operation: str, values: Iterable[Emitted], type_: ValueType = "number") -> Emitted:
        arguments, axes = self.builder.aligned(tuple(values))
        return self.builder.call(operation, arguments, axes, type_)

    def _map(self, node: Map, guard: Guard) -> Emitted:
        function = node.function
        if function == "where":
            return self._where(node, guard)
        if function == "add":
            return emit_sum(self, node, guard)
        if function == "div" and (quotient := emit_quotient(self, node, guard)) is not None:
            return quotient
        values = [self.emit(argument, guard) for argument in node.arguments]
        if function in SWAPPED:
            return self._comparison(function, values[0], values[1])
        if function in ("and", "or", "not"):
            return self.elementwise(PRIMITIVES[function].torch, values, "mask")
        values = [self.builder.number(value) for value in values]
        if all(value.literal for value in values):
            return Emitted(float(PRIMITIVES[function].value(*(value.at for value in values))))
        if function == "mul":
            return shielded(self, node, values, self._product(node, values), guard)
        safe = PRIMITIVES[function].safe or ()
        for at in singular(node):
            if self.has_numbers(node.arguments[at]):
                values[at] = self.guarded(values[at], guard, safe[at])
        literals = literal_places(function, values)
        operands = [value if at in literals else self.builder.tensor(value) for at, value in enumerate(values)]
        return shielded(self, node, values, self.elementwise(PRIMITIVES[function].torch, operands), guard)

    def _where(self, node: Map, guard: Guard) -> Emitted:
        condition, then, otherwise = node.arguments
        chosen = self.emit(condition, guard)
        branches = [
            self.emit(then, extended(guard, condition)),
            self.emit(otherwise, extended(guard, apply("not", condition))),
        ]
        types = {branch.type for branch in branches if not branch.literal}
        type_: ValueType = types.pop() if len(types) == 1 else "number"
        if type_ == "number" or any(branch.literal for branch in branches):
            type_, branches = "number", [self.builder.number(branch) for branch in branches]
        if all(branch.literal for branch in branches):
            branches[0] = self.builder.tensor(branches[0])
        value = self.elementwise("torch.where", (self.builder.tensor(chosen), *branches), type_)
        endless = any(branch.literal and branch.at in (math.inf, -math.inf) for branch in branches)
        return self.guarded(value, guard, 0.0) if endless else value

    def _comparison(self, function: str, left: Emitted, right: Emitted) -> Emitted:
        operation = PRIMITIVES[function].torch
        if left.literal and not right.literal:
            operation, left, right = SWAPPED[function], right, left
        if left.type == "integer" and not isinstance(right.at, Slot) and right.at == round(right.at):
            right = Emitted(int(right.at))
        return self.elementwise(operation, (self.builder.tensor(left), right), "mask")

    def _product(self, node: Map, values: list[Emitted]) -> Emitted:
        """The product; a factor that may be the log of 0 does not count where the others are 0."""
        if not is_weighed(node):
            return product(self, values)
        logs = [at for at, argument in enumerate(node.arguments) if may_be_infinite(argument)]
        weight = [value for at, value in enumerate(values) if at not in logs]
        log = [values[at] for at in logs]
        factors = (self.builder.tensor(product(self, weight)), self.builder.tensor(product(self, log)))
        return self.elementwise("operations.weigh", factors)

    # -------------------------------------------------------------------------------------- selections

    def _selection(self, node: Select | Slice, guard: Guard) -> Emitted:
        tensor = leaf(node)
        if tensor is not None:
            return self.guarded(self._read(node, self.emit(node.body)), guard, safe_number(tensor.bounds))
        inner = projected(guard, node.body.axes - {node.axis})
        if isinstance(node, Slice):
            inner = extended(inner, apply("le", const(node.start), Index(node.axis)))
            inner = extended(inner, apply("lt", Index(node.axis), const(node.stop)))
        elif isinstance(node.at, int):
            inner = extended(inner, apply("eq", Index(node.axis), const(node.at)))
        elif self.guards and not _is_of_all(node.body, node.axis) and self.passes(node.body):
            inner = read(guard, node.body.axes, node.axis, node.at)
        return self._read(node, self.emit(node.body, inner))

    def _read(self, node: Select | Slice, body: Emitted) -> Emitted:
        if isinstance(node, Select) and isinstance(node.at, Node):
            return self._gather(node, body, self.builder.integer(self.emit(node.at)))
        body = self.builder.expanded(body, (node.axis,))
        dim = body.axes.index(node.axis)
        if isinstance(node, Select):
            assert isinstance(node.at, int)
            kept = [axis for axis in body.axes if axis != node.axis]
            return self.builder.call("torch.select", (body.at,), kept, body.type, dim=dim, index=node.at)
        options = {"dim": dim, "start": node.start, "length": node.stop - node.start}
        cut = self.builder.call("torch.narrow", (body.at,), body.axes, body.type, **options)
        return self.relabelled(cut, node.axis, node.new)

    def _gather(self, node: Select, body: Emitted, at: Emitted) -> Emitted:
        body = self.builder.expanded(body, (node.axis,))
        rest = [axis for axis in body.axes if axis != node.axis]
        new = [axis for axis in at.axes if axis not in rest]
        x = self.builder.arranged(body, (*rest, node.axis))
        index = self.builder.arranged(at, (*rest, *new))
        taken = self.builder.call("operations.take", (x.at, index.at), (*rest, *new), body.type)
        return self.builder.arranged(taken, self.builder.sorted((*rest, *new)))

    # -------------------------------------------------------------------------------------- what is not emitted

    def unsupported(self, node: Node, what: str) -> NoReturn:
        message = f"{what} is checked, but this version does not compile it yet"
        raise LosscError([error("E601", message, self.spans.get(node, NOWHERE))])


def _is_of_all(node: Node, axis: str) -> bool:
    """Whether each entry along an axis depends on all entries, so that none can be left out."""
    match node:
        case Along(axis=own, new=new, op=op):
            return axis in (own, new) and op not in (*RUNNING, "shift")
        case Rename(body=body, old=old, new=new) | Slice(body=body, axis=old, new=new):
            return _is_of_all(body, old if axis == new else axis)
        case Select(body=body):
            return _is_of_all(body, axis)
        case Call(function="fold", order=order, mixed=mixed):
            return axis in mixed - {*order[:1]}
        case Call(mixed=mixed, is_opaque=opaque):
            return opaque or axis in mixed
    return False


def _title(node: Node) -> str:
    match node:
        case Call(function=function):
            return function.partition(":")[0]
        case Draw(distribution=distribution):
            return distribution
    raise InternalError(f"no rule emits a {type(node).__name__}")
