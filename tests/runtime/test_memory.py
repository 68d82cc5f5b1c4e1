"""Memory that is used again: blocks of the pool, and accumulators that are rounded where they stand."""

from __future__ import annotations

import pytest
import torch

import lossc
from lossc.runtime.backends import heads, projection, rounding
from lossc.runtime.backends.pool import PAGE, SMALLEST, Pool
from lossc.runtime.backends.rounding import rounded

LARGE = SMALLEST // 4 + 3
"""Entries of single precision that the pool gives memory for."""


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    made = Pool()
    monkeypatch.setattr(rounding, "POOL", made)
    return made


def test_the_memory_of_a_tensor_that_is_gone_is_given_again(pool: Pool) -> None:
    first = pool.empty((LARGE,), torch.float32)
    place = first.data_ptr()
    assert pool.empty((LARGE,), torch.float32).data_ptr() != place
    del first
    assert place in {pool.empty((LARGE,), torch.float32).data_ptr() for _ in range(2)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("piece", [2, 1000, 1 << 30])
def test_rounding_in_place_is_rounding(pool: Pool, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, piece: int) -> None:
    monkeypatch.setattr(rounding, "PIECE_BYTES", max(piece, LARGE // 500))
    wide = pool.empty((3, LARGE), torch.float32)
    wide.normal_()
    wide[1, :3] = torch.tensor([float("nan"), float("inf"), 1e-45])
    expected, place = wide.to(dtype), wide.data_ptr()
    found = rounded(wide, dtype)
    assert found.dtype == dtype and found.shape == wide.shape
    assert found.data_ptr() == place and found.untyped_storage().nbytes() == 2 * found.numel()
    assert torch.equal(found.view(torch.int16), expected.view(torch.int16))


def test_the_memory_outlives_what_it_was_taken_for(pool: Pool) -> None:
    wide = pool.empty((2 * PAGE // 4,), torch.float32)
    wide.fill_(1.5)
    narrow = rounded(wide, torch.bfloat16)
    place = wide.data_ptr()
    del wide
    other = pool.empty((2 * PAGE // 4,), torch.float32)
    other.zero_()
    assert other.data_ptr() != place and bool((narrow == 1.5).all())
    del narrow
    again = pool.empty((2 * PAGE // 4,), torch.float32)
    assert again.data_ptr() == place
    again.fill_(2.0)
    assert bool((again == 2.0).all())


@pytest.mark.parametrize(
    "wide", [torch.randn(7), torch.randn(LARGE), torch.randn(4, 5).T, torch.zeros(0)], ids=["small", "large", "turned", "empty"]
)
def test_memory_of_others_is_rounded_into_a_tensor_of_its_own(wide: torch.Tensor) -> None:
    before = wide.clone()
    assert torch.equal(rounded(wide, torch.bfloat16), before.to(torch.bfloat16))
    assert torch.equal(wide, before)
    assert rounded(wide, torch.float32) is wide
    assert torch.equal(rounded(wide, torch.float64), before.double())


def test_the_gradient_of_a_narrow_weight_has_the_memory_of_its_accumulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are added up in single precision; what reaches the weight is of its type, and stays when the next call runs."""
    monkeypatch.setattr(heads, "CPU_BYTES", 1)
    monkeypatch.setattr(heads, "CPU_ROWS", 4)
    monkeypatch.setattr(heads, "_widening", lambda head: 0)
    torch.manual_seed(0)
    hidden = torch.randn(2, 8, 16, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(SMALLEST // 32, 16, dtype=torch.bfloat16, requires_grad=True)
    labels, mask = torch.randint(len(weight), (2, 8)), torch.ones(2, 8, dtype=torch.bool)
    objective = lossc.loads("ce", setting="tokens", backend="torch")

    def gradient(scale: float) -> torch.Tensor:
        weight.grad = None
        (scale * objective(logits=lossc.Linear(hidden, weight), labels=labels, mask=mask).loss).backward()
        assert weight.grad is not None and weight.grad.dtype == torch.bfloat16
        return weight.grad

    first = gradient(1.0)
    kept = first.clone()
    assert torch.equal(gradient(2.0), 2 * kept) and torch.equal(first, kept)


@pytest.mark.parametrize("count", [0, 1, 5, 12])
@pytest.mark.parametrize("slice_bytes", [1, 60, 1 << 20])
def test_rows_of_a_block_are_moved_within_it(monkeypatch: pytest.MonkeyPatch, count: int, slice_bytes: int) -> None:
    monkeypatch.setattr(projection, "SLICE_BYTES", slice_bytes)
    torch.manual_seed(count)
    whole = torch.randn(12, 5)
    rows = torch.randperm(12)[:count].sort().values
    block = whole.clone()
    found = projection.gathered(block, rows)
    assert torch.equal(found, whole[rows]) and (not count or found.data_ptr() == block.data_ptr())
    expected = torch.zeros(12, 5)
    expected[rows] = whole[rows]
    assert torch.equal(projection.spread(block, rows), expected)
