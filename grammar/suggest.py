"""Did you mean: the known name that an unknown one resembles most."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 100
"""Characters; comparing longer names takes long."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` resembles most, whatever the case of letters; None if none is close."""
    from difflib import get_close_matches

    if len(name) > _LONGEST:
        return None
    candidates = sorted(one for one in set(known) if len(name) > 1 or one.lower() == name.lower())
    folded = {candidate.lower(): candidate for candidate in candidates}
    matches = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The help of a message about an unknown name: one line, or none if no known name is close."""
    match = nearest(name, known)
    return (f"did you mean `{match}`?",) if match else ()
