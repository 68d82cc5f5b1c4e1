"""The LALR(1) tables of `lossc.lark`: made by Lark, kept as data beside the grammar.

Building them takes Lark a fifth of a second, reading them a few milliseconds. `tables.json` holds a hash of the
grammar; where it does not fit, the tables are built in memory. `python -m lossc.grammar` writes the file anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

STARTS: Final = ("declaration", "header", "entry", "body_line", "expression", "type")
_FILE: Final = "tables.json"


@dataclass(frozen=True)
class Rule:
    """A production. Its value is `build(children)`; the only child itself where `unwraps`; the list where not built.

    `splices` says for each child whether it is a list to be put in place.
    """

    origin: str
    build: str | None
    unwraps: bool
    splices: list[bool]


@dataclass(frozen=True)
class Tables:
    """For each state: from a terminal or rule to the next state (>= 0), or to `~rule` for a reduction."""

    grammar: str
    starts: dict[str, list[int]]
    """The first state and the state after the whole, by start rule."""
    keywords: dict[str, str]
    """From a word or sign to its terminal."""
    rules: list[Rule]
    states: list[dict[str, int]]


@cache
def tables() -> Tables:
    """The tables of the grammar of this installation."""
    kept = files("lossc.grammar").joinpath(_FILE)
    if kept.is_file():
        data = json.loads(kept.read_text(encoding="utf-8"))
        if data["grammar"] == _hash(_grammar()):
            return Tables(**{**data, "rules": [Rule(**rule) for rule in data["rules"]]})
    return build()


def write() -> None:
    """Puts the tables of the grammar into the source tree."""
    kept = Path(str(files("lossc.grammar").joinpath(_FILE)))
    kept.write_text(json.dumps(asdict(build()), separators=(",", ":")) + "\n", encoding="utf-8")


def _grammar() -> str:
    return files("lossc.grammar").joinpath("lossc.lark").read_text(encoding="utf-8")


def _hash(grammar: str) -> str:
    return hashlib.sha256(grammar.replace("\r\n", "\n").encode()).hexdigest()


def build() -> Tables:
    """The tables as Lark makes them, in strict mode: a conflict is an error."""
    from lark import Lark
    from lark.lexer import Lexer
    from lark.parsers.lalr_analysis import LALR_Analyzer

    class NoLexer(Lexer):
        """`tokens.py` cuts the text; Lark asks for a lexer all the same."""

        def __init__(self, conf: Any) -> None:
            pass

        def lex(self, lexer_state: Any, parser_state: Any) -> Iterator[Any]:
            return iter(())

    grammar = _grammar()
    lark = Lark(grammar, parser="lalr", lexer=NoLexer, strict=True, keep_all_tokens=True, start=list(STARTS))
    frontend: Any = lark.parser
    analysis: Any = LALR_Analyzer(frontend.parser_conf, strict=True)
    analysis.compute_lalr()
    table: Any = analysis.parse_table
    rules = list(dict.fromkeys(frontend.parser_conf.rules))
    rules += [arg for row in table.states.values() for action, arg in row.values() if _reduces(action)]
    rules = list(dict.fromkeys(rules))
    number = {rule: index for index, rule in enumerate(rules)}
    order = _in_order(table)
    states = [
        {
            name: ~number[arg] if _reduces(action) else order[arg]
            for name, (action, arg) in sorted(table.states[state].items())
        }
        for state in order
    ]
    return Tables(
        grammar=_hash(grammar),
        starts={name: [order[table.start_states[name]], order[table.end_states[name]]] for name in STARTS},
        keywords={t.pattern.value: t.name for t in lark.terminals if t.pattern is not None},
        rules=[_rule(rule) for rule in rules],
        states=states,
    )


def _in_order(table: Any) -> dict[int, int]:
    """New numbers for Lark's states, which do not change from run to run: in the order in which words lead to them."""
    order: dict[int, int] = {}
    waiting = [table.start_states[name] for name in STARTS]
    for state in waiting:
        if state not in order:
            order[state] = len(order)
            waiting += [arg for _, (action, arg) in sorted(table.states[state].items()) if not _reduces(action)]
    return order


def _reduces(action: Any) -> bool:
    return str(action) == "Reduce"


def _rule(rule: Any) -> Rule:
    origin = str(rule.origin.name)
    is_list = origin.startswith("_")
    build = None if is_list else str(rule.alias or origin)
    splices = [not symbol.is_term and symbol.name.startswith("_") for symbol in rule.expansion]
    return Rule(origin, build, rule.options.expand1 and rule.alias is None, splices)
