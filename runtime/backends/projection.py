"""The matrix products of a linear head and of its gradient, block of rows by block of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lossc.runtime.backends.pool import empty_on
from lossc.runtime.linear import Linear

SLICE_BYTES = 8 << 20
"""Of the rows of a block that are moved at once."""

ADDED_BYTES = 2 << 20
"""For each thread, of a product that is added to an accumulator of another type: it stays in the cache."""

KEPT = 0.9
"""The share of needed rows above which all rows are multiplied."""


class Projection:
    """One head during one call, outside autograd. Rows are those of `hidden`, flattened.

    Gradients accumulate in at least single precision: 16-bit products of a block are rounded once, then summed.
    """

    def __init__(self, head: Linear, like: Tensor) -> None:
        self.head = head
        self.dtype = head.hidden.dtype
        self.classes, self.features = head.weight.shape
        self.weight = head.weight.to(self.dtype)
        self.bias = None if head.bias is None else head.bias.to(self.dtype)
        self.scale = float(head.scale)
        self._wide = like.dtype
        self._memory: Tensor | None = None
        self._begun = False

    # -------------------------------------------------------------------------------------- scores

    def scores(self, hidden: Tensor, rows: Tensor | None) -> Tensor:
        """The scores of a block, [rows, classes]; 0 for rows that are not among `rows`."""
        scores = self._taken(hidden.shape[0])
        if rows is None:
            return self._product(hidden, scores)
        self._product(hidden[rows], scores[: rows.numel()])
        return spread(scores, rows)

    def _taken(self, rows: int) -> Tensor:
        """Memory for a block, the same for every block."""
        if self._memory is None or self._memory.shape[0] < rows:
            self._memory = empty_on(self.weight.device, (rows, self.classes), self.dtype)
        return self._memory[:rows]

    def _product(self, hidden: Tensor, out: Tensor) -> Tensor:
        torch.mm(hidden, self.weight.T, out=out)
        if self.bias is not None:
            out += self.bias
        if self.scale != 1.0:
            out *= self.scale
        cap = self.head.softcap
        return out if cap is None else out.div_(cap).tanh_().mul_(cap)

    # -------------------------------------------------------------------------------------- gradients

    def start(self, wanted: frozenset[str], *, whole: bool) -> dict[str, Tensor]:
        """Accumulators for the gradients of the wanted parts; a `whole` head has one block and needs no wider type."""
        shapes = {name: part.shape for name, part in self.head.parts.items() if name in wanted}
        types = {"hidden": self.dtype, "weight": self.dtype if whole else self._wide}
        device = self.weight.device
        found = {name: torch.zeros(shape, dtype=types.get(name, self._wide), device=device)
                 for name, shape in shapes.items() if name != "weight"}  # fmt: skip
        if "weight" in wanted:
            found["weight"] = empty_on(self.weight.device, tuple(shapes["weight"]), types["weight"])
        return found

    def finish(self, total: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradients, once every block has been added."""
        if "weight" in total and not self._begun:
            total["weight"].zero_()
        return dict(total)

    def uncapped(self, slope: Tensor, scores: Tensor) -> Tensor:
        """dL/d product from dL/d score, in place."""
        cap = self.head.softcap
        return slope if cap is None else slope.mul_(1 - (scores / cap).square_())

    def add(
        self, total: Mapping[str, Tensor], hidden: Tensor, slope: Tensor, place: Tensor | None, rows: Tensor | None
    ) -> None:
        """Adds the contribution of a block, from its hidden states and dL/d product.

        The gradient of the block's hidden states is written to `place`; `rows` are the rows that count. `slope` is
        overwritten.
        """
        if rows is not None:
            hidden, slope = hidden[rows], gathered(slope, rows)
        if not hidden.shape[0]:
            return
        if "scale" in total or place is not None:
            self._towards_hidden(total, hidden, slope, place, rows)
        if "scale" in total and self.bias is not None:
            total["scale"] += (slope.sum(0, dtype=self._wide) * self.bias.to(self._wide)).sum()
        if "bias" in total:
            total["bias"].add_(slope.sum(0, dtype=self._wide), alpha=self.scale)
        if "weight" in total:
            self._towards_weight(total["weight"], hidden, slope)

    def _towards_hidden(
        self, total: Mapping[str, Tensor], hidden: Tensor, slope: Tensor, place: Tensor | None, rows: Tensor | None
    ) -> None:
        found = slope @ self.weight
        if "scale" in total:
            total["scale"] += (found.to(self._wide) * hidden.to(self._wide)).sum()
        if place is not None:
            found = found if self.scale == 1.0 else found * self.scale
            if rows is None:
                place.add_(found)
            else:
                place.index_add_(0, rows, found)

    def _towards_weight(self, total: Tensor, hidden: Tensor, slope: Tensor) -> None:
        begun, self._begun = self._begun, True
        if total.dtype == slope.dtype:
            torch.addmm(total, slope.T, hidden, beta=int(begun), alpha=self.scale, out=total)
            return
        classes = max(1, ADDED_BYTES * torch.get_num_threads() // (self.features * slope.element_size()))
        made = empty_on(slope.device, (min(classes, self.classes), self.features), slope.dtype)
        for start in range(0, self.classes, classes):
            part = slope[:, start : start + classes]
            out = made[: part.shape[1]]
            torch.mm(part.T, hidden, out=out)
            place = total[start : start + classes]
            if begun:
                place.add_(out, alpha=self.scale)
            else:
                torch.mul(out, self.scale, out=place)


def needed_rows(mask: Tensor | None) -> Tensor | None:
    """The positions of the rows that count; None where nearly all do."""
    if mask is None:
        return None
    rows = mask.flatten().nonzero().flatten()
    return None if rows.numel() >= KEPT * mask.numel() else rows


def gathered(block: Tensor, rows: Tensor) -> Tensor:
    """The rows of a block, in ascending order, moved to its start slice by slice; a view of the block."""
    for start, some in _slices(block, rows):
        block[start : start + some.numel()] = block[some]
    return block[: rows.numel()]


def spread(block: Tensor, rows: Tensor) -> Tensor:
    """The block with its first rows moved to the positions `rows`, in ascending order, and all others 0."""
    for start, some in reversed(list(_slices(block, rows))):
        block[some] = block[start : start + some.numel()].clone()
    unread = torch.ones(block.shape[0], dtype=torch.bool, device=rows.device)
    unread[rows] = False
    block[unread] = 0
    return block


def _slices(block: Tensor, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Slices of the rows with the position of each, such that no row moves beyond a row of another slice."""
    step = max(1, SLICE_BYTES // max(1, block.shape[1] * block.element_size()))
    for start in range(0, rows.numel(), step):
        yield start, rows[start : start + step]
