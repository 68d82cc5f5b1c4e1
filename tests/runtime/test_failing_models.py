"""Models that raise, and models whose result is too small for the labels."""

from __future__ import annotations

import traceback

import pytest
import torch
from torch import Tensor, nn

import lossc

TEXT = """axis b : batch
axis d
axis v
input x   : real[b, d]
input net : model(real[b, d]) -> logits[b, v]
data  y   : label[b] in v
minimize
  f : mean[b](-log_softmax[v](net(x))[v = y])
"""


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such layer")


def test_an_exception_in_a_model_says_where_it_was_called() -> None:
    objective = lossc.loads(TEXT)
    with pytest.raises(KeyError, match="no such layer") as raised:
        objective(x=torch.zeros(2, 3), net=Broken(), y=torch.tensor([0, 1]))
    text = "".join(traceback.format_exception(raised.value))
    if hasattr(raised.value, "__notes__"):
        assert "raised in `net([b, d]) -> [b, v]` at <text>:5:" in text and "float32[2, 3]" in text


@pytest.mark.parametrize("check_labels", [True, False])
def test_a_label_beyond_what_a_model_gives(check_labels: bool) -> None:
    objective = lossc.loads(TEXT, check_labels=check_labels)
    net = nn.Linear(3, 4)
    batch = {"x": torch.ones(2, 3), "net": net}
    assert objective(batch, y=torch.tensor([3, -1])).loss.isfinite()
    with pytest.raises(lossc.LosscError) as raised:
        objective(batch, y=torch.tensor([4, 0]))
    (problem,) = raised.value.diagnostics
    assert problem.code == "E706" and "a label is 4" in problem.message and "0 to 3 of `v`" in problem.message
