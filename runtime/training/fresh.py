"""What is new at each step: views of the rows, and completions that the network draws.

Every draw has a generator of its own, seeded by the run and the place (step, micro-batch, process), so that a resumed run
draws what an unbroken one draws, and the held-out rows are given the same draws each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lossc.runtime.training.examples import Batch
from lossc.runtime.training.feed_sections import View
from lossc.runtime.training.rollouts import Drawn, Rollouts
from lossc.runtime.training.views import augmented


@dataclass(frozen=True)
class Fresh:
    """Completes the batches of a step."""

    seed: int
    views: Mapping[str, View]
    """By the name of the tensor that the network reads."""
    statistics: tuple[Tensor, Tensor] | None = None
    rollouts: Rollouts | None = None

    def __call__(self, batch: Batch, network: nn.Module, *place: Any) -> tuple[Batch, list[Drawn]]:
        """The batch with what is drawn for it; nothing is drawn where the run asks for nothing."""
        if not self.views and self.rollouts is None:
            return batch, []
        device = next(iter(batch["network"].values())).device
        generator = torch.Generator(device).manual_seed(_seed(self.seed, *place))
        if self.views:
            assert self.statistics is not None
            read = {
                name: augmented(batch["network"][name], view, self.statistics, generator) for name, view in self.views.items()
            }
            batch = {"network": batch["network"] | read, "data": batch["data"]}
        return self.rollouts(batch, network, generator) if self.rollouts is not None else (batch, [])


def _seed(*place: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:7], "big")
