"""Random tensors that only depend on what they are told: the same on every device, backend and machine."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def drawn(distribution: str, shape: list[int], place: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal, or uniform in [0, 1): a function of `place`, in the type and on the device of `like`."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    draw = torch.randn if distribution == "normal" else torch.rand
    return draw(shape, generator=generator, dtype=torch.float32).to(like)
