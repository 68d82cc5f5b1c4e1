"""From the outputs of a program to a `Result`: numerators over denominators, terms, and their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossc.compiler.lagrangian import VIOLATION
from lossc.runtime.backends.once import transforming
from lossc.runtime.messages import fail
from lossc.runtime.operations import ratio
from lossc.runtime.result import Denominators, PartResult, Result, Values
from lossc.runtime.variants import Entry, Form, Variant


def assembled(
    variant: Variant, outputs: Mapping[str, Tensor], shared: Denominators | None, *, per_term: bool,
    on_coupled: Callable[[str, int], None],
) -> Result:  # fmt: skip
    """The result; with shared denominators, this call's share in the result of the step."""
    terms: dict[str, Tensor] = {}
    monitors: dict[str, Tensor] = {}
    parts: dict[str, tuple[PartResult, ...]] = {}
    counts: dict[str, Tensor] = {}
    violations: dict[str, Tensor] = {}
    loss: Tensor | None = None
    for entry in variant.entries:
        found = tuple([_part(variant, entry, at, outputs) for at in range(len(entry.forms))])
        value = _value(entry, found, shared) if found else _zero(outputs)
        if shared is not None and shared.calls > 1 and "coupled" in entry.forms:
            on_coupled(f"`{entry.name}`", shared.calls)
        if entry.name.startswith(VIOLATION):
            violations[entry.name.removeprefix(VIOLATION)] = value.detach()
            continue
        attached = per_term and entry.sign != 0
        if entry.sign:
            signed = value if entry.sign > 0 else -value
            loss = signed if loss is None else loss + signed
            terms[entry.name] = value if attached else value.detach()
        else:
            monitors[entry.name] = value.detach()
        parts[entry.name] = found if attached else tuple(_detached(part) for part in found)
        counts[entry.name] = _count(found) if found else _zero(outputs)
    return Result(_zero(outputs) if loss is None else loss, terms, monitors, counts, parts, constraints=violations)


def _zero(outputs: Mapping[str, Tensor]) -> Tensor:
    return next(iter(outputs.values())).new_zeros(()) if outputs else torch.zeros(())


def weights(variant: Variant, shared: Denominators | None, known: Mapping[str, Tensor]) -> dict[str, float]:
    """dL/d numerator for every part of a term whose coefficient and denominator are among the known outputs.

    The values are numbers; in a trace, where numbers are not available, they are tensors.
    """
    found: dict[str, float] = {}
    calls = 1 if shared is None else shared.calls
    for entry in variant.entries:
        wholes = _wholes(entry, shared) if entry.sign else ()
        for at, whole in enumerate(wholes):
            prefix, form = f"{entry.name}.{at}", entry.forms[at]
            coefficient = known.get(f"{prefix}.coefficient")
            denominator = known.get(f"{prefix}.denominator") if whole is None else whole
            if coefficient is not None and (denominator is not None or form != "ratio"):
                weight = entry.sign * _number(coefficient)
                found[f"{prefix}.numerator"] = weight * _factor(form, denominator, calls)
    return found


def _number(value: Tensor) -> Any:
    return value.detach().double() if torch.compiler.is_compiling() else value.item()


def _factor(form: Form, denominator: Tensor | None, calls: int) -> Any:
    """The factor of the numerator of a part, apart from the coefficient."""
    if denominator is not None:
        size = _number(denominator)
        if isinstance(size, Tensor):
            return ratio(torch.ones_like(size), size)
        return 1.0 / size if size else 0.0
    return 1.0 / calls if form in ("once", "coupled") else 1.0


def _count(parts: tuple[PartResult, ...]) -> Tensor:
    """The number of entries of the term: of `a if mode == token else b`, that of the branch taken."""
    count = parts[0].count
    for part in parts[:0:-1]:
        count = torch.where(part.coefficient != 0, part.count, count)
    return count if len(parts) == 1 else torch.where(parts[0].coefficient != 0, parts[0].count, count)


def _value(entry: Entry, parts: tuple[PartResult, ...], shared: Denominators | None) -> Tensor:
    """sum_k c_k N_k / D_k."""
    wholes = _wholes(entry, shared)
    calls = 1 if shared is None else shared.calls
    value = _share(parts[0], wholes[0], calls)
    for part, whole in zip(parts[1:], wholes[1:], strict=True):
        value = value + _share(part, whole, calls)
    return value


def _wholes(entry: Entry, shared: Denominators | None) -> Sequence[Tensor | None]:
    """The denominator of the whole step for each part; None where the part uses its own."""
    none: Sequence[Tensor | None] = [None] * len(entry.forms)
    if shared is None:
        return none
    given = shared.values.get(entry.name)
    if given is not None and len(given) == len(entry.forms):
        return given
    if entry.sign:
        raise fail("E709", f"these denominators have none for `{entry.name}`", found=", ".join(shared.values))
    return none


def _share(part: PartResult, whole: Tensor | None, calls: int) -> Tensor:
    """c * N / D, as one multiplication where c and D are plain numbers.

    What counts once a step is divided among the calls of that step.
    """
    number = part.coefficient.item() if _at_hand(part.coefficient) else None
    if part.denominator is None:
        if part.form in ("once", "coupled") and calls > 1:
            return (part.coefficient if number is None else number) * (part.numerator / calls)
        return (part.coefficient if number is None else number) * part.numerator
    denominator = part.denominator if whole is None else whole
    size = denominator.item() if number is not None and _at_hand(denominator) else 0.0
    if number is None or not size:
        return part.coefficient * ratio(part.numerator, denominator.to(part.numerator.device, part.numerator.dtype))
    return part.numerator / size if number == 1.0 else part.numerator * (number / size)


def _at_hand(value: Tensor) -> bool:
    """Whether reading the value as a number is free; fewer tensor operations make a call cheaper."""
    return not (torch.compiler.is_compiling() or transforming() or not value.is_cpu or value.requires_grad)


def _part(variant: Variant, entry: Entry, at: int, outputs: Mapping[str, Tensor]) -> PartResult:
    prefix = f"{entry.name}.{at}"
    return PartResult(
        entry.forms[at],
        outputs[f"{prefix}.coefficient"],
        outputs[f"{prefix}.numerator"],
        outputs.get(f"{prefix}.denominator"),
        outputs[f"{prefix}.count"],
        _values(variant, entry.axes[at], prefix, outputs),
    )


def _values(variant: Variant, over: tuple[str, ...], prefix: str, outputs: Mapping[str, Tensor]) -> Values | None:
    """The entries that a part sums, with axes in the order in which the reduction names them."""
    names = [name for name in (f"{prefix}.body", f"{prefix}.mask") if name in outputs]
    if not names:
        return None
    places = [_arranged(outputs[name], variant.axes[name], over) for name in names]
    shape = torch.broadcast_shapes(*(place.shape for place in places))  # type: ignore[no-untyped-call]
    value, *mask = (place.expand(shape) for place in places)
    return Values(torch.where(mask[0], value, 0.0), mask[0], over) if mask else Values(value, None, over)


def _arranged(tensor: Tensor, axes: tuple[str, ...], order: tuple[str, ...]) -> Tensor:
    tensor = tensor.permute([axes.index(axis) for axis in order if axis in axes])
    for at, axis in enumerate(order):
        if axis not in axes:
            tensor = tensor.unsqueeze(at)
    return tensor


def _detached(part: PartResult) -> PartResult:
    denominator = None if part.denominator is None else _free(part.denominator)
    return PartResult(part.form, _free(part.coefficient), _free(part.numerator), denominator, _free(part.count), part.values)


def _free(value: Tensor) -> Tensor:
    return value.detach() if value.requires_grad else value
