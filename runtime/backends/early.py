"""Gradients formed in the forward pass for an expected upstream gradient, and the check whether that is the one that comes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from lossc.runtime.backends.seam import Weights

Key = TypeVar("Key", bound=Hashable)

CLOSE = 2.0**-20
"""The largest relative difference between an upstream gradient that was expected and the one that came."""


@dataclass
class Visit:
    """The upstream gradients that one call expects, and the gradients formed with its statistics for a multiple of these.

    `multiple` is None where no gradients were formed.
    """

    expected: Weights
    multiple: float | None
    gradients: dict[str, Tensor] = field(default_factory=dict)


class Expectation:
    """Which multiple of the expected upstream gradients the next call should assume: the one that came last.

    It is None after upstream gradients that were no multiple of those expected; nothing is then formed early until a
    multiple comes again.
    """

    def __init__(self) -> None:
        self.multiple: float | None = 1.0

    def answer(self, visit: Visit, upstream: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The gradients of a visit, if they are the ones asked for; they can be taken once."""
        taken, visit.gradients = visit.gradients, {}
        if not visit.expected or not (taken or visit.multiple is None):
            return None
        came = ratio_of(visit.expected, upstream)
        if came != 0.0:
            self.multiple = came
        if came is None or visit.multiple is None:
            return None
        return taken if abs(came - visit.multiple) <= CLOSE * abs(visit.multiple) else None


def scaled(gradients: dict[Key, Tensor], ratio: float) -> dict[Key, Tensor]:
    """Gradients that were formed for upstream gradients smaller by this ratio, scaled in place."""
    return gradients if abs(ratio - 1.0) <= CLOSE else {key: value.mul_(ratio) for key, value in gradients.items()}


def ratio_of(expected: Weights, upstream: Mapping[str, Tensor]) -> float | None:
    """The upstream gradients as a multiple of the expected ones; None where they are not proportional."""
    came = {name: gradient.item() if gradient.dim() == 0 else float("nan") for name, gradient in upstream.items()}
    if any(value != 0 for name, value in came.items() if name not in expected):
        return None
    ratios = [came.get(name, 0.0) / value if value else float("nan")
              for name, value in expected.items() if value or came.get(name)]  # fmt: skip
    first = ratios[0] if ratios else 1.0
    return first if all(abs(each - first) <= CLOSE * abs(first) for each in ratios) else None
