"""Published objectives over ranks, positions and distributions of returns, written by a newcomer from the pages alone."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, lengths_mask, scores, uniform
from tests.zoo.harness import Tensors
from tests.zoo.newcomer import assert_equals, behind, over_classes
from torch import Tensor

NDCG_LOSS2 = """
\"\"\"LambdaLoss, NDCG-Loss2: pairs weighted by how much the gap of their places changes NDCG. Wang et al. 2018.\"\"\"
objective ndcg_loss2
axis b : batch
axis i
input s    : real[b, i]
data  y    : real[b, i]
data  mask : mask[b, i]

let gain  = 2^y - 1
let ideal = sum[r](-sort[i -> r where mask](-gain) / log2(2 + index[r]))
let place = rank[i where mask](-s) + 1
let gap   = abs(place - place[i -> j])
let delta = abs(1 / log2(1 + gap) - 1 / log2(2 + gap))
let pairs = mask and mask[i -> j] and y > y[i -> j]

minimize
  ndcg : mean[b](sum[i, j where pairs](delta * abs(gain - gain[i -> j]) / ideal * softplus(s[i -> j] - s)))
"""


def test_pairs_weighted_by_places() -> None:
    mask = lengths_mask(4, 6, seed=1)
    batch = {"s": behind(scores(4, 6, seed=2), mask), "y": behind(uniform(4, 6, seed=3) + 1, mask), "mask": mask}

    def closed(t: Tensors) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for b in range(4):
            s, gain = t["s"][b][mask[b]], 2 ** t["y"][b][mask[b]] - 1
            place = [1 + int((s > own).sum()) for own in s]
            ideal = sum(float(g) / math.log2(2 + at) for at, g in enumerate(gain.sort(descending=True).values))
            for i in range(len(s)):
                for j in range(len(s)):
                    if gain[i] > gain[j]:
                        gap = abs(place[i] - place[j])
                        delta = abs(1 / math.log2(1 + gap) - 1 / math.log2(2 + gap))
                        total = total + delta * (gain[i] - gain[j]) / ideal * (1 + (s[j] - s[i]).exp()).log()
        return total / 4

    assert_equals(NDCG_LOSS2, batch, closed, warnings=["W301"])


EFRON = """
\"\"\"The partial likelihood of proportional hazards, with Efron's correction for ties. Efron 1977.\"\"\"
objective efron
axis b : batch
input r     : real[b]
data  time  : real[b]
data  event : mask[b]

let tied    = time[b -> j] == time and event[b -> j]
let at_risk = sum[j where time[b -> j] >= time](exp(r[b -> j]))
let dying   = sum[j where tied](exp(r[b -> j]))
let share   = count[j where tied and index[j] < index[b]] / count[j where tied]

minimize
  cox : -mean[b where event](r - log(at_risk - share * dying))
"""


def test_hazards_with_ties() -> None:
    time = torch.tensor([1.0, 2, 2, 3, 3, 3, 4, 5, 5], dtype=torch.float64)
    event = torch.tensor([1, 1, 1, 0, 1, 1, 1, 0, 1]) > 0

    def closed(t: Tensors) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for now in time[event].unique():
            risk = t["r"].exp()
            died = event & (time == now)
            for number in range(int(died.sum())):
                total = total + (risk[time >= now].sum() - number / int(died.sum()) * risk[died].sum()).log()
            total = total - t["r"][died].sum()
        return total / int(event.sum())

    assert_equals(EFRON, {"r": scores(9, seed=4), "time": time, "event": event}, closed, warnings=["W202", "W201"])


C51 = """
\"\"\"A distribution of returns, moved by the Bellman operator and projected on its atoms. Bellemare et al. 2017.\"\"\"
objective c51
axis b : batch
axis action
axis atom
input z      : logits[b, action, atom]
data  next_p : prob[b, action, atom]
data  taken  : label[b] in action
data  next_a : label[b] in action
data  reward : real[b]
data  done   : mask[b]
param low  : real = -2
param high : real = 3

let width  = (high - low) / (size[atom] - 1)
let value  = low + index[atom] * width
let moved  = clip(reward + 0.9 * (1 - done) * value, low, high)
let share  = relu(1 - abs(moved[atom -> j] - value) / width)
let target = sum[j](next_p[action = next_a][atom -> j] * share)

minimize
  c51 : -mean[b](sum[atom](target * log_softmax[atom](z[action = taken])))
"""


@over_classes
def test_a_projected_distribution_of_returns(backend: str) -> None:
    batch = {
        "z": scores(5, 3, 6, seed=1), "next_p": scores(5, 3, 6, seed=2).softmax(-1), "reward": 2 * uniform(5, seed=3),
        "taken": integers(5, high=3, seed=4), "next_a": integers(5, high=3, seed=5), "done": uniform(5, seed=6) > 0.3,
    }  # fmt: skip

    def closed(t: Tensors) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for b in range(5):
            logp = t["z"][b, t["taken"][b]].log_softmax(-1)
            for j in range(6):
                at = min(max(float(t["reward"][b]) + 0.9 * (not t["done"][b]) * (j - 2), -2), 3) + 2
                p, below = t["next_p"][b, t["next_a"][b], j], math.floor(at)
                total = total - p * (1 - (at - below)) * logp[below]
                if at > below:
                    total = total - p * (at - below) * logp[below + 1]
        return total / 5

    assert_equals(C51, batch, closed, backend=backend)


PREDICTION = """
\"\"\"Multi-token prediction: head h predicts the token h places further on. Gloeckle et al. 2024.\"\"\"
objective mtp
use std.ce (ce)
axis b : batch
axis head
axis t
axis v
input logits : logits[b, head, t, v]
data  labels : label[b, t] in v
data  mask   : mask[b, t]

let ahead = index[t] + index[head]
let y     = labels[t -> u][u = ahead]
let m     = mask[t -> u][u = ahead]

minimize
  mtp : mean[head](mean[b, t where m and ahead < size[t]](ce(logits, y)))
"""


@over_classes
def test_several_tokens_ahead(backend: str) -> None:
    mask, labels = lengths_mask(3, 6, seed=1), integers(3, 6, high=7, seed=2)
    labels[0, 1] = -1
    batch = {"logits": scores(3, 2, 6, 7, seed=3), "labels": labels, "mask": mask}

    def closed(t: Tensors) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for head in range(2):
            logp = t["logits"][:, head, : 6 - head].log_softmax(-1)
            y, m = labels[:, head:], mask[:, head:] & (labels[:, head:] >= 0)
            total = total - logp[m].gather(-1, y[m][:, None]).mean() / 2
        return total

    assert_equals(PREDICTION, batch, closed, backend=backend)
