"""Rows in packs, whose gradients are written past the caches while the next row is read, whatever rows follow each other.

The measure is the reference in double precision on the same numbers.
"""

from __future__ import annotations

import pytest
import torch
from tests.runtime import fused_cases as cases
from torch import Tensor

import lossc
from lossc import Objective
from lossc.runtime.backends import native
from lossc.runtime.backends.c import Compiled
from lossc.runtime.backends.toolchain import ToolchainError, compiler

try:
    compiler()
except ToolchainError:
    pytest.skip("there is no C compiler", allow_module_level=True)

HEAD = """
objective o
axis b : batch
axis v
input logits  : logits[b, v]
input teacher : logits[b, v]
data  labels  : label[b] in v
data  mask    : mask[b]
use std.ce (label_smoothing, z_loss, entropy)
use std.divergence (kl)
minimize
"""

TEXTS = {
    "one stream": """
  ce   : mean[b where mask](label_smoothing(logits, labels, eps = 0.1))
  size : 0.001 * mean[b where mask](z_loss(logits))
  h    : -0.1 * mean[b where mask](entropy(logits))
""",
    "two streams": """
  ce   : mean[b where mask](label_smoothing(logits, labels, eps = 0.1))
  kl   : 2 * mean[b where mask](kl(teacher / 2, logits / 2))
""",
    "coupled": """
  size : softplus(mean[b where mask](z_loss(logits)) - mean[b where mask](entropy(logits)))
""",
}

CLASSES = (1, 31, 32, 64, 65, 2048, 2080, 2112, 4167)
"""Less than a pair of packs, whole pairs, rows that begin on a line and such that do not, several blocks."""


@pytest.fixture(autouse=True)
def past_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    def gave_up(self: Compiled, reason: Exception) -> None:
        raise AssertionError(f"no kernel: {reason}")

    monkeypatch.setattr(Compiled, "give_up", gave_up)
    monkeypatch.setattr(native, "STREAMING_BYTES", -1)


@pytest.fixture(scope="module")
def objectives() -> dict[tuple[str, str], Objective]:
    return {(text, backend): lossc.loads(HEAD + body, backend=backend)
            for text, body in TEXTS.items() for backend in ("c", "reference")}  # fmt: skip


def rows(classes: int, count: int, seed: int = 0) -> cases.Batch:
    """Plain rows, and among them at random rows that are hidden, deep, forbidden in part, or of equal entries."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 10, (count, 1), generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    labels[:3] = torch.tensor([0, classes - 1, min(2048, classes - 1)])
    logits, teacher = (3 * torch.randn(count, classes, generator=generator) for _ in range(2))
    some = torch.rand(count, classes, generator=generator) < 0.2
    kept = some.clone().scatter_(1, labels[:, None], True)
    logits = torch.where((kind == 1) & some, -1e4, logits)
    logits = torch.where((kind == 2) & ~kept, -torch.inf, logits)
    logits = torch.where(kind == 3, 7.0, logits)
    logits = torch.where((kind == 4) & some, torch.nan, logits)
    logits = torch.where(kind == 5, logits + 1e4, logits)
    mask = (kind[:, 0] != 6) & (kind[:, 0] != 4)
    mask[0] = True
    logits[0] = logits[0].nan_to_num(0.0, 0.0, 0.0)
    return {"logits": logits, "teacher": teacher, "labels": labels, "mask": mask}


def of_types(batch: cases.Batch, **dtypes: torch.dtype) -> cases.Batch:
    return {name: x.to(dtypes[name]) if name in dtypes else x for name, x in batch.items()}


def error(found: Tensor, expected: Tensor) -> float:
    """In the norm, of what is finite; what is not must be equal."""
    finite = expected.isfinite()
    assert torch.equal(finite, found.isfinite())
    difference = torch.where(finite, found - expected, 0.0)
    return float(difference.norm() / torch.where(finite, expected, 0.0).norm().clamp(min=1e-3))


TYPES = {
    "fp32": ({"logits": torch.float32, "teacher": torch.float32}, 2e-6),
    "bf16": ({"logits": torch.bfloat16, "teacher": torch.bfloat16}, 4e-3),
    "fp16": ({"logits": torch.float16, "teacher": torch.float16}, 6e-4),
    "mixed": ({"logits": torch.bfloat16, "teacher": torch.float32}, 4e-3),
}


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("text", TEXTS)
def test_gradients(objectives: dict[tuple[str, str], Objective], text: str, types: str, classes: int) -> None:
    dtypes, tolerance = TYPES[types]
    batch = of_types(rows(classes, 41, seed=classes), **dtypes)
    found = cases.outcome(objectives[text, "c"], batch, scale=0.5)
    expected = cases.outcome(objectives[text, "reference"], cases.of_type(batch, torch.float64), scale=0.5)
    torch.testing.assert_close(found.values["loss"], expected.values["loss"], rtol=2e-6, atol=2e-6)
    for name, gradient in expected.gradients.items():
        assert error(found.gradients[name], gradient) <= tolerance, name


@pytest.mark.parametrize("types", ["fp32", "bf16"])
@pytest.mark.parametrize("first", [0, 2030])
def test_a_label_at_every_place(objectives: dict[tuple[str, str], Objective], types: str, first: int) -> None:
    """Only the pair of packs with the label is taken apart from the loop over two rows."""
    dtypes, tolerance = TYPES[types]
    labels = torch.arange(first, first + 130)
    logits, teacher = (3 * torch.randn(130, first + 130, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    plain = {"logits": logits, "teacher": teacher, "labels": labels, "mask": torch.ones(130, dtype=torch.bool)}
    batch = of_types(plain, **dtypes)
    found = cases.outcome(objectives["one stream", "c"], batch).gradients["logits"]
    expected = cases.outcome(objectives["one stream", "reference"], cases.of_type(batch, torch.float64)).gradients["logits"]
    for row in range(130):
        assert error(found[row], expected[row]) <= tolerance
    assert error(found[range(130), labels], expected[range(130), labels]) <= tolerance


@pytest.mark.parametrize("types", ["fp32", "bf16"])
def test_nan_stays_in_its_row(objectives: dict[tuple[str, str], Objective], types: str) -> None:
    batch = of_types(rows(2112, 12), **TYPES[types][0])
    batch["mask"] = torch.ones_like(batch["mask"])
    batch["logits"] = batch["logits"].nan_to_num(0.0, 0.0, 0.0)
    for odd in (torch.tensor(float("nan")), torch.tensor(-1, dtype=torch.int32).view(torch.float32)):
        batch["logits"][5, 700] = odd
        found = cases.outcome(objectives["one stream", "c"], batch).gradients["logits"]
        assert found[5].isnan().all()
        assert found[:5].isfinite().all()
        assert found[6:].isfinite().all()


def test_rows_on_several_threads(objectives: dict[tuple[str, str], Objective]) -> None:
    batch = rows(2112, 700, seed=3)
    _, *found = (cases.outcome(objectives["one stream", "c"], batch).gradients["logits"] for _ in range(3))
    assert torch.equal(*found)
