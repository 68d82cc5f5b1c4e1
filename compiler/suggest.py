"""Did you mean: the nearest known name to one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 100


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most resembles, or None where none is close, or where it is too long to compare."""
    if len(name) > _LONGEST:
        return None
    candidates = sorted(one for one in set(known) if len(name) > 1 or one.lower() == name.lower())
    folded = {candidate.lower(): candidate for candidate in candidates}
    matches = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The help line for a name that is not known; none where nothing is close."""
    match = nearest(name, known)
    return (f"did you mean `{match}`?",) if match else ()
