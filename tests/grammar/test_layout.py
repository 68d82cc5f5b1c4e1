"""Continued lines, blocks, recovery after an error, and where comments go."""

from __future__ import annotations

from tests.grammar.reading import only, problems_of, read

from lossc.grammar.syntax import BLANK, Block, Name, Term


def names(text: str) -> list[str]:
    return [getattr(item, "name", "") for item in read(text).items]


def test_a_deeper_line_continues_the_one_above() -> None:
    assert only("let x = a\n  + b\n    + c") == only("let x = a + b + c")
    assert only("minimize\n  x : a\n    + b\n  y : c") == only("minimize\n  x : a + b\n  y : c")


def test_inside_brackets_newlines_do_not_count() -> None:
    assert only("let x = f(\na,\n      b\n)") == only("let x = f(a, b)")
    assert only("minimize\n  x : f(\na\n)\n  y : b") == only("minimize\n  x : f(a)\n  y : b")


def test_line_ends_of_windows_and_a_byte_order_mark() -> None:
    assert read("\ufefflet x = a\r\n  + b\r\nlet y = c\r\n") == read("let x = a + b\nlet y = c\n")


def test_a_whole_file_may_be_indented() -> None:
    assert names("\n    let x = a\n    let y = b\n") == ["x", "y"]


def test_a_keyword_in_the_first_column_ends_an_open_bracket() -> None:
    found = problems_of("let x = f(a\nparam p real\nlet y = [b")
    assert [(d.code, d.span.text) for d in found] == [("E003", "("), ("E001", "real"), ("E003", "[")]


def test_every_problem_is_reported_in_one_run() -> None:
    text = "minimize\n  a : 1 +\n  b : )\n  c : x\n  d : 2 y\nterm f(x : real)\n  let q =\n  x +\nlet z = 1."
    assert [(d.code, d.span.source.position(d.span.start).line) for d in problems_of(text)] == [
        ("E001", 2), ("E004", 3), ("E001", 5), ("E001", 7), ("E001", 8), ("E006", 9),
    ]  # fmt: skip


def test_a_wrong_header_does_not_hide_its_block() -> None:
    assert [d.code for d in problems_of("setting a b\n  axis t :\n")] == ["E001", "E001"]


def test_comments_go_to_the_declaration_below_or_beside() -> None:
    file = read(
        "# top\n\n# one\n#two \nparam a : real  # behind\n\nminimize  # the terms\n  # entry\n  x : 1 # x\n# end"
    )
    param, block = file.items
    assert (param.comments, param.trailing) == (("top", BLANK, "one", "two"), "behind")
    assert isinstance(block, Block)
    assert (block.comments, block.trailing) == ((BLANK,), "the terms")
    assert (block.entries[0].comments, block.entries[0].trailing) == (("entry",), "x")
    assert file.comments == ("end",)


def test_comments_inside_a_declaration_move_above_it() -> None:
    item = only("let x = f(  # one\n  a,\n  # two\n  b  # three\n)  # four")
    assert (item.comments, item.trailing) == (("one", "two", "three"), "four")
    term = only("term f(x : real)\n  # let\n  let y = x\n  # value\n  y  # last")
    assert isinstance(term, Term)
    assert term.comments == ("value", "last")
    assert term.lets[0].comments == ("let",)


def test_a_sign_for_comments_in_a_text_is_text() -> None:
    assert only('title "a # b"').value == "a # b"


def test_a_body_is_let_only_where_a_name_and_a_sign_follow() -> None:
    assert only("term f(let : real)\n  let\n    * let").body.left == Name("let")
