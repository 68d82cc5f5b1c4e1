"""The claims of the family `speech`."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import uniform
from tests.zoo.harness import objective_of
from tests.zoo.oracles.speech import labelled_frames
from torch.nn import functional

CTC = "zoo/speech/ctc"


def test_ctc_is_that_of_torch() -> None:
    """Longer utterances than paths can be counted of: lengths, repeated labels, and NaN behind the frames."""
    b, t, v, words = 4, 30, 7, [[3, 3, 1, 6, 2], [5], [1, 2, 1, 2, 1, 2], [4, 4, 4, 4]]
    ext = torch.full((b, 13), -1)
    for at, word in enumerate(words):
        ext[at, : 2 * len(word) + 1] = torch.tensor([0, *(part for label in word for part in (label, 0))])
    lengths = torch.tensor([30, 4, 17, 9])
    frames = torch.arange(t) < lengths.unsqueeze(1)
    z = (5 * uniform(b, t, v, seed=3)).requires_grad_()
    hidden = torch.where(frames.unsqueeze(-1), z, torch.nan)
    found = objective_of(CTC)(z=hidden, ext=ext, frames=frames).loss
    targets, sizes = torch.tensor([label for word in words for label in word]), torch.tensor([len(word) for word in words])
    theirs = functional.ctc_loss(z.log_softmax(-1).transpose(0, 1), targets, lengths, sizes, reduction="none").mean()
    torch.testing.assert_close(found, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, z)[0] for loss in (found, theirs)))


def test_a_labelling_without_a_path_has_no_gradient() -> None:
    """`11` needs a blank between: three frames."""
    tensors = labelled_frames(1, "plain")
    z = tensors["z"].requires_grad_()
    tensors["frames"][0, 2:] = False
    loss = objective_of(CTC)(**tensors).loss
    assert loss == math.inf
    (gradient,) = torch.autograd.grad(loss, z)
    assert bool(gradient.isfinite().all())
    assert not gradient[0].any()


def test_classes_of_probability_0_are_on_no_path() -> None:
    tensors = labelled_frames(1, "plain")
    tensors["z"][2, 0, 1] = -math.inf
    z = tensors["z"].requires_grad_()
    loss = objective_of(CTC)(**tensors).loss
    (gradient,) = torch.autograd.grad(loss, z)
    assert bool(loss.isfinite()) and bool(gradient.isfinite().all())
