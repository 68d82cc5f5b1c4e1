"""Rules for sums and products, in as few operations as possible: a multiple is added by one, and a sign is not a factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from lossc.compiler.core import Const, Map, Node, div, mul
from lossc.compiler.emission.facts import is_representable
from lossc.compiler.emission.guards import Guard
from lossc.compiler.emission.procedure import Emitted, Slot

if TYPE_CHECKING:
    from lossc.compiler.emission.emitter import Emitter


def emit_sum(emitter: Emitter, node: Map, guard: Guard) -> Emitted:
    """The sum: the plain summands first, then c * x for each multiple."""
    parts = [_multiple(emitter, part) for part in node.arguments]
    first = [at for at, (factor, _) in enumerate(parts) if factor is None] or [_last_choice(parts)]
    total = _added(emitter, [emitter.number(node.arguments[at], guard) for at in first])
    for at, (factor, part) in enumerate(parts):
        if at not in first:
            assert factor is not None
            total = _plus(emitter, total, factor, emitter.number(part, guard))
    return total


def _multiple(emitter: Emitter, part: Node) -> tuple[float | None, Node]:
    """The number c and the x of a multiple c * x; None and the summand itself where it is not of this form."""
    if not isinstance(part, Map) or part.function != "mul":
        return None, part
    number, *others = part.arguments
    if not isinstance(number, Const) or not isinstance(number.value, Fraction) or not is_representable(float(number)):
        return None, part
    return float(number), emitter.instead(part, mul(*others))


def _last_choice(parts: Sequence[tuple[float | None, Node]]) -> int:
    """The multiple with which a sum starts that has no plain summand: one whose factor is more than a sign, if possible."""
    return next((at for at, (factor, _) in enumerate(parts) if factor != -1), 0)


def _added(emitter: Emitter, values: Sequence[Emitted]) -> Emitted:
    number, tensors = _apart(values, math.fsum)
    if not tensors:
        return Emitted(number)
    terms = [Emitted(number), *tensors] if number else tensors
    return terms[0] if len(terms) == 1 else emitter.elementwise("operations.add", terms)


def _plus(emitter: Emitter, total: Emitted, factor: float, value: Emitted) -> Emitted:
    """total + factor * value."""
    if total.literal or value.literal:
        return _added(emitter, [total, product(emitter, [Emitted(factor), value])])
    places, axes = emitter.builder.aligned((total, value))
    if factor == -1:
        return emitter.builder.call("torch.sub", places, axes)
    return emitter.builder.call("torch.add", places, axes, alpha=factor)


def emit_quotient(emitter: Emitter, node: Map, guard: Guard) -> Emitted | None:
    """x * w / y as (x / y) * w, where x and y are smaller than w."""
    above, below = node.arguments
    factors = above.arguments if isinstance(above, Map) and above.function == "mul" else ()
    narrow = [at for at, part in enumerate(factors) if below.axes <= part.axes < node.axes]
    if not narrow:
        return None
    at = min(narrow, key=lambda at: len(factors[at].axes))
    share = emitter.instead(node, div(factors[at], below))
    return emitter.number(emitter.instead(node, mul(share, *factors[:at], *factors[at + 1 :])), guard)


def product(emitter: Emitter, values: Sequence[Emitted]) -> Emitted:
    """The product; a number multiplies the smallest tensor."""
    number, tensors = _apart(values, math.prod)
    if not tensors:
        return Emitted(number)
    if number != 1:
        at = min(range(len(tensors)), key=lambda at: len(tensors[at].axes))
        tensors[at] = _scaled(emitter, number, tensors[at])
    return tensors[0] if len(tensors) == 1 else emitter.elementwise("operations.mul", tensors)


def _scaled(emitter: Emitter, number: float, value: Emitted) -> Emitted:
    if number == -1:
        return emitter.elementwise("torch.neg", (value,))
    return emitter.elementwise("operations.mul", (Emitted(number), value))


def _apart(values: Sequence[Emitted], joined: Callable[[list[float]], float]) -> tuple[float, list[Emitted]]:
    """The literals, as one number, and the tensors."""
    numbers = [value.at for value in values if not isinstance(value.at, Slot)]
    return float(joined(numbers)), [value for value in values if not value.literal]
