"""The random tensors of an objective: seeded by step, call within the step and place in the spec; recorded and replayed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lossc.compiler.draws import Drawn
from lossc.runtime.arguments import brief, unusable
from lossc.runtime.messages import fail, shown
from lossc.runtime.operations.draws import drawn
from lossc.runtime.tracing import outside_traces


class Draws:
    """Counts the calls of a step. A call of `denominators` draws what the call for which it is made will draw.

    In evaluation the sequence does not depend on the step and restarts each time, so that readings can be compared.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.calls: dict[tuple[bool, bool], int] = {}
        """How many calls there were, by whether they trained and whether they were for denominators."""

    def restart(self, *, training: bool) -> None:
        """Makes the next call in evaluation the first one; with `training`, the next one in training too."""
        self.calls = {} if training else {key: number for key, number in self.calls.items() if key[0]}

    def draw(
        self, wanted: Mapping[str, Drawn], sizes: Mapping[str, int], like: Tensor, step: int, *, training: bool,
        counting: bool = False,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The random tensors of one call; a trace breaks its graph here."""
        return outside_traces(self._drawn, wanted, sizes, like, step, training, counting)

    def _drawn(
        self, wanted: Mapping[str, Drawn], sizes: Mapping[str, int], like: Tensor, step: int, training: bool, counting: bool
    ) -> dict[str, Tensor]:
        call = self.calls.get((training, counting), 0)
        self.calls[training, counting] = call + 1
        found = {}
        for name, each in wanted.items():
            place = (self.seed, int(training), step if training else 0, each.place)
            own = (*place, call, _rank()) if each.each_call else place
            found[name] = drawn(each.distribution, [sizes[axis] for axis in each.order], own, like)
        return found


def replayed(
    given: Mapping[str, Tensor], wanted: Mapping[str, Drawn], sizes: Mapping[str, int], like: Tensor
) -> dict[str, Tensor]:
    """The draws of an earlier call, for a call with the same extents.

    Raises E732 where they do not fit.
    """
    found = {}
    for name, each in wanted.items():
        shape = [sizes[axis] for axis in each.order]
        own = given.get(name)
        if not isinstance(own, Tensor) or unusable(own) or list(own.shape) != shape:
            what = shown(own) if isinstance(own, Tensor) else "nothing" if own is None else brief(own)
            message = f"the draws of this call do not fit: `{each.distribution}({', '.join(each.order)})` is {shape}"
            raise fail("E732", message, found=what, help="pass `draws=result.draws` of a call on tensors of the same extents")
        found[name] = own.to(like)
    return found


def _rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
