"""Tensors that come from the network as it was before the first step: computed once, kept with the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lossc.runtime.files import replacing
from lossc.runtime.training.examples import Batch, Example, collate, stack
from lossc.runtime.training.processes import is_main

Compute = Callable[[nn.Module, Batch], Tensor]


def add_frozen(
    examples: Sequence[Example],
    wanted: Mapping[str, Compute],
    network: nn.Module,
    path: Path,
    *,
    batch_size: int,
    autocast: torch.dtype | None,
) -> None:
    """Puts each wanted tensor into the data of each example: from `path` where it was kept, else from the network."""
    if not wanted or not examples:
        return
    from safetensors.torch import load_file, save_file

    if path.exists():
        kept = load_file(path)
    else:
        kept = _computed(examples, wanted, network, batch_size, autocast)
        if is_main():
            with replacing(path) as temporary:
                save_file(kept, temporary)
    for name in wanted:
        for example, value in zip(examples, kept[name], strict=True):
            example.data[name] = _cut(value, example.data.get(f"{name.rpartition('.')[0]}.labels".lstrip(".")))


def _computed(
    examples: Sequence[Example], wanted: Mapping[str, Compute], network: nn.Module, batch_size: int,
    autocast: torch.dtype | None,
) -> dict[str, Tensor]:  # fmt: skip
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    rows: dict[str, list[Tensor]] = {name: [] for name in wanted}
    was_training = network.training
    network.eval()
    mixed = torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext()
    with torch.no_grad(), mixed:
        for start in range(0, len(examples), batch_size):
            batch = collate(examples[start : start + batch_size])
            moved: Batch = {"network": _moved(batch["network"], device), "data": _moved(batch["data"], device)}
            for name, compute in wanted.items():
                rows[name] += compute(network, moved).cpu().unbind(0)
    network.train(was_training)
    return {name: stack(values).contiguous() for name, values in rows.items()}


def _moved(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _cut(value: Tensor, labels: Tensor | None) -> Tensor:
    """Without the padding of the batch that it was computed in, where it has one entry for each label."""
    if labels is None or labels.ndim != value.ndim or value.ndim == 0:
        return value
    return value[tuple(slice(0, size) for size in labels.shape)]
