"""Each way of getting it wrong: the code, the place and the words."""

from __future__ import annotations

import pytest
from tests.grammar.reading import problems_of

from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.diagnostics.render import render_text
from lossc.grammar.parser import parse_expression
from lossc.grammar.source import Source
from lossc.grammar.tables import tables

CASES = [
    ("let x = a *", "E001", 11, "expected an expression after `*`"),
    ("let x = a b", "E001", 10, "write `*`"),
    ("let x = f(a, , b)", "E001", 13, "expected an expression after `,`"),
    ("let x = z[0]", "E001", 10, "`x[t = 0]`"),
    ("let x = z[]", "E001", 10, "expected the name of an axis"),
    ("input c : real[]", "E001", 15, "without brackets: `real`"),
    ("input a, b : real[k]", "E001", 7, "a line for each: `input a : …`, `input b : …`"),
    ("axis b, t", "E001", 6, "a line for each: `axis b`, `axis t`"),
    ("let x = mean[where m](y)", "E001", 13, "axes of the reduction before `where`"),
    ("let x = if a then b", "E001", 8, "`value if condition else other`"),
    ("let x = a if b", "E001", 14, "no `else`"),
    ("let x : real = 3", "E001", 6, "write `let name = expression`"),
    ("param beta = 0.1", "E001", 11, "write `param beta : positive = 0.1`"),
    ("state c : real = 0", "E001", 18, "an operator or `then`"),
    ("title abc", "E001", 6, "a text in quotes after `title`"),
    ("use std.x kl", "E001", 10, "expected `(`, `as` or `sharing`"),
    ("subject x : a", "E001", 8, "expected `to`"),
    ("objective my-loss", "E001", 12, "expected the end of the line after `my`"),
    ("minimize\n  mean[b](ce)", "E001", 15, "a term of `minimize` has a name"),
    ("monitor\n  3", "E001", 10, "a quantity of `monitor` has a name"),
    ("minimize x : a\n  y : b", "E001", 9, "write the block below"),
    ("let x = a ≤ b", "E002", 10, "write `<=`"),
    ("let x² = 3", "E002", 4, "write `^2`"),
    ("let x = \x07", "E002", 8, "U+0007"),
    ("let x = (a", "E003", 8, "add `)`"),
    ("let x = a]", "E004", 9, "closes nothing"),
    ("let x = (a]", "E004", 10, "expected `)`"),
    ('title "a', "E005", 6, "never closed"),
    ('"""a', "E005", 0, "never closed"),
    ('title "\\q"', "E005", 6, "no meaning"),
    ("let x = 1.", "E006", 8, "write `1.0`"),
    ("let x = .5", "E006", 8, "write `0.5`"),
    ("let x = 2y", "E006", 8, "write `2 * y`"),
    ("let x = 1_000", "E006", 8, "without separators"),
    ("let x = 1e401", "E007", 8, "-400 to 400"),
    ("let x = " + "1" * 41, "E007", 8, "40 digits"),
    ("let\tx = 1", "E010", 3, "use spaces"),
    ("minimize\n    a : b\n  c : d", "E011", 21, "indent the lines of a block alike"),
    ("minimise\n  a : b", "E012", 0, "did you mean `minimize`?"),
    ("x = 3", "E012", 0, "write `let x = ...`"),
    ("param where : real", "E013", 6, "write `where_`"),
    ("let x = by + 1", "E013", 8, "reserved word"),
    ("let x = f(a, if = 1)", "E013", 13, "reserved word"),
    ("let x = a ** b", "E014", 10, "write `^`"),
    ("let x = a && b", "E014", 10, "write `and`"),
    ("subject to x : a = b", "E014", 17, "write `==`"),
    ("let x = 2(a)", "E015", 8, "only a name can be called"),
    ("let x = q[t + 1]", "E001", 12, "`shift[t](x, 1)`"),
    ("data a : real in [0, 1][b]", "E001", 23, "write `real[b] in [0, 1]`"),
    ("input f : real(b)  -> real", "E015", 10, "`real[b, d]`"),
    ("minimize", "E016", 0, "nothing below it"),
    ("term f(x : real)", "E016", 5, "no body"),
    ("term f()\n  let a = 1", "E016", 11, "ends without an expression"),
    ("term f()\n  a\n  b", "E016", 11, "before its last line"),
    ("setting s\n  minimize", "E016", 12, "cannot stand in a setting"),
    ("setting s\n  id 3", "E016", 12, "cannot stand in a setting"),
    ('extern f() from "a:b"', "E016", 7, "no kind"),
    ("let f.x = 3", "E017", 4, "write `f_x`"),
    ("axis t'", "E017", 5, "no prime"),
    ("reduce a\nreduce b", "E018", 9, "`reduce` is given twice"),
    ("lossc 2", "E019", 6, "version 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "start", "words"), CASES, ids=[text[:30] for text, *_ in CASES])
def test_problem(text: str, code: str, start: int, words: str) -> None:
    (problem,) = problems_of(text)
    rendered = render_text(problem)
    assert problem.code == code
    assert words in rendered
    if code != "E019":
        assert problem.span.start == start


def test_the_place_of_a_version() -> None:
    (problem,) = problems_of("lossc 2")
    assert problem.span.text == "lossc 2"


@pytest.mark.parametrize("text", ["", "   ", "# nothing"])
def test_an_empty_expression(text: str) -> None:
    problems = Diagnostics()
    assert parse_expression(Source("<prompt>", text), problems) is None
    assert [d.message for d in problems.found] == ["expected an expression"]


def test_no_name_of_the_tables_leaks() -> None:
    hidden = {name for word, name in tables().keywords.items() if name.lower() != word} | {"NAME", "NUMBER", "$END"}
    for text, *_ in CASES:
        for problem in problems_of(text):
            assert not hidden & set(problem.message.replace("`", " ").replace(",", " ").split())
