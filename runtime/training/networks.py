"""The networks beside the one in training: as it began, a moving average, a copy of now and then, teachers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from lossc.runtime.training.feed_sections import Average, Importance, Model, NetworkFeed, Previous, Reference, identity


class Networks(nn.Module):
    """Finds the network that a feed means. Only averages and copies change, and are kept in checkpoints.

    After step n with weights w: average = decay * average + (1 - decay) * w; a copy is w where n is a multiple of `every`.
    """

    def __init__(
        self, student: nn.Module, feeds: Iterable[NetworkFeed | Importance], others: Mapping[tuple[Any, ...], Any]
    ) -> None:
        super().__init__()
        self._student = (student,)  # in a tuple: the weights belong to whoever trains them
        self._fixed: dict[tuple[Any, ...], Any] = dict(others)
        self.moving = nn.ModuleList()
        self._followed: list[Average | Previous] = []
        for feed in feeds:
            self._add(feed)

    def _add(self, feed: NetworkFeed | Importance) -> None:
        key = identity(feed)
        if isinstance(feed, Reference) and key not in self._fixed:
            self._fixed[key] = _copy(self._student[0])
        if isinstance(feed, Average | Previous) and all(identity(other) != key for other in self._followed):
            self.moving.append(_copy(self._student[0]))
            self._followed.append(feed)

    def of(self, feed: NetworkFeed | Importance) -> Any:
        """The network that answers; of an importance, the number for each parameter by name."""
        if isinstance(feed, Model):
            return self._student[0]
        key = identity(feed)
        if key in self._fixed:
            return self._fixed[key]
        return self.moving[[identity(other) for other in self._followed].index(key)]

    def average(self) -> nn.Module | None:
        """The first moving average, if there is one."""
        pairs = zip(self.moving, self._followed, strict=True)
        return next((network for network, feed in pairs if isinstance(feed, Average)), None)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Called once behind each step."""
        for network, feed in zip(self.moving, self._followed, strict=True):
            if isinstance(feed, Average):
                _approach(network, self._student[0], feed.decay)
            elif step % feed.every == 0:
                _approach(network, self._student[0], 0.0)

    def train(self, mode: bool = True) -> Networks:
        """They answer and do not learn: no dropout, whatever the network in training does."""
        return super().train(False)


def _copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def _approach(follower: nn.Module, leader: nn.Module, decay: float) -> None:
    """follower = decay * follower + (1 - decay) * leader, parameter by parameter; buffers are taken over."""
    for mine, theirs in zip(follower.parameters(), leader.parameters(), strict=True):
        mine.lerp_(theirs, 1 - decay)
    for kept, current in zip(follower.buffers(), leader.buffers(), strict=True):
        kept.copy_(current)
