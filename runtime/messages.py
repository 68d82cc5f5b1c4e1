"""Problems of a batch or of a call, as the same diagnostics that a file gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch

from lossc.grammar.diagnostics import Diagnostic, LosscError, Note, error
from lossc.grammar.source import Source, Span

_BATCH = Span(Source("<batch>", ""), 0, 0)


class Shaped(Protocol):
    """A tensor, or what stands for one."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def shape(self) -> torch.Size: ...


class LosscWarning(UserWarning):
    """Something about a call that is allowed and probably not meant."""


def problem(
    code: str, message: str, *, found: str = "", declared: Span | None = None, help: Iterable[str] | str = ()
) -> Diagnostic:
    """A problem that stands in no file; `declared` is the line of the spec that says what was expected."""
    notes = [Note("declared here", declared)] if declared is not None and declared.source.text else []
    return error(code, message, _BATCH, label=found, notes=notes, help=help)


def fail(
    code: str, message: str, *, found: str = "", declared: Span | None = None, help: Iterable[str] | str = ()
) -> LosscError:
    """The exception that carries one problem."""
    return LosscError([problem(code, message, found=found, declared=declared, help=help)])


def shown(tensor: Shaped) -> str:
    """A tensor's type and shape, for a message: `float32[4, 7]`."""
    type_ = str(tensor.dtype).removeprefix("torch.")
    return f"{type_}, nested" if getattr(tensor, "is_nested", False) else f"{type_}{list(tensor.shape)}"
