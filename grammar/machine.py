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
    """No program goes on with token `index` of `tokens` (the end of the line, where there is none).

    `expected` holds what it could go on with: words and signs as written, and NAME, NUMBER, STRING, DOC, $END.
    """

    def __init__(self, tokens: Sequence[Token], index: int, expected: frozenset[str]) -> None:
        super().__init__()
        self.tokens = tokens
        self.index = index
        self.expected = expected

    def at(self, offset: int) -> Token | None:
        """The token that does not fit (0), the one before it (-1) and so on."""
        index = self.index + offset
        return self.tokens[index] if 0 <= index < len(self.tokens) else None


def run(start: str, tokens: Sequence[Token], builders: Builders) -> Any:
    """What the builders make of a logical line; raises StuckError at the first token that does not fit."""
    machine = _Machine(tables(), builders, start)
    for index, (token, following) in enumerate(zip(tokens, [*tokens[1:], None], strict=True)):
        before = machine.stack.copy()
        if not machine.advance(machine.terminal(token, following), token):
            raise StuckError(tokens, index, machine.expected(before))
    before = machine.stack.copy()
    if not machine.advance(END, None):
        raise StuckError(tokens, len(tokens), machine.expected(before))
    return machine.values[-1]


@dataclass
class _Machine:
    tables: Tables
    builders: Builders | None
    start: str

    def __post_init__(self) -> None:
        self.stack = [self.tables.starts[self.start][0]]
        self.values: list[Any] = []

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

    def advance(self, terminal: str, token: Token | None) -> bool:
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

    def expected(self, stack: list[int]) -> frozenset[str]:
        """Every word, sign or kind of token that leads on from a stack of states."""
        written = {name: text for text, name in self.tables.keywords.items()}
        terminals = [name for name in self.tables.states[stack[-1]] if name.isupper()]
        return frozenset(written.get(name, name) for name in terminals if self._accepts(stack, name))

    def _accepts(self, stack: list[int], terminal: str) -> bool:
        trial = _Machine(self.tables, None, self.start)
        trial.stack, trial.values = stack.copy(), [None] * (len(stack) - 1)
        return trial.advance(terminal, None)
