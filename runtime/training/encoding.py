"""What turning rows into tensors needs to know: the tokenizer, the classes, the number format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossc.runtime.training.rows import BadValueError
from lossc.runtime.training.tokenizer import Tokenizer


@dataclass(frozen=True)
class Classes:
    """The classes of a label: numbered from 0, or named and numbered in the order of their names."""

    count: int
    names: tuple[str, ...] = ()

    def index(self, label: int | str) -> int:
        """The number of a class, negative for none; BadValueError for a label that is no class."""
        if isinstance(label, str) or self.names:
            if str(label) not in self.names:
                raise self._wrong(f"is `{label}`, which is no class of the training rows", label)
            return self.names.index(str(label))
        if label >= self.count:
            raise self._wrong(f"is {label}, but there are {self.count} classes, 0 to {self.count - 1}", label)
        return label

    @staticmethod
    def _wrong(reason: str, label: int | str) -> BadValueError:
        return BadValueError(reason, str(label), column="labels", code="E823")


def find_classes(labels: Sequence[int | str], count: int | None) -> Classes:
    """The classes that occur; `count` where the rows need not show all."""
    if any(isinstance(label, str) for label in labels):
        names = tuple(sorted({str(label) for label in labels}))
        return Classes(max(len(names), count or 0), names)
    return Classes(count or max((int(label) for label in labels), default=0) + 1)


@dataclass(frozen=True)
class Encoding:
    """Fixed by the training rows, before the first example is made."""

    tokens: int = 128
    tokenizer: Tokenizer | None = None
    classes: Classes | None = None
    dtype: torch.dtype = torch.float32

    def numbers(self, values: float | Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self.dtype)
