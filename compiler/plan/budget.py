"""How much of a batch is worked on at once where it does not go row by row."""

from __future__ import annotations

BLOCK_BYTES = {"cpu": 8 << 20, "other devices": 128 << 20}
"""Of one vocabulary-sized value over a block of the backend `torch`, by device."""


def block_rows(row_bytes: int, device: str) -> int:
    """The rows of a block."""
    return max(1, BLOCK_BYTES[device] // max(1, row_bytes))
