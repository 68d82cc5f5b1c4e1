"""Written types as kinds: reading them, and deciding whether a value fits where a kind is expected."""

from __future__ import annotations

from dataclasses import replace

from lossc.compiler import intervals as iv
from lossc.compiler.constants import as_float, constant_value
from lossc.compiler.elaborate.context import Context
from lossc.compiler.elaborate.groups import WEIGHTS_AXIS
from lossc.compiler.intervals import Interval
from lossc.compiler.kinds import DISTRIBUTIONS, KIND_NAMES, MASK, NUMBERS, Kind, Signature
from lossc.compiler.values import Value
from lossc.grammar import syntax
from lossc.grammar.expressions import print_type
from lossc.grammar.source import Span
from lossc.grammar.suggest import did_you_mean

_OTHER_KINDS = ("term",)


def read_type(ctx: Context, type_: syntax.Type) -> tuple[Kind, tuple[str, ...]] | None:
    """The kind of a type and its axes in order, by their names in the core; None after a report."""
    if type_.kind not in (*KIND_NAMES, *_OTHER_KINDS):
        _unknown_kind(ctx, type_)
        return None
    order: list[str] = []
    for name in type_.axes or ():
        symbol = ctx.axis(name, type_.span)
        if symbol is None:
            return None
        if symbol.name in order:
            ctx.wrong("E302", f"axis `{name}` is named twice in one kind", type_.span,
                      help="two axes of one extent have two names")  # fmt: skip
            return None
        order.append(symbol.name)
    if not _bounded_rightly(ctx, type_):
        return None
    kind = _kind(ctx, type_, order)
    if kind is None:
        return None
    if kind.name == "model":
        return _model(ctx, type_)
    if kind.name == "weights":
        pattern = type_.within.text if isinstance(type_.within, syntax.Pattern) else ""
        if len(order) > 1:
            ctx.wrong("E211", "weights name one axis, that of their leaves", type_.span,
                      help='write `weights[layer] in "encoder.*"`')  # fmt: skip
            return None
        hidden = f"{WEIGHTS_AXIS}{pattern}"
        if order and ctx.frame.kind in ("objective", "setting"):
            ctx.session.leaves.setdefault(hidden, order[0])
        return replace(kind, leaves=order[0] if order else None), (hidden,)
    return kind, tuple(order)


def _model(ctx: Context, type_: syntax.Type) -> tuple[Kind, tuple[str, ...]] | None:
    assert type_.result is not None
    read = [read_type(ctx, each) for each in (*type_.parameters, type_.result)]
    found = tuple(each for each in read if each is not None)
    if len(found) != len(read):
        return None
    if found[-1][0].name not in (*NUMBERS, *DISTRIBUTIONS):
        ctx.wrong("E211", "a model gives numbers", type_.result.span, help="write `model(real[b, d]) -> logits[b, v]`")
        return None
    return Kind("model", signature=Signature(found[:-1], found[-1])), ()


_MEANT = {
    "float": "real", "number": "real", "scalar": "real", "tensor": "real", "double": "real", "integer": "int",
    "long": "label", "bool": "mask", "boolean": "mask", "probability": "prob", "probabilities": "prob", "probs": "prob",
    "distribution": "prob", "log_prob": "logprob", "log_probs": "logprob", "logp": "logprob", "scores": "logits",
    "index": "label", "target": "label", "labels": "label", "vector": "embedding", "nonnegative": "nonneg",
    "string": "{a, b}", "str": "{a, b}", "function": "term",
}  # fmt: skip
"""What other languages call a kind."""


def _unknown_kind(ctx: Context, type_: syntax.Type) -> None:
    known = [name for name in KIND_NAMES if name != "choice"]
    meant = _MEANT.get(type_.kind)
    hint = (f"write `{meant}`",) if meant else did_you_mean(type_.kind, known)
    at = Span(type_.span.source, type_.span.start, min(type_.span.end, type_.span.start + len(type_.kind)))
    ctx.wrong("E206", f"there is no kind `{type_.kind}`", at, help=hint or f"the kinds are {', '.join(known)}")


def _bounded_rightly(ctx: Context, type_: syntax.Type) -> bool:
    """Checks `in`: labels point into an axis, numbers lie between bounds, weights match a pattern; nothing else has one."""
    within, kind = type_.within, type_.kind
    wanted = {"label": str, "weights": syntax.Pattern}.get(kind, tuple if kind in NUMBERS else type(None))
    if within is None or isinstance(within, wanted):
        return True
    if isinstance(within, str):
        help_ = f"only a label points into an axis: `label[…] in {within}`"
    elif isinstance(within, tuple):
        help_ = "only a number has bounds: `real in [0, 1]`"
    elif isinstance(within, syntax.Pattern):
        help_ = 'only weights are chosen by a pattern: `weights in "encoder.*"`'
    else:
        help_ = "a ball belongs to `worst[delta : real[b, d] in ball(inf, eps)](…)`"
    ctx.wrong("E211", f"`{kind}` cannot be followed by this `in`", type_.span, help=help_)
    return False


def _kind(ctx: Context, type_: syntax.Type, order: list[str]) -> Kind | None:
    match type_.kind:
        case "logits" | "prob" | "embedding" if not order:
            ctx.wrong("E303", f"`{type_.kind}` needs the axis that it is over", type_.span,
                      help=f"write `{type_.kind}[b, v]`; the axis named last is the one it is over")  # fmt: skip
            return None
        case name if name in DISTRIBUTIONS:
            over = order[-1] if order and not _per_entry(ctx, type_, order) else None
            bounds = {"prob": Interval(0, 1), "logprob": Interval(-iv.INF, 0)}.get(name, Interval())
            return Kind(name, axis=over, bounds=bounds)
        case "label":
            return _label(ctx, type_)
        case "mask":
            return MASK
        case "choice":
            return Kind("choice", choices=type_.choices, bounds=Interval(0, len(type_.choices) - 1, integer=True))
        case "model" if type_.result is None:
            ctx.wrong("E303", "a model needs the kinds of its arguments and of its result", type_.span,
                      help="write `model(real[b, d]) -> logits[b, v]`")  # fmt: skip
            return None
        case "term" if ctx.frame.kind not in ("term", "law"):
            ctx.wrong("E211", "only an argument of a term can be a term", type_.span)
            return None
        case "weights" | "model" | "term":
            return Kind(type_.kind)
    bounds = NUMBERS[type_.kind]
    if isinstance(type_.within, tuple):
        ends = [ctx.value(end) for end in type_.within]
        if any(end.wrong for end in ends):
            return None
        limits = [constant_value(end.node) for end in ends]
        if limits[0] is None or limits[1] is None or not limits[0] <= limits[1]:
            ctx.wrong("E407", "the bounds of a kind are two constants, the smaller first", type_.span,
                      help=f"write `{type_.kind} in [0, 1]`")  # fmt: skip
            return None
        given = Interval(as_float(limits[0]), as_float(limits[1]))
        if not given.meets(bounds):
            ctx.wrong("E407", f"nothing in {given} is {type_.kind}", type_.span)
            return None
        bounds = given.intersect(bounds)
    return Kind(type_.kind if type_.within is None else "real", bounds=bounds)


def _label(ctx: Context, type_: syntax.Type) -> Kind | None:
    if type_.within is None and ctx.frame.kind in ("term", "law"):
        return Kind("label", bounds=iv.INTEGER)
    if not isinstance(type_.within, str):
        ctx.wrong(
            "E303", "a label needs the axis that it points into", type_.span, help=f"write `{print_type(type_)} in v`"
        )
        return None
    symbol = ctx.axis(type_.within, type_.span)
    if symbol is None:
        return None
    return Kind("label", codomain=symbol.name, bounds=iv.INTEGER)


def _per_entry(ctx: Context, type_: syntax.Type, order: list[str]) -> bool:
    """Whether a `logprob` is one number for each entry (`logprob[pair, side]`) and not a distribution over its last axis.

    In a file, a distribution can only be over an axis that scores, probabilities or labels elsewhere run over; a term
    names only axes that it consumes, so there it is always over the last axis.
    """
    if type_.kind != "logprob" or ctx.frame.kind in ("term", "law"):
        return False
    return order[-1] not in ctx.session.class_axes


def fits(formal: Kind, actual: Value) -> bool:
    """Whether a value fits where a kind is expected: what is known to be wrong is refused, what is merely unproven is not."""
    name, node = actual.kind.name, actual.node
    if formal.name == "term" or name == "term":
        return formal.name == name
    if formal.name in ("weights", "model"):
        return name == formal.name
    if formal.name == "choice":
        return actual.kind.choices == formal.choices
    if name in ("model", "choice"):
        return False
    if formal.name == "mask":
        return name == "mask"
    if formal.name == "label":
        return name == "label"
    if formal.name == "logits":
        return name in ("logits", "weights", *NUMBERS) or (name == "logprob" and actual.kind.axis is not None)
    if formal.name == "prob":
        return name in ("prob", *NUMBERS) and node.domain.meets(formal.bounds)
    if formal.name == "logprob":
        return name in ("logprob", *NUMBERS) and node.domain.meets(formal.bounds)
    if formal.name == "embedding":
        return name in ("embedding", "logits", *NUMBERS)
    return True


def in_bounds(formal: Kind, actual: Value) -> bool:
    """Whether a number can lie in the domain of the expected kind."""
    value = constant_value(actual.node)
    if value is None:
        return actual.node.domain.meets(formal.bounds)
    return as_float(value) in formal.bounds and not (formal.name == "sign" and value == 0)


def bounds_text(kind: Kind) -> str:
    """The domain of a kind of number, for a message."""
    known = {"positive": "greater than 0", "nonneg": "at least 0", "unit": "in [0, 1]", "sign": "-1 or 1",
             "int": "a whole number"}  # fmt: skip
    return known.get(kind.name, f"in {kind.bounds}")


def domain_text(value: Value) -> str:
    """Where a value lies, for a message: `is 1.5`, `lies in [0, 1]`."""
    number = constant_value(value.node)
    return f"lies in {value.node.domain}" if number is None else f"is {as_float(number):g}"
