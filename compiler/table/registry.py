"""The statistics, shifts and centred streams found while a graph is read, each represented by a leaf."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from lossc.compiler import intervals as iv
from lossc.compiler.core import NO_AXES, ZERO, Input, Node, Reduce, differentiable, walk
from lossc.compiler.core import where as choose

Operation = Literal["shift", "sum", "max", "any", "ties", "argmax", "select"]


@dataclass(frozen=True)
class Definition:
    """`op` over the class axis of `body` where `mask`; a selection reads `body` at `at`.

    A `shift` is the largest entry, held constant, or 0 if that is not finite; `ties` counts the entries that are
    largest.
    """

    op: Operation
    body: Node
    mask: Node | None = None
    at: Node | int | None = None

    @property
    def parts(self) -> tuple[Node, ...]:
        return tuple(part for part in (self.body, self.mask, self.at) if isinstance(part, Node))


@dataclass(frozen=True)
class Centred:
    """The definition `source - sign * shift` of a centred stream.

    Its leaf has the kind of a log-probability: it may be -inf, and then does not count where it is multiplied by 0.
    """

    leaf: Input
    source: Node
    shift: Node
    sign: int = 1


@dataclass
class Registry:
    """Equal definitions share one leaf.

    Leaves are named by content, so that names do not depend on the order of reading.
    """

    axis: str
    definitions: dict[Node, Definition] = field(default_factory=dict)
    centred: dict[Node, Centred] = field(default_factory=dict)
    _levels: dict[Node, int] = field(default_factory=dict)

    def statistic(self, op: Operation, body: Node, mask: Node | None = None, at: Node | int | None = None) -> Input:
        definition = Definition(op, body, mask, at)
        axes = NO_AXES.union(*(part.axes for part in (body, mask) if part is not None)) - {self.axis}
        axes |= at.axes if isinstance(at, Node) else NO_AXES
        kind = {"any": "mask", "argmax": "label", "shift": "shift"}.get(op, "mask" if body.is_mask else "statistic")
        constant = op in ("shift", "any", "argmax", "ties") or not differentiable(body)
        leaf = Input(_name(op, body, mask, at), tuple(sorted(axes)), kind, _bounds(op, body, mask), constant)
        self.definitions[leaf] = definition
        return leaf

    def centre(self, source: Node, shift: Node, sign: int = 1) -> Input:
        axes = tuple(sorted(source.axes | shift.axes))
        leaf = Input(_name("centred", source, shift, sign), axes, "logprob", iv.REAL, not differentiable(source))
        self.centred[leaf] = Centred(leaf, source, shift, sign)
        return leaf

    def level(self, node: Node) -> int:
        """The number of sweeps after which the value of a row expression is known."""
        if node not in self._levels:
            for part in walk(node):
                if part not in self._levels:
                    self._levels[part] = self._level(part)
        return self._levels[node]

    def _level(self, node: Node) -> int:
        if node in self.definitions:
            definition = self.definitions[node]
            needs = max(self.needed(part) for part in definition.parts)
            return needs if definition.op == "select" else max(1, needs)
        if node in self.centred:
            return 0
        return max((self._levels[child] for child in node.children), default=0)

    def needed(self, body: Node) -> int:
        """The sweep in which a body can be accumulated.

        That is the one after the last statistic in it, shifts excepted: what moves with a shift can be rescaled.
        """
        found = 0
        for part in walk(body):
            if part in self.centred:
                found = max(found, self.centred_level(part))
            elif part in self.definitions:
                level = self.level(part)
                found = max(found, level if self.definitions[part].op == "select" else level + 1)
        return found

    def centred_level(self, leaf: Node) -> int:
        entry = self.centred[leaf]
        inner = max((self.centred_level(part) for part in walk(entry.source) if part in self.centred), default=0)
        return max(inner, self.level(entry.shift))

    def separate(self, body: Node) -> bool:
        """Whether a class factor depends on no statistic that must be known before its sweep."""
        return self.needed(body) <= 1


def _name(*content: object) -> str:
    state = hashlib.blake2b(digest_size=12)
    for item in content:
        state.update(item.digest if isinstance(item, Node) else repr(item).encode())
        state.update(b";")
    return f"@{content[0]}{state.hexdigest()}"


def _bounds(op: str, body: Node, mask: Node | None) -> iv.Interval:
    if op == "select":
        return body.domain
    if op == "sum":
        return Reduce("sum", ("",), choose(mask, body, ZERO)).domain
    return iv.MASK if op == "any" else iv.INTEGER if op == "argmax" else iv.NONNEG if op == "ties" else iv.REAL
