"""Views: augmented copies of rows of numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from lossc.runtime.training.feed_sections import View


def augmented(
    features: Tensor, view: View, statistics: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """The rows [b, f] moved as images, then with noise in units of each feature's deviation, then some at their means."""
    mean, deviation = (part.to(features) for part in statistics)
    moved = _moved(features, view, generator) if view.shift and view.image else features
    noise = torch.randn(features.shape, generator=generator, dtype=features.dtype, device=features.device)
    noisy = moved + view.noise * deviation * noise if view.noise else moved
    dropped = torch.rand(features.shape, generator=generator, device=features.device) < view.drop
    return mean.where(dropped, noisy)


def _moved(features: Tensor, view: View, generator: torch.Generator) -> Tensor:
    """Each row as an image, moved by up to `shift` pixels in both directions; what comes in is 0."""
    assert view.image is not None
    height, width = view.image
    images = features.reshape(-1, height, width)
    by = torch.randint(-view.shift, view.shift + 1, (len(images), 2), generator=generator, device=features.device)
    rows = torch.arange(height, device=features.device)[None, :, None] + by[:, 0, None, None]
    columns = torch.arange(width, device=features.device)[None, None, :] + by[:, 1, None, None]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    picked = features.gather(1, index.reshape(len(images), -1))
    return picked * inside.reshape(len(images), -1)
