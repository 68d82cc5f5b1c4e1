"""The LALR(1) machine: runs the tables of `tables.py` over the tokens of one logical line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lossc.grammar.tables import Tables, tables
from lossc.grammar.tokens import NAME, RESERVED, Token

END: Final = "$END"

Builders: TypeAlias = Mapping[str, Callable[[list[Any]], Any]]


class StuckError(Exception):
    """No program goes on with `token` (None at the end of the line) after `previous`.

    `expected` holds what it could go on with: words and signs as written, and NAME, NUMBER, STRING, DOC, $END.
    """

    def __init__(self, token: Token | None, previous: Token | None, expected: frozenset[str]) -> None:
        super().__init__()
        self.token = token
        self.previous = previous
        self.expected = expected


def run(start: str, tokens: Sequence[Token], builders: Builders) -> Any:
    """What the builders make of a logical line; raises StuckError at the first token that does not fit."""
    machine = _Machine(tables(), builders, start)
    previous: Token | None = None
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        machine.feed(machine.terminal(token, following), token, previous)
        previous = token
    machine.feed(END, None, previous)
    return machine.values[-1]


@dataclass
class _Machine:
    tables: Tables
    builders: Builders | None
    start: str

    def __post_init__(self) -> None:
        self.stack = [self.tables.starts[self.start][0]]
        self.values: list[Any] = []

    def feed(self, terminal: str, token: Token | None, previous: Token | None) -> None:
        if not self._advance(terminal, token):
            raise StuckError(token, previous, self._expected())

    def terminal(self, token: Token, following: Token | None) -> str:
        """A word is a keyword only where one is expected; where a name could stand too, only before another name."""
        keyword = self.tables.keywords.get(token.word)
        if keyword is None or token.kind != NAME or token.word in RESERVED:
            return keyword or token.kind
        row = self.tables.states[self.stack[-1]]
        if keyword not in row:
            return NAME
        before_name = following is not None and following.kind == NAME and following.word not in RESERVED
        return keyword if before_name or NAME not in row else NAME

    def _advance(self, terminal: str, token: Token | None) -> bool:
        """Reduces as often as the tables say, then shifts the terminal; false where it does not fit."""
        end = self.tables.starts[self.start][1]
        while True:
            action = self.tables.states[self.stack[-1]].get(terminal)
            if action is None:
                return False
            if action >= 0:
                self.stack.append(action)
                self.values.append(token)
                return True
            self._reduce(~action)
            if terminal == END and self.stack[-1] == end:
                return True

    def _reduce(self, number: int) -> None:
        rule = self.tables.rules[number]
        size = len(rule.splices)
        children = self.values[len(self.values) - size :]
        del self.values[len(self.values) - size :]
        del self.stack[len(self.stack) - size :]
        self.stack.append(self.tables.states[self.stack[-1]][rule.origin])
        self.values.append(self._value(number, children))

    def _value(self, number: int, children: list[Any]) -> Any:
        rule = self.tables.rules[number]
        if self.builders is None:
            return None
        if any(rule.splices):
            spread = [child if splice else [child] for child, splice in zip(children, rule.splices, strict=True)]
            children = [one for several in spread for one in several]
        if rule.build is None:
            return children
        return children[0] if rule.unwraps and len(children) == 1 else self.builders[rule.build](children)

    def _expected(self) -> frozenset[str]:
        """Every word, sign or kind of token that leads on from here."""
        written = {name: text for text, name in self.tables.keywords.items()}
        terminals = [name for name in self.tables.states[self.stack[-1]] if name.isupper()]
        return frozenset(written.get(name, name) for name in terminals if self._accepts(name))

    def _accepts(self, terminal: str) -> bool:
        trial = _Machine(self.tables, None, self.start)
        trial.stack, trial.values = self.stack.copy(), [None] * len(self.values)
        return trial._advance(terminal, None)
