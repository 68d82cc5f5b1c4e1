"""Checks of arguments other than tensors of a batch: each raises E726 for a value of the wrong type."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.messages import fail

ALLOWED = '`allow=("package.module",)`'

NAMES = (list, tuple, set, frozenset)

MOST = 1 << 63
"""Above the whole numbers that torch takes."""


def an_instance(name: str, value: object, of: Any, what: str, *, code: str = "E726", help: str = "") -> Any:
    """The value, which must be `what`, such as `a mapping from names to tensors`."""
    if not isinstance(value, of):
        raise fail(code, f"`{name}` must be {what}", found=type(value).__name__, help=help or ())
    return value


def as_float(value: object) -> float | None:
    """A number as a float; None for other values, and for numbers beyond the range of a float."""
    try:
        return float(value) if isinstance(value, Real) else None
    except OverflowError:
        return None


def brief(value: object) -> str:
    """A value on one short line, for a message."""
    try:
        text = repr(value)
    except Exception:  # what an object says of itself is its own affair
        text = type(value).__name__
    first, *rest = text.splitlines() or [""]
    return shortened(first, 60, more=bool(rest))


def shortened(text: str, most: int, *, more: bool = False) -> str:
    """A text on one line, cut off after so many characters."""
    return f"{text[:most]}…" if more or len(text) > most else text


def a_whole_number(name: str, value: object, *, code: str = "E726") -> int:
    """An int, or a value that Python accepts as an index."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except (TypeError, RuntimeError):
        raise fail(code, f"`{name}` must be a whole number", found=type(value).__name__) from None
    if not -MOST < number < MOST:
        raise fail(code, f"`{name}` must be a whole number of at most 63 bits", found=f"one of {number.bit_length()} bits")
    return number


def a_number(name: str, value: object, *, code: str = "E726") -> float:
    """A finite number."""
    number = as_float(value)
    if number is None or not math.isfinite(number):
        raise fail(code, f"`{name}` must be a finite number", found=brief(value))
    return number


def a_device(name: str, value: object) -> torch.device:
    """A device that torch has."""
    try:
        device = torch.device(value)  # type: ignore[call-overload]
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError):
        raise fail("E726", f"`{name}` must be a device that is here", found=brief(value), help='such as `"cpu"`') from None
    return cast(torch.device, device)


@contextmanager
def answering(name: str, *, code: str = "E726") -> Iterator[None]:
    """Turns what torch raises for arguments passed through to it into a diagnostic of the given function."""
    try:
        yield
    except LosscError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as problem:
        reason = " ".join(str(problem).split())
        raise fail(code, f"`{name}` cannot be done with this", found=shortened(reason, 200)) from problem


def by_name(name: str, value: object, what: str, *, code: str = "E726") -> dict[str, Any]:
    """A mapping with strings as keys; None means an empty one."""
    given = an_instance(name, {} if value is None else value, Mapping, what, code=code)
    for key in given:
        an_instance(f"a key of {name}", key, str, "a text", code=code)
    return dict(given)


def extents(value: object) -> dict[str, int]:
    """`sizes`: extents by axis."""
    found = by_name("sizes", value, "a mapping from axes to extents")
    sizes = {axis: a_whole_number(f"sizes[{axis!r}]", extent) for axis, extent in found.items()}
    for axis, extent in sizes.items():
        if extent < 0:
            raise fail("E726", f"the extent of `{axis}` is negative", found=str(extent))
    return sizes


def modules(value: object) -> tuple[str, ...]:
    """`allow`: names of modules; a single name needs no list."""
    names = [value] if isinstance(value, str) else an_instance("allow", value, NAMES, "names of modules", help=ALLOWED)
    return tuple(an_instance("an entry of allow", name, str, "the name of a module", help=ALLOWED) for name in names)


def multiplies(tensor: Tensor) -> bool:
    """Whether the tensor has a type for which torch has matrix products on all devices."""
    return tensor.dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def is_batched(tensor: Tensor) -> bool:
    """Whether `torch.vmap` has it stand for several tensors, whose entries cannot be looked at."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def unusable(tensor: Tensor) -> str:
    """Why a tensor cannot be computed with, such as a sparse layout; empty where it can be."""
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return str(tensor.layout).removeprefix("torch.").removeprefix("_")
    return "on the device meta" if tensor.is_meta else "quantized" if tensor.is_quantized else ""
