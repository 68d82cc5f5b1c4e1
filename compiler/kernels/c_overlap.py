"""Visits in which the gradient of one row is written while the sums of the next row are taken.

Sums are limited by arithmetic and gradients by memory, so one loop for both takes little longer than the slower of the
two. A `row_t` holds what the gradient of a row needs once its sums are known. `past` is that of the previous row, and
`waiting` says that its gradient has not been written yet. Packs of both rows share a loop if everything they read is
finite. The rest of a block, and the pairs of packs to which entries at labels are added, go through `gradient_block`. A
value that the sweep stores overwrites that of the past row, which has been read by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lossc.compiler.core import Node
from lossc.compiler.kernels.c_sweeps import Meanwhile, Sweeps
from lossc.compiler.table.model import Stream

PAST = "past_"


@dataclass(frozen=True)
class Field:
    """A member of `row_t`."""

    type: str
    name: str


@dataclass(frozen=True)
class Overlap:
    """What a visit with overlapping rows is printed from.

    `fields` are what the gradient of a row reads. At the labels `past_labels` entries are added to the gradient of the
    past row. `straight` and `past_straight` are C conditions that a block may be written at once; `finished` is the
    code that completes a block.
    """

    sweeps: Sweeps
    wants: Sequence[Stream]
    held: Mapping[Node, str]
    fields: Sequence[Field]
    past_labels: Sequence[str]
    straight: str
    past_straight: str
    finished: Sequence[str]

    def declared(self) -> list[str]:
        """The type `row_t`, and the function that writes a block of its gradient, from the entry `done` on."""
        members = [f"{field.type} {field.name};" for field in self.fields]
        blocks = [f"real block{self.sweeps.number[s.name]}[BLOCK] __attribute__((aligned(64)));" for s in self.wants]
        body = self.sweeps.gradient_block(self.wants, self.held, "whole", self.straight)
        return [
            "typedef struct {", *members, "int whole;", "} row_t;", "",
            "static void gradient_block(const call_t *call, const row_t *row, int first, int count, int done) {",
            *self._unpacked("row->", ""), "const int whole = row->whole;", "int placed = done;",
            "const real unit = call->dimensions < 0 ? 0 : 1;", *blocks,
            *body, *self.finished, "}", "",
        ]  # fmt: skip

    def _unpacked(self, place: str, prefix: str) -> list[str]:
        """The members of a `row_t` as local variables."""
        return [f"{field.type} const {prefix}{field.name} = {place}{field.name};" for field in self.fields]

    def meanwhile(self) -> Meanwhile:
        """What a loop over sums does besides."""
        reading, turn = self.sweeps.past_turn(self.wants, self.held, PAST)
        return Meanwhile(
            shortened=[f"if (waiting) count = apart_from({label}, first, count);" for label in self.past_labels],
            condition=f"waiting && past.whole && {self.past_straight}",
            before=["if (waiting && !both) gradient_block(call, &past, first, count, 0);"],
            opening=[*self._unpacked("past.", PAST), *self.sweeps.pointers(self.sweeps.graphs_of(self.wants), PAST)],
            reading=reading,
            turn=turn,
            after=["if (both && done < count) gradient_block(call, &past, first, count, done);"],
        )

    def kept(self, whole: str) -> list[str]:
        """The end of a row: its gradient is left to be written with the next one."""
        members = [f".{field.name} = {field.name}" for field in self.fields]
        return [f"past = (row_t){{{', '.join([*members, f'.whole = {whole}'])}}};", "waiting = 1;"]

    def last(self) -> list[str]:
        """After the last row: writes the gradient that is still waiting."""
        return [
            "for (int first = 0; waiting && first < classes; first += BLOCK) {",
            "gradient_block(call, &past, first, classes - first < BLOCK ? classes - first : BLOCK, 0);", "}",
        ]  # fmt: skip
