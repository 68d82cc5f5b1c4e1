"""Rewards by rule: a number for a completion, given its row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Score = Callable[[Mapping[str, Any], str], float]

_SHORT = 2
_WORD = re.compile(r"[^\W\d_]+")


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def words_rule(texts: Iterable[str], at_least: int) -> Score:
    """The share of a completion's words that occur in the texts and did not occur before in the completion.

    Words of one or two letters are passed over; fewer words than `at_least` count as if they were so many.
    """
    known = {word for text in texts for word in words_of(text)}

    def score(_: Mapping[str, Any], completion: str) -> float:
        words = [word for word in words_of(completion) if len(word) > _SHORT]
        return len(known & set(words)) / max(len(words), at_least)

    return score


def equals_rule(column: str) -> Score:
    """1 where the completion is the text of the column, white space around it aside."""
    return lambda row, completion: float(completion.strip() == str(row[column]).strip())


def overlap_rule(column: str) -> Score:
    """F1 of the words of the completion and of the column: 2 |both| / (|one| + |other|), repeated words counted."""

    def score(row: Mapping[str, Any], completion: str) -> float:
        ours, theirs = Counter(words_of(completion)), Counter(words_of(str(row[column])))
        return 2 * (ours & theirs).total() / max(ours.total() + theirs.total(), 1)

    return score
