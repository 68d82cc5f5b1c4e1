"""The kept tables are those of the grammar, and every rule is built."""

from __future__ import annotations

import subprocess
import sys

from lossc.grammar.builder import BUILDERS
from lossc.grammar.tables import STARTS, build, tables
from lossc.grammar.tokens import DECLARATIONS, RESERVED


def test_the_grammar_has_no_conflict_and_the_kept_tables_are_its_own() -> None:
    fresh, kept = build(), tables()
    assert fresh.grammar == kept.grammar, "run: python -m lossc.grammar"
    assert fresh.keywords == kept.keywords
    assert set(fresh.starts) == set(STARTS)
    assert len(fresh.states) == len(kept.states)


def test_every_rule_has_a_builder() -> None:
    needed = {rule.build for rule in tables().rules if rule.build and not (rule.unwraps and len(rule.splices) == 1)}
    assert needed - {None} == set(BUILDERS)


def test_keywords_are_known() -> None:
    words = {word for word in tables().keywords if word.isalpha()}
    assert words >= RESERVED
    assert words >= set(DECLARATIONS)


def test_reading_imports_neither_lark_nor_torch_nor_yaml() -> None:
    code = (
        "import sys; from lossc.grammar import parse; from lossc.grammar.source import Source;"
        "from lossc.grammar.diagnostics import Diagnostics;"
        "parse(Source('a.loss', 'let x = 1'), Diagnostics());"
        "print({'lark', 'torch', 'yaml', 'sympy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
