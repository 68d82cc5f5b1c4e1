"""No text and no name of a spec is code: with other names and texts the emitted module differs in strings only.

(And in the order of equal operations, which follows a hash of the whole expression.)
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter

import pytest
import torch

import lossc
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
