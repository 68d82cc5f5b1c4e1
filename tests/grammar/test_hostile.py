"""A file from a stranger is answered within a second, whatever it holds."""

from __future__ import annotations

import time

import pytest

from lossc.grammar import parse, print_file
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.diagnostics.render import render_text
from lossc.grammar.limits import MAX_PROBLEMS
from lossc.grammar.source import Source

TEXTS = {
    "brackets": "let x = " + "(" * 5000 + "x" + ")" * 5000,
    "open brackets": "let x = " + "[" * 5000,
    "signs": "let x = " + "-" * 5000 + "x",
    "powers": "let x = " + "^".join(["9"] * 5000),
    "sums": "let x = " + "+".join(["9"] * 5000),
    "choices": "let x = " + "a if b else " * 3000 + "c",
    "selections": "let x = z" + "[v = y]" * 3000,
    "kinds": "input f : " + "model(" * 3000,
    "exponent": "let x = 1e999999999",
    "digits": "let x = " + "9" * 900_000,
    "size": "x" * 2_000_000,
    "tokens": "let x = f(" + "1, " * 200_000 + "1)",
    "faults": "lat x = 1 §\n" * 20_000,
    "closers": ")\n" * 50_000,
    "quotes": 'title "' + '"' * 100_000,
    "backslashes": 'title "' + "\\" * 100_000,
    "docstrings": '"""' * 100_001,
    "tabs": "\t\n" * 200_000,
    "dots": "let x = " + "a." * 100_000,
    "nul": "let x = \0",
    "surrogate": "let x = \ud800",
    "repeated": "objective a\n" * 10_000,
}

YAMLS = {
    "flow": "[" * 5000,
    "maps": "{a: " * 5000,
    "blocks": "".join(" " * depth + "a:\n" for depth in range(300)),
    "aliases": "let: &a {x: a}\nparams: *a\n",
    "size": "title: " + "x" * 300_000,
    "quotes": "'" * 99_999,
    "repeated": "let:\n" + "  a: x\n" * 9000,
    "brackets": "let:\n  x: " + "(" * 5000 + ")" * 5000,
    "folded": "let:\n  x: >\n" + "    a\n\n" * 12_000,
    "documents": "---\n" * 20_000,
    "nul": "title: \0",
}


def answer(source: Source) -> Diagnostics:
    problems = Diagnostics()
    begin = time.process_time()
    parse(source, problems)
    for problem in problems.sorted():
        render_text(problem)
    assert time.process_time() - begin < 3  # of processor time; under one on a machine that does nothing else
    assert len(problems.found) <= MAX_PROBLEMS
    return problems


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text(name: str) -> None:
    assert answer(Source("a.loss", TEXTS[name])).errors


@pytest.mark.parametrize("name", YAMLS)
def test_hostile_yaml(name: str) -> None:
    assert answer(Source("a.yaml", YAMLS[name])).errors


def test_a_sum_of_one_hundred_is_read() -> None:
    assert not answer(Source("a.loss", "let x = " + " + ".join(["y"] * 100))).found
    assert answer(Source("a.loss", "let x = " + " + ".join(["y"] * 101))).found


@pytest.mark.parametrize(
    "text",
    [
        "f(" * 49 + "x" + ")" * 49,
        "x[t = " * 48 + "x" + "]" * 48,
        "not " * 99 + "x",
        "-(" * 99 + "x" + ")" * 99,
        "a if b else " * 99 + "c",
        "(" * 100 + "x" + ")" * 100,
        "y[d : real in ball(" * 15 + "x" + ")](x)" * 15,
    ],
)
def test_what_is_just_deep_enough_can_be_printed_and_compared_far_down_the_stack(text: str) -> None:
    problems = Diagnostics()

    def deeper(frames: int) -> None:
        if frames:
            deeper(frames - 1)
            return
        file = parse(Source("a.loss", f"let x = {text}"), problems)
        problems.raise_errors()
        for surface in ("text", "yaml"):
            again = parse(Source(f"a.{surface}", print_file(file, surface)), problems)  # type: ignore[arg-type]
            problems.raise_errors()
            assert again == file
            assert hash(again) == hash(file)

    deeper(250)
