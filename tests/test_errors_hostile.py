"""Programs of an enemy: each is answered within a second, without a traceback, and no text of it becomes code.

The grammar's own bounds are tested in `tests/grammar/test_hostile.py`; here the whole check runs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from lossc.compiler.check import Checked, check_source
from lossc.compiler.prompt import prompt_file
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.diagnostics.render import render_text, to_record
from lossc.grammar.source import Source

LIMIT = 1.0
"""Seconds of the processor, the best of three: other work on the machine does not count."""

ROWS = "axis b : batch\ninput x : real[b]\n"


def loss(expression: str, before: str = "") -> str:
    return f"{ROWS}{before}minimize\n  loss : {expression}\n"


def lets(number: int, step: str, *, backwards: bool = False) -> str:
    rows = ["let a0 = x", *(f"let a{i} = {step.format(f'a{i - 1}')}" for i in range(1, number + 1))]
    return loss(f"mean[b](a{number})", "\n".join(reversed(rows) if backwards else rows) + "\n")


def terms(number: int, step: str, first: str = "x", *, backwards: bool = False) -> str:
    rows = [f"term t0(x : real) = {first}"]
    rows += [f"term t{i}(x : real) = " + step.format(f"t{i - 1}", i) for i in range(1, number + 1)]
    return loss(f"mean[b](t{number}(x))", "\n".join(reversed(rows) if backwards else rows) + "\n")


RIGHT = {
    "a long chain of lets": lets(2000, "{0} * 2 + 1"),
    "the same chain from its end": lets(2000, "{0} * 2 + 1", backwards=True),
    "a chain of functions": lets(2000, "exp(-{0})", backwards=True),
    "a sum that grows": lets(1000, "{0} + x"),
    "lets that double": lets(40, "{0} + {0}"),
    "lets that square": lets(40, "{0} * {0}"),
    "terms that double": terms(40, "{0}(x) + {0}(x)"),
    "terms that double, from the end": terms(40, "{0}(x) + {0}(x)", backwards=True),
    "terms that fill": terms(40, "fill({0}(x), {0}(x))"),
    "lets of logarithms": lets(120, "log(softplus({0})) * {0}"),
    "terms of terms of the same": terms(40, "{0}({0}(x))"),
    "the largest literals": loss(f"mean[b](x) * {'9' * 40} * 1e400 * 1e-400"),
    "a title with three quotes": 'title "\\"\\"\\" + __import__(\'os\') + \\"\\"\\"\\n\\n"\n' + loss("mean[b](x)"),
    "a docstring with quotes": '"""One \\""" import os \\""" two\n\n"""\n' + loss("mean[b](x)"),
    "names that Python keeps": "axis b : batch\n" + "".join(
        f"input {name} : real[b]\n" for name in ("lambda", "import", "def", "class", "None", "__class__", "self", "torch")
    ) + "minimize\n  loss : mean[b](lambda + import + def + class + None + __class__ + self + torch)\n",
    "names of functions": "axis b : batch\ninput exp : real[b]\ninput mean : real[b]\ninput sum : real[b]\n"
    "minimize\n  exp : mean[b](exp(exp) * mean + sum)\n",
    "a name of 10,000 letters": f"axis b : batch\ninput {'x' * 10_000} : real[b]\nminimize\n  loss : mean[b]({'x' * 10_000})\n",
    "an axis called as Python is": "axis exec : batch\ninput eval : real[exec]\nminimize\n  loss : mean[exec](eval)\n",
    "many axes": "axis b : batch\n" + "".join(f"axis a{i}\n" for i in range(300))
    + f"input x : real[b, {', '.join(f'a{i}' for i in range(300))}]\n"
    + f"minimize\n  loss : mean[b, {', '.join(f'a{i}' for i in range(300))}](x)\n",
    "many terms": loss("mean[b](x)") + "".join(f"  t{i} : {i} * mean[b](x^2)\n" for i in range(1000)),
}  # fmt: skip
"""Programs that are right, however odd: they are compiled to a program."""

WRONG = {
    "a huge exponent": loss("1e999999999 * mean[b](x)"),
    "a tower of powers": loss("mean[b](x) * 9^9^9"),
    "a power of powers": loss("mean[b](x) * (((10^64)^64)^64)^64"),
    "a power of a let": loss("mean[b](x^a30)", "let a0 = 7\n" + "\n".join(
        f"let a{i} = a{i - 1} * a{i - 1}" for i in range(1, 31)) + "\n"),
    "constants that square": loss("mean[b](x) * a39", "let a0 = 1e400\n" + "\n".join(
        f"let a{i} = a{i - 1} * a{i - 1}" for i in range(1, 40)) + "\n"),
    "factors that square": lets(40, "{0} * {0} * 1e400"),
    "5,000 brackets": loss("(" * 5000 + "1" + ")" * 5000),
    "5,000 brackets open": loss("mean[" * 5000),
    "5,000 terms": loss(" + ".join(["mean[b](x)"] * 5000)),
    "5,000 signs": loss("-" * 5000 + "x"),
    "terms that double without end": terms(40, "{0}({0}(x))", "x * x + 1"),
    "terms that fork without end": terms(40, "{0}(x) + {0}(x + {1})"),
    "a long chain of terms": terms(1000, "{0}(x) + 1"),
    "lets in a circle of 2,000": loss("a0", "\n".join(f"let a{i} = a{(i + 1) % 2000}" for i in range(2000)) + "\n"),
    "a setting that uses itself": "setting s\n  axis b : batch\n  use s as t\nuse s\nminimize\n  loss : 1\n",
    "Python in an expression": loss("__import__('os').system('true')"),
    "Python as a call": loss("__import__(os)"),
    "Python in a let": loss("mean[b](x)", "let y = eval(x)\n"),
    "a parent folder": 'use "../../../../../../etc/passwd"\n' + loss("mean[b](x)"),
    "an absolute path": 'use "/etc/passwd"\n' + loss("mean[b](x)"),
    "a device": 'use "/dev/zero"\n' + loss("mean[b](x)"),
    "a path with NUL": 'use "a\\u0000b.loss"\n' + loss("mean[b](x)"),
    "a very long path": f'use "{"x" * 5000}.loss"\n' + loss("mean[b](x)"),
    "an unknown name of 10,000 letters": f"axis b : batch\ninput {'x' * 9_999} : real[b]\nminimize\n  loss : {'x' * 10_000}\n",
    "NUL": loss("mean[b](x)\0"),
    "bidirectional controls": loss("mean[b](x\u202e)\u2066"),
    "a very long line": loss("mean[b](" + "x * " * 20_000 + "y)"),
    "nothing but brackets": "[" * 50_000,
    "unknown names": loss(" + ".join(f"unknown{i}" for i in range(90))) * 1
    + "".join(f"  t{i} : {' + '.join(f'u{i}x{j}' for j in range(50))}\n" for i in range(60)),
    "a thousand faults": loss("mean[b](x)") + "".join(f"  t{i} : x\n" for i in range(1000)),
}  # fmt: skip
"""Programs with a fault: every one has an error with a place."""

YAMLS = {
    "billion laughs": "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)),
    "nested flow": "minimize: " + "[" * 20_000,
    "nested maps": "minimize: " + "{a: " * 5000,
    "nested blocks": "".join(" " * depth + "a:\n" for depth in range(400)),
    "Python objects": "minimize:\n  loss: !!python/object/apply:os.system ['true']\n",
    "a merge": "let: &x\n  a: 1\nparams:\n  <<: *x\n",
    "bytes": "minimize:\n  loss: !!binary aGVsbG8=\n",
    "a power in a text": "minimize:\n  loss: 9^9^9^9\n",
}  # fmt: skip


def answer(name: str, text: str) -> tuple[Checked, float]:
    """The result of checking, printing all that it found both ways, and the shortest time of three.

    No message steers the terminal that it is printed on.
    """
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        checked = check_source(Source(name, text))
        for problem in checked.problems.sorted():
            assert len(render_text(problem)) < 60_000
            json.dumps(to_record(problem))
        best = min(best, time.process_time() - start)
        if best < LIMIT:
            break
    shown = "\n".join(render_text(problem) for problem in checked.problems.sorted()[:20])
    assert all(char.isprintable() or char == "\n" for char in shown)
    return checked, best


@pytest.mark.parametrize("title", RIGHT)
def test_odd_programs_are_programs(title: str) -> None:
    checked, seconds = answer("hostile.loss", RIGHT[title])
    assert checked.problems.errors == []
    assert checked.program is not None
    assert seconds < LIMIT


@pytest.mark.parametrize("title", WRONG)
def test_faults_are_answered(title: str) -> None:
    checked, seconds = answer("hostile.loss", WRONG[title])
    assert checked.problems.errors
    assert checked.program is None
    assert seconds < LIMIT


@pytest.mark.parametrize("title", YAMLS)
def test_yaml_is_answered(title: str) -> None:
    checked, seconds = answer("hostile.yaml", YAMLS[title])
    assert checked.problems.errors
    assert seconds < LIMIT


def test_a_prompt_is_answered() -> None:
    for text in ("__import__('os')", "9^9^9", "(" * 5000, "kl(" * 50 + ")" * 50, "nll; import os", '"""', "\0"):
        problems = Diagnostics()
        prompt_file(text, "tokens", problems)


@pytest.mark.skipif(not hasattr(sys, "getrecursionlimit"), reason="no recursion limit")
def test_the_recursion_limit_is_left_alone() -> None:
    before = sys.getrecursionlimit()
    check_source(Source("hostile.loss", WRONG["a long chain of terms"]))
    assert sys.getrecursionlimit() == before


# ---------------------------------------------------------------------------------------------- files beside


def checked_in(folder: Path, text: str) -> list[str]:
    path = folder / "main.loss"
    path.write_text(text, encoding="utf-8")
    return [problem.code for problem in check_source(Source(str(path), text)).problems.errors]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.loss").write_text("term f(x : real) = x\n")
    (inside / "link.loss").symlink_to(tmp_path / "secret.loss")
    assert checked_in(inside, 'use "link.loss" (f)\n' + loss("mean[b](f(x))")) == ["E104"]


def test_a_folder_a_pipe_and_bytes_are_refused(tmp_path: Path) -> None:
    import os

    (tmp_path / "folder.loss").mkdir()
    os.mkfifo(tmp_path / "pipe.loss")
    (tmp_path / "bytes.loss").write_bytes(b"\xff\xfe\x00")
    for name in ("folder.loss", "pipe.loss", "bytes.loss"):
        assert checked_in(tmp_path, f'use "{name}"\n' + loss("mean[b](x)")) == ["E104"]


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.loss").write_text("# x\n" * 300_000)
    assert checked_in(tmp_path, 'use "large.loss"\n' + loss("mean[b](x)")) == ["E104"]


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "same.loss").write_text("term outer(x : real) = x\n")
    (tmp_path / "sub" / "same.loss").write_text("term inner(x : real) = 2 * x\n")
    (tmp_path / "sub" / "two.loss").write_text('use "same.loss" (inner)\nterm two(x : real) = inner(x)\n')
    text = 'use "same.loss" (outer)\nuse "sub/two.loss" (two)\n' + loss("mean[b](outer(x) + two(x))")
    assert checked_in(tmp_path, text) == []


def test_a_chain_of_files(tmp_path: Path) -> None:
    for i in range(300):
        (tmp_path / f"f{i}.loss").write_text(f'use "f{i + 1}.loss" (t{i + 1})\nterm t{i}(x : real) = t{i + 1}(x)\n')
    (tmp_path / "f300.loss").write_text("term t300(x : real) = x\n")
    start = time.process_time()
    found = checked_in(tmp_path, 'use "f0.loss" (t0)\n' + loss("mean[b](t0(x))"))
    assert found in ([], ["E008"])
    assert time.process_time() - start < 3 * LIMIT
