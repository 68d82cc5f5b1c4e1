"""The word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, if one is like it at all."""
    from difflib import get_close_matches

    candidates = sorted(set(known))
    lower = {candidate.lower(): candidate for candidate in reversed(candidates)}
    found = get_close_matches(word, candidates, 1, 0.6) or get_close_matches(word.lower(), lower, 1, 0.6)
    return lower.get(found[0], found[0]) if found else None
