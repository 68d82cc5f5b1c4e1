"""The exception for faults of the compiler itself, never caused by what a user wrote."""

from __future__ import annotations


class InternalError(RuntimeError):
    """lossc broke one of its own invariants; no program, however wrong, should cause this."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} (this is a fault of lossc, please report it with the program that caused it)")
