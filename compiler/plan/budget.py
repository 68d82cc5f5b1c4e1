"""How many rows are worked on at once where computation goes in blocks."""

from __future__ import annotations

BLOCK_BYTES = {"cpu": 8 << 20, "other devices": 128 << 20}
"""Of one vocabulary-sized value over a block of the backend `torch`, by device."""


HEAD_BYTES = {"cpu": 64 << 20, "other devices": 512 << 20}
"""For the scores of a block of all linear heads together; their gradients take their place."""

HEAD_ROWS = {"cpu": 256, "other devices": 1024}
"""What the rows of a block of heads are a multiple of: products of fewer are slow, and so are those with a rest."""


def head_rows(row_bytes: int, device: str) -> int:
    """The rows of a block where scores come from linear heads."""
    return rows_within(HEAD_BYTES[device], row_bytes, HEAD_ROWS[device])


def rows_within(budget: int, row_bytes: int, unit: int) -> int:
    """How many units of rows fit into a number of bytes; at least one."""
    return max(1, budget // (max(1, row_bytes) * unit)) * unit


def block_rows(row_bytes: int, device: str) -> int:
    """The rows of a block where scores are given as a tensor."""
    return max(1, BLOCK_BYTES[device] // max(1, row_bytes))
