"""A case: a program of the library with its batch and its closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from tests.oracles.batches import INPUTS, SETTINGS, Batch
from tests.oracles.rows import kept, mean
from torch import Tensor

Oracle = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Case:
    """`expression` is minimised in `setting`; `oracle` is the same number, computed from the same tensors.

    `uses` are terms by module, `declarations` further lines, `extra` further tensors, `inputs` those of them that carry
    gradient. `finite` says that value and gradient stay finite at logits of +-1e4; `coupled`, that the value depends on
    how a batch is split.
    """

    name: str
    setting: str
    expression: str
    oracle: Oracle
    uses: str = ""
    declarations: str = ""
    extra: Callable[[Batch], Batch] = field(default=lambda batch: {})
    inputs: frozenset[str] = frozenset()
    coupled: bool = False
    finite: bool = True
    odd: tuple[tuple[str, int], ...] = ()

    @property
    def program(self) -> str:
        """The whole text of the objective."""
        setting = f"use std.settings.{self.setting}\n" if self.setting in SETTINGS else ""
        uses = "".join(f"use std.{use}\n" for use in self.uses.split("; ") if use)
        lines = "".join(f"{line.strip()}\n" for line in self.declarations.strip().splitlines())
        return f"objective example\n\n{setting}{uses}\n{lines}\nminimize\n  loss : {self.expression}\n"

    def batch(self, seed: int = 0, **sizes: int) -> Batch:
        """A batch with the further tensors of this case."""
        batch = MAKERS[self.setting](seed, **sizes)
        return {**batch, **self.extra(batch)}

    @property
    def differentiable(self) -> frozenset[str]:
        """The tensors that carry gradient."""
        return self.inputs | INPUTS


MAKERS: dict[str, Callable[..., Batch]] = dict(SETTINGS)


def admitted(batch: Batch) -> Tensor:
    """The entries that a mean over tokens admits: all of them where there is no mask."""
    mask = batch.get("mask")
    return torch.ones_like(batch["labels"], dtype=torch.bool) if mask is None else mask


def at_labels(term: Callable[..., Tensor], *names: str) -> Oracle:
    """The mean of a term of `names` over the tokens that are admitted and have a label."""
    return lambda batch: mean(term(*_at(kept(batch["labels"], admitted(batch)), batch, names)))


def at_tokens(term: Callable[..., Tensor], *names: str) -> Oracle:
    """The mean of a term of `names` over the admitted tokens."""
    return lambda batch: mean(term(*_at(admitted(batch), batch, names)))


def _at(keep: Tensor, batch: Batch, names: Iterable[str]) -> list[Tensor]:
    return [batch[name][keep] for name in names]
