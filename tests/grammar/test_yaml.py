"""The YAML surface: strings only, places inside of scalars, comments, and what is refused."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.grammar.reading import problems_of, read

from lossc.grammar import print_file
from lossc.grammar.source import Source
from lossc.grammar.syntax import BLANK, Block, Law, Meta, Param, Setting
from lossc.grammar.yaml_scalars import scalar_fragment

TEXT = '''"""Direct preference optimisation with a likelihood anchor."""
objective dpo_sft

use std.settings.pairs
use std.preference (dpo)

param beta   : positive = 0.1
param anchor : nonneg   = 0.2

minimize
  pref : mean[pair](dpo(margin, beta = beta))
  tie  : anchor * sft

monitor
  accuracy : mean[pair](margin > 0)
'''

YAML = """lossc: 1
objective: dpo_sft
about: Direct preference optimisation with a likelihood anchor.
use:
  - std.settings.pairs
  - std.preference (dpo)
params:
  beta: positive = 0.1
  anchor: nonneg = 0.2
minimize:
  pref: mean[pair](dpo(margin, beta = beta))
  tie: anchor * sft
monitor:
  accuracy: mean[pair](margin > 0)
"""


def test_the_first_file_of_the_language() -> None:
    assert print_file(read(TEXT), "yaml") == YAML
    assert print_file(read(YAML, "a.yaml"), "text") == TEXT
    assert print_file(read(TEXT), "text") == TEXT


def test_every_section() -> None:
    text = """
title "A: b"
cite "c"
certainty checked
id 7
axis b : batch
axis t
axis side = {x, y}
input z : logits[b]
data y : label[b] in v
learn s : real = 0
state c : real = 0 then s
let a = s
term f(x : real[b, d]) -> real = x
term g(x : real)
  let q = x
  q
setting pairs
  axis pair : batch
  reduce mean[pair]
subject to fit per b by id : a <= 1
maximize
  m : a
law "a: b" : a == b for c : real with p = c
extern drift(x : real) -> real from "p.m:f"
reduce mean[b]
"""
    written = print_file(read(text), "yaml")
    assert read(written, "a.yaml") == read(text)
    assert '  side: "{x, y}"\n' in written
    assert "  t:\n" in written
    assert '  "f(x : real[b, d]) -> real": x\n' in written
    assert "    let q = x\n    q\n" in written
    assert "  fit per b by id: a <= 1\n" in written
    assert '  "a: b": "a == b for c : real with p = c"\n' in written
    assert '  "drift(x : real) -> real": p.m:f\n' in written
    assert "  pairs:\n    axes:\n      pair: batch\n    reduce: mean[pair]\n" in written


@pytest.mark.parametrize("word", ["yes", "on", "null", "010", "1e-4", "1:30", "~", "0x1F", "2020-01-01", "true", ""])
def test_values_are_texts_as_written(word: str) -> None:
    (item,) = read(f"title: {word}", "a.yml").items
    assert item == Meta("title", word)


def place(text: str) -> tuple[str, int, int, str]:
    (problem,) = problems_of(text, "a.yaml")
    at = problem.span.source.position(problem.span.start)
    return problem.code, at.line, at.column, problem.span.text


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("let:\n  x: a ** b\n", 2, 8),
        ('let:\n  x: "a ** b"\n', 2, 9),
        ("let:\n  x: 'a ** b'\n", 2, 9),
        ("let:\n  x: a +\n    b\n    ** c\n", 4, 5),
        ('let:\n  x: "\\u03b1 + \\\n    \\u03b2^b **\n    c"\n', 3, 14),
        ("let:\n  x: 'a +\n\n    b ** c'\n", 4, 7),
        ("let:\n  x: |\n    a +\n      b\n\n      ** c\n", 6, 7),
        ("let:\n  x: >-  # folded\n\n    a +\n\n    b ** c\n", 6, 7),
        ("let:\n  x: |2-\n      a ** c\n", 3, 9),
        ("terms:\n  \"f(x : real)\": |\n    let y = x\n    y ** y\n", 4, 7),
        ("terms:\n  ? |-\n    f(x : real,\n      y ** z)\n  : x\n", 4, 9),
        ("use:\n  - std.x **\n", 2, 11),
    ],
)  # fmt: skip
def test_a_place_inside_of_a_scalar(text: str, line: int, column: int) -> None:
    assert place(text) == ("E014", line, column, "**")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_scalars_are_decoded_as_yaml_does_with_places(data: st.DataObject) -> None:
    pieces = ["a", "b ", " c", "\n", "\n\n", "''", "\\n", "\\u03b1", "\\\\", "\n  ", "\\\n  ", " #c", "\r\n", "é"]
    style = data.draw(st.sampled_from(["", "'", '"', "|", "|-", "|+", ">", ">-", ">+", "|2", ">2-"]))
    body = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=10)))
    if style[:1] in ("|", ">"):
        text = f"k: {style}\n" + "\n".join("    " + line if line.strip() else line for line in body.split("\n"))
    else:
        text = f"k: {style}{body}{style}".replace("\n", "\n ")
    try:
        events = [event for event in yaml.parse(text, Loader=yaml.BaseLoader) if isinstance(event, yaml.ScalarEvent)]
    except yaml.YAMLError:
        assume(False)
    for event in events:
        fragment = scalar_fragment(Source("a.yaml", text), event)
        assert fragment.text == event.value
        assert len(fragment.offsets) == len(fragment.text) + 1
        assert list(fragment.offsets) == sorted(fragment.offsets)
        for char, offset in zip(fragment.text, fragment.offsets, strict=False):
            assert char not in "abcé" or text[offset] == char


@pytest.mark.parametrize(
    ("text", "code", "marked"),
    [
        ("a: b: c", "E020", ":"),
        ("let:\n  x: [a", "E020", ""),
        ("---\nlet:\n---\nlet:\n", "E020", "---"),
        ("title: \x07", "E020", "\x07"),
        ("title: &x a", "E021", "&x a"),
        ("title: !!str a", "E021", "!!str a"),
        ("title: a\ntitle: b", "E022", "title"),
        ("let:\n  x: a\n  x: b", "E022", "x"),
        ("parms:\n  a: real", "E023", "parms"),
        ("settings:\n  s:\n    terms:\n      f: x", "E023", "terms"),
        ("- a", "E024", "- a"),
        ("just text", "E024", "just text"),
        ("title: [a]", "E024", "[a]"),
        ("use: std.x", "E024", "std.x"),
        ("let: a", "E024", "a"),
        ("axes:\n  side: {a, b}", "E024", "{a, b}"),
        ("minimize:\n  - a", "E024", "- a"),
        ("minimize:", "E016", "minimize"),
        ("let:\n  [a]: b", "E025", "[a]"),
        ("lossc: 2", "E019", "2"),
        ("let:\n  x:", "E001", ""),
        ("params:\n  beta: positive = (1", "E003", "("),
        ("params:\n  where: positive", "E013", "where"),
        ("a: " + "[" * 20, "E008", "["),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, code: str, marked: str) -> None:
    found = problems_of(text, "a.yaml")
    assert found[0].code == code
    assert found[0].span.text.strip() == marked


def test_an_unknown_key_is_guessed() -> None:
    (problem,) = problems_of("minimise:\n  a: b", "a.yaml")
    assert problem.help == ("did you mean `minimize`?",)


def test_all_problems_of_a_file() -> None:
    found = problems_of("parms: x\nlet:\n  x: a **\n  y: (\nminimize:\n  z: 1.\n  w: +\n", "a.yaml")
    assert [d.code for d in found] == ["E023", "E014", "E003", "E006", "E001"]


def test_sections_may_be_empty_and_comments_have_their_place() -> None:
    file = read(
        "# top\n\nlossc: 1\nobjective: a  # name\nlet:\nparams:  # numbers\n  # one\n  b: real  # two\n\n  c: real\n"
        "minimize:  # terms\n  x: |-  # x\n    b # inner\n# end\n",
        "a.yaml",
    )
    objective, b, c, block = file.items
    assert isinstance(block, Block)
    assert (objective.comments, objective.trailing) == (("top", BLANK), "name")
    assert (b.comments, b.trailing) == ((BLANK, "numbers", "one"), "two")
    assert c.comments == (BLANK,)
    assert block.trailing == "terms"
    assert (block.entries[0].comments, block.entries[0].trailing) == (("inner",), "x")
    assert file.comments == ("end",)


def test_long_values_are_blocks_and_long_keys_are_marked() -> None:
    name = "x" * 1200
    text = f"let {name} = {' + '.join(['abcdefgh'] * 20)}"
    written = print_file(read(text), "yaml")
    assert f"\n  ? {name}\n  : |-\n    abcdefgh\n      + abcdefgh\n" in written
    assert read(written, "a.yaml") == read(text)


def test_a_text_with_three_quotes_and_line_ends() -> None:
    file = read('title "a \\"\\"\\" \\n b: #"\n"""\n  say \\"""\n\n  b\\\\\n"""\nlaw "\\u0007" : a == a')
    assert [item.value for item in file.items if isinstance(item, Meta)] == [
        'a """ \n b: #',
        '  say """\n\n  b\\'.strip("\n").replace("  ", ""),
    ]
    for surface in ("text", "yaml"):
        again = read(print_file(file, surface), f"a.{surface}")  # type: ignore[arg-type]
        assert again == file
    assert any(isinstance(item, Law) and item.title == "\x07" for item in file.items)


def test_spans_of_a_yaml_file_point_into_it() -> None:
    text = 'params:\n  "beta": positive\nsettings:\n  s:\n    axes:\n      b: batch\n'
    beta, setting = read(text, "a.yaml").items
    assert isinstance(beta, Param)
    assert isinstance(setting, Setting)
    assert beta.name_span.text == "beta"
    assert beta.type.span.text == "positive"
    assert setting.name_span.text == "s"
    assert setting.items[0].name_span.text == "b"
    assert re.match(r'"?beta"?: positive', beta.span.text)
