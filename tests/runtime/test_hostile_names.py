"""No text and no name of a spec is code: with other names and texts the emitted module differs in strings only.

(And in the order of equal operations, which follows a hash of the whole expression.) Nor do they steer the terminal that
they are printed on.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest
import torch

import lossc
from lossc.runtime.cli.boundary import run
from lossc.runtime.standalone import standalone

PLAIN = {"row": "row", "first": "first", "second": "second", "weight": "weight", "fit": "fit", "text": "A title"}

HOSTILE = {
    "keywords": {"row": "for_", "first": "lambda", "second": "import", "weight": "class", "fit": "def"},
    "functions": {"row": "mean", "first": "exp", "second": "sum", "weight": "log", "fit": "softplus"},
    "Python's own": {"row": "eval", "first": "__import__", "second": "__class__", "weight": "exec", "fit": "globals"},
    "torch": {"row": "operations", "first": "torch", "second": "self", "weight": "Tensor", "fit": "Objective"},
    "emitted names": {"row": "v0", "first": "v1", "second": "v2", "weight": "v3", "fit": "TENSORS"},
    "letters": {"row": "β", "first": "λ", "second": "ﬁ", "weight": "数", "fit": "é"},
    "long": {name: name[0] * 5000 + name for name in PLAIN if name != "text"},
    "quotes": {"text": '\\"\\"\\" \'\'\' \\n__import__(\'os\').system(\'true\') # \\\\ {0} %s'},
}


def spec(row: str, first: str, second: str, weight: str, fit: str, text: str) -> str:
    return f"""title "{text}"
axis {row} : batch
input {first} : real[{row}]
data {second} : real[{row}]
param {weight} : positive = 0.5
minimize
  {fit} : {weight} * mean[{row}](({first} - {second})^2) + mean[{row}](exp({first}))
"""


def parts(text: str) -> Counter[str]:
    """How often each kind of syntax stands in the module."""
    return Counter(type(node).__name__ for node in ast.walk(ast.parse(text)))


def identifiers(text: str) -> set[str]:
    return {token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.NAME}


@pytest.fixture(scope="module")
def plain() -> str:
    return standalone(lossc.loads(spec(**PLAIN)))


@pytest.mark.parametrize("title", HOSTILE)
def test_names_and_texts_change_strings_only(title: str, plain: str) -> None:
    text = standalone(lossc.loads(spec(**{**PLAIN, **HOSTILE[title]})))
    assert parts(text) == parts(plain)
    assert identifiers(text) == identifiers(plain)


@pytest.mark.parametrize("title", HOSTILE)
def test_values_are_those_of_plain_names(title: str) -> None:
    names = {**PLAIN, **HOSTILE[title]}
    first, second = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 0.0, 0.25])
    expected = lossc.loads(spec(**PLAIN))(first=first, second=second).loss
    assert lossc.loads(spec(**names))({names["first"]: first, names["second"]: second}).loss == expected


STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

TEXTS = {
    "a colour": "\x1b[31mred\x1b]0;title\x07\x9b31m", "from right to left": "a\u202eb\u2066c\u2028d",
    "the begin of the line": "a\rb\0c", "a surrogate": "a\ud800b", "markup": "[/x] [bold] [link=file:///]y[/link]",
    "a page": "</script><script>alert(1)</script> $\\input{x}$ % a\\\"b'c`d", "long": "x" * 20_000,
}  # fmt: skip


COMMANDS = (
    ["check"], ["show"], ["show", "--latex"], ["plan"], ["plan", "--json"], ["render"], ["fmt", "--to", "text"],
    ["fmt", "--to", "yaml"], ["check", "--format", "json"],
)  # fmt: skip


@pytest.mark.parametrize("title", TEXTS)
def test_no_text_of_a_file_or_of_a_command_steers_the_terminal(
    title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a comment, a docstring, names of laws, keys of YAML, names of files and parameters."""
    text = TEXTS[title]
    held = json.dumps(text)
    plain = f"objective o\ntitle {held}\ncite {held}\naxis b : batch # {text}\ninput x : real[b]\n"
    plain = f'"""{text}"""\n{plain}law {held} : x == x for x : real\nminimize\n  f : mean[b](x)\n'
    yaml = f"lossc: 1\nabout: {held}\n{held}: 3\naxes:\n  b: batch\ninputs:\n  {held}: real[b]\nminimize:\n  f: 1\n"
    texts = {"a.loss": plain, "b.loss": plain.replace("  f :", f"  {text} :"), "c.yaml": yaml}
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    calls = [[*command, str(tmp_path / "a.loss")] for command in COMMANDS]
    calls += [["check", "--format", form, str(tmp_path / name)] for name in texts for form in ("text", "json")]
    calls += [["check", text], ["train", text], ["explain", text], ["check", "--set", f"{text}=1", str(tmp_path / "a.loss")]]
    for call in calls:
        status = run(call)
        printed = "".join(capsys.readouterr())
        assert status in (0, 1, 2), call
        assert not STEERING.search(printed), call
        assert "Traceback" not in printed
