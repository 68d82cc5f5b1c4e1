"""Faults of the compiler itself: never an answer to what a user wrote."""

from __future__ import annotations


class InternalError(RuntimeError):
    """lossc broke a promise of its own; no program, however wrong, should cause it."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} (this is a fault of lossc, please report it with the program that caused it)")
