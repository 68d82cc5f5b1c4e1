"""A loss and its gradients in single or half precision, held against the same in double precision on the same numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tests.runtime.fused_cases import of_type
from torch import Tensor

import lossc

Tensors = Mapping[str, Tensor]

UNITS = {torch.float64: 2.0**-52, torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-10}
"""The distance from 1 to the next number."""


def outcome(text: str, backend: str, batch: Tensors, head: Tensors | None = None) -> dict[str, Tensor]:
    """The loss, and the gradients of tensors, parts of the head that makes `z`, and learned parameters; the reference is
    given the product of the head, which hides no row of NaN that the head has."""
    objective = lossc.loads(text, backend=backend)
    own = {name: x for name, x in batch.items() if name in objective.program.tensors}
    leaves = {name: x.clone().requires_grad_(name in ("z", "u", "a")) for name, x in own.items()}
    given: dict[str, object] = dict(leaves)
    if head is not None and "z" in given:
        del leaves["z"]
        parts = {name: x.clone().requires_grad_() for name, x in head.items()}
        leaves |= parts
        given["z"] = lossc.Linear(**parts) if backend != "reference" else _product(parts)
    loss = objective(given).loss
    if loss.requires_grad:
        loss.backward()
    found = {name: x.grad for name, x in leaves.items()} | {f"learn {name}": p.grad for name, p in objective.learn.items()}
    return {"loss": loss.detach(), **{name: gradient for name, gradient in found.items() if gradient is not None}}


def _product(parts: dict[str, Tensor]) -> Tensor:
    lost = parts["hidden"].isnan().any(-1, keepdim=True)
    scores = lossc.Linear(**{**parts, "hidden": torch.where(lost, 0.0, parts["hidden"])}).logits()
    return torch.where(lost, torch.nan, scores)


def apart(found: Tensor, exact: Tensor) -> float:
    """The largest difference; infinite where one is finite and the other is not."""
    same = (found.double() == exact) | (found.isnan() & exact.isnan())
    difference = torch.where(same, 0.0, (found.double() - exact).abs())
    return float(torch.nan_to_num(difference, nan=torch.inf).max()) if difference.numel() else 0.0


def disturbed(tensors: Tensors, unit: float, seed: int) -> dict[str, Tensor]:
    """Numbers that differ by a few roundings."""
    source = torch.Generator().manual_seed(seed)

    def moved(x: Tensor) -> Tensor:
        noise = 2 * torch.rand(x.shape, generator=source, dtype=torch.float64) - 1
        return x.double() * (1 + 4 * unit * noise)

    return {name: moved(x) if x.is_floating_point() else x for name, x in tensors.items()}


def assert_as_good_as_the_reference(
    text: str, batch: Tensors, head: Tensors | None = None, backends: tuple[str, ...] = ("torch", "c")
) -> None:
    """No backend errs many times more than the reference of the same type does, or than rounded inputs let a result differ.

    What is finite in double precision and in the reference is finite; where the loss is NaN, it is NaN.
    """
    dtype = batch["z"].dtype
    unit = UNITS[dtype] if head is not None else UNITS[max(dtype, torch.float32, key=lambda each: each.itemsize)]
    exact_head = None if head is None else of_type(head, torch.float64)
    exact, own = outcome(text, "reference", of_type(batch, torch.float64), exact_head), outcome(text, "reference", batch, head)
    moved: list[dict[str, Tensor]] = []
    for backend in backends:
        found = outcome(text, backend, batch, head)
        assert found["loss"].isnan() == exact["loss"].isnan() or not own["loss"].isfinite(), backend
        for name in {*exact, *found} if exact["loss"].isfinite() and own["loss"].isfinite() else ():
            zero = torch.zeros_like(exact.get(name, found.get(name)), dtype=torch.float64)  # type: ignore[arg-type]
            expected, ours, reference = exact.get(name, zero), found.get(name, zero), own.get(name, zero)
            scale = max(1e-2, float(expected.abs().nan_to_num().max()) if expected.numel() else 0.0)
            steps = UNITS[dtype] if head is not None or not (name == "loss" or name.startswith("learn")) else unit
            allowed = 30 * apart(reference, expected) + (64 * steps if dtype != torch.float64 else 1e-8) * scale
            if apart(ours, expected) > allowed:
                moved = moved or [
                    outcome(text, "reference", disturbed(batch, unit, seed), head and disturbed(head, unit, seed))
                    for seed in range(4)
                ]
                allowed += 30 * max(apart(each.get(name, zero), expected) for each in moved)
            assert apart(ours, expected) <= allowed, f"{backend}: {name}"
