"""Arguments that do not fit: what was expected, what was given, and how to turn the one into the other."""

from __future__ import annotations

from collections.abc import Container, Mapping

from lossc.compiler.elaborate.context import Context, describe
from lossc.compiler.elaborate.types import bounds_text, domain_text, fits, in_bounds
from lossc.compiler.kinds import DISTRIBUTIONS, NUMBERS, Kind, Signature
from lossc.compiler.symbols import TermSymbol
from lossc.compiler.values import Value
from lossc.grammar import syntax
from lossc.grammar.diagnostics import Note
from lossc.grammar.printer import print_expr
from lossc.grammar.source import Span


def accepted(
    ctx: Context, inner: Context, term: TermSymbol, formal: syntax.Formal, kind: Kind, order: tuple[str, ...], value: Value,
    span: Span, text: str,
) -> bool:  # fmt: skip
    """Whether a value can be the argument `formal`, by kind, axes and domain; reports it otherwise."""
    notes = [Note("declared here", value.declared)] if value.declared else []
    notes.append(Note(f"`{formal.name}` of `{term.name}`", formal.span))
    if not fits(kind, value):
        _wrong_kind(ctx, wanted(inner, kind), term, kind, value, span, text, notes)
        return False
    if kind.signature is not None and not _same_signature(kind.signature, value.kind.signature):
        _wrong_kind(ctx, wanted(inner, kind), term, kind, value, span, text, notes)
        return False
    missing = [axis for axis in order if axis not in value.axes and kind.name != "weights"]
    if missing:
        ctx.wrong("E304", f"`{formal.name}` of `{term.name}` needs axis `{ctx.written(missing[0])}`", span,
                  label=describe(ctx, value), notes=notes)  # fmt: skip
        return False
    if kind.name in NUMBERS and not in_bounds(kind, value):
        message = f"`{formal.name}` of `{term.name}` must be {bounds_text(kind)}, and this {domain_text(value)}"
        ctx.wrong("E401", message, span, notes=notes)
        return False
    if kind.name == "label" and kind.codomain is not None and value.kind.codomain != kind.codomain:
        ctx.wrong("E209", f"`{formal.name}` of `{term.name}` must point into `{ctx.written(kind.codomain)}`", span,
                  label=describe(ctx, value), notes=notes)  # fmt: skip
        return False
    return True


def lint_masks(
    ctx: Context, term: TermSymbol, call: syntax.Call, placed: Container[str], given: Mapping[str, tuple[Value, Span]]
) -> None:
    """W203: a mask passed by position to a number with a default, while the mask that the term takes keeps its own default."""
    formals = term.declaration.formals
    left = [formal.name for formal in formals if formal.name not in placed and _kind(formal) == "mask"]
    for formal, argument in zip(formals, call.arguments, strict=False):
        if argument.name is not None or not left:
            return
        value, span = given[formal.name]
        if value.is_mask and formal.default is not None and _kind(formal) in NUMBERS:
            ctx.warn("W203", f"a mask is given for the number `{formal.name}` of `{term.name}`", span,
                     help=f"write `{left[0]} = {print_expr(argument.value)}`")  # fmt: skip


def _kind(formal: syntax.Formal) -> str:
    return formal.type.kind if formal.type is not None else "real"


def _wrong_kind(
    ctx: Context, asked: str, term: TermSymbol, kind: Kind, value: Value, span: Span, text: str, notes: list[Note],
) -> None:  # fmt: skip
    message = f"`{term.name}` expects {asked}, but {_shown(text)} is {found(value)}"
    ctx.wrong("E204", message, span, label=describe(ctx, value), notes=notes, help=_hint(ctx, kind, value, text))


def _same_signature(asked: Signature, given: Signature | None) -> bool:
    """Whether a model has the arguments and result that a formal states, except for kinds of numbers."""
    both = [(*each.parameters, each.result) for each in (asked, given) if each is not None]
    return len(both) == 2 and len(both[0]) == len(both[1]) and all(
        left[1] == right[1] and (left[0].name == right[0].name or {left[0].name, right[0].name} <= set(NUMBERS))
        for left, right in zip(*both, strict=True)
    )


def known_misfit(ctx: Context, term: TermSymbol, given: dict[str, tuple[Value, Span]]) -> bool:
    """Reports an argument whose kind alone is wrong, before the axes of the term are bound."""
    for formal in term.declaration.formals:
        type_ = formal.type
        if type_ is None or formal.name not in given or type_.kind not in (*DISTRIBUTIONS, "label", "mask"):
            continue
        value, span = given[formal.name]
        kind = Kind(type_.kind, axis=type_.axes[-1] if type_.axes and type_.kind in DISTRIBUTIONS else None)
        if not fits(kind, value):
            notes = [Note(f"`{formal.name}` of `{term.name}`", formal.span)]
            text = " ".join(span.text.split())
            _wrong_kind(ctx, wanted(ctx, kind), term, kind, value, span, text, notes)
            return True
    return False


def wanted(ctx: Context, kind: Kind) -> str:
    over = f" over `{ctx.written(kind.axis)}`" if kind.axis else ""
    named = {"logits": f"logits{over}", "prob": f"a distribution{over}", "logprob": f"log-probabilities{over}",
             "embedding": f"a vector{over}", "mask": "a mask", "label": "a label", "term": "a term",
             "weights": "a group of weights", "model": "a model"}  # fmt: skip
    return named.get(kind.name, f"a number ({kind.name})")


def found(value: Value) -> str:
    named = {"prob": "a distribution", "logprob": "a log-probability", "logits": "logits", "mask": "a mask",
             "label": "a label", "embedding": "a vector", "weights": "a group of weights", "model": "a model",
             "term": "a term", "choice": "a choice"}  # fmt: skip
    if value.kind.name in NUMBERS:
        return f"a number in {value.node.domain}"
    return named.get(value.kind.name, f"a {value.kind.name}")


def _shown(text: str) -> str:
    return f"`{text}`" if 0 < len(text) <= 40 else "this"


def _hint(ctx: Context, kind: Kind, value: Value, text: str) -> str:
    """How to turn the value into the expected kind, where that is possible."""
    text = text if 0 < len(text) <= 40 else "x"
    axis = ctx.written(value.kind.axis) if value.kind.axis is not None else "v"
    match kind.name, value.kind.name:
        case asked, "model" if asked != "model":
            return f"call it: `{text}(…)`"
        case "logits", "prob":
            return f"write `log({text})`; a target distribution is for another argument, or another term"
        case "logits", "logprob":
            return "these are log-probabilities of single entries; give the scores of all of them"
        case "prob", "logits":
            return f"write `softmax[{axis}]({text})`"
        case "prob", "mask":
            return f"as a distribution that is all on one entry: `1 if {text} else 0`"
        case "prob", "logprob":
            return f"write `exp({text})`"
        case "logprob", "logits":
            return f"write `log_softmax[{axis}]({text})`"
        case "logprob", "prob":
            return f"write `log({text})`"
        case "label", ("real" | "int"):
            return "a label is declared with the axis that it points into: `data y : label[b] in v`"
        case ("label", _) | (_, "label"):
            return "are two arguments in each other's place?"
        case "mask", _:
            return f"a number is never a mask; compare it: `{text} > 0`"
        case "term", _:
            return "name a term or a function, without parentheses"
        case _, "term":
            return f"call it: `{text}(…)`"
    return ""
