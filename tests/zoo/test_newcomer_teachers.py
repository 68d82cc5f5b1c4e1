"""Published objectives with teachers, networks and constraints, written by a newcomer from the pages alone."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, rollouts, scores, uniform
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import Tensors
from tests.zoo.newcomer import assert_equals, behind, cross_entropy, over_classes, unit
from tests.zoo.oracles.attacks import network
from torch import Tensor, nn

DINO = """
\"\"\"A centred, sharpened teacher of the large crops, a student of all crops. Caron et al. 2021.\"\"\"
objective dino
axis b : batch
axis big
axis view
axis k
input student : logits[b, view, k]
data  teacher : logits[b, big, k]
data  seen    : mask[b, view]
param tau : positive = 0.1

state centre : real[k] = 0 then 0.9 * centre + 0.1 * mean[b, big](teacher)
let warm = ramp(0.04 -> 0.07, over = 30)
let p    = softmax[k]((teacher - centre) / warm)
let h    = -sum[k](p * log(softmax[k](student / tau)))

minimize
  dino : mean[b, big, view where seen and index[big] != index[view]](h)
"""


@over_classes
def test_self_distillation_without_labels(backend: str) -> None:
    seen = torch.tensor(
        [[True, True, True, False, True], [True, False, True, True, True], [False, True, False, True, True]]
    )
    batch = {"student": behind(scores(3, 5, 7, seed=1), seen), "teacher": uniform(3, 2, 7, seed=2), "seen": seen}
    batch["centre"] = uniform(7, seed=3) / 3

    def closed(t: Tensors) -> Tensor:
        parts = []
        for big in range(2):
            p = ((t["teacher"][:, big] - batch["centre"]) / (0.04 + 0.03 * 15 / 30)).softmax(-1)
            for view in range(5):
                rows = seen[:, view]
                if view != big:
                    parts.append(-(p[rows] * (t["student"][rows, view] / 0.1).log_softmax(-1)).sum(-1))
        return torch.cat(parts).mean()

    found = assert_equals(DINO, batch, closed, backend=backend, steps=15, sizes={"k": 7})
    found.advance()
    torch.testing.assert_close(found.state["centre"], 0.9 * batch["centre"] + 0.1 * batch["teacher"].mean((0, 1)))


DIST = """
\"\"\"DIST: rows and columns of the student's answers correlate with the teacher's. Huang et al. 2022.\"\"\"
objective dist
axis b : batch
axis v
input student : logits[b, v]
data  teacher : logits[b, v]
data  mask    : mask[b]
param tau   : positive = 2
param beta  : nonneg   = 1
param gamma : nonneg   = 0.5

let p = softmax[v](teacher / tau)
let q = softmax[v](student / tau)
let pr = p - mean[v](p)
let qr = q - mean[v](q)
let pc = p - mean[b where mask](p)
let qc = q - mean[b where mask](q)
let row    = sum[v](pr * qr) / (sqrt(sum[v](pr^2)) * sqrt(sum[v](qr^2)))
let column = sum[b where mask](pc * qc) / (sqrt(sum[b where mask](pc^2)) * sqrt(sum[b where mask](qc^2)))

minimize
  inter : beta * tau^2 * mean[b where mask](1 - row)
  intra : gamma * tau^2 * mean[v](1 - column)
"""


@over_classes
def test_correlated_answers(backend: str) -> None:
    mask = torch.tensor([True, False, True, True, True])
    batch = {"student": behind(scores(5, 7, seed=1), mask), "teacher": behind(scores(5, 7, seed=2), mask), "mask": mask}

    def apart(p: Tensor, q: Tensor) -> Tensor:
        return torch.stack([1 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(p, q, strict=True)]).mean()

    def closed(t: Tensors) -> Tensor:
        p, q = (t["teacher"][mask] / 2).softmax(-1), (t["student"][mask] / 2).softmax(-1)
        return 4 * apart(p, q) + 0.5 * 4 * apart(p.T, q.T)

    assert_equals(DIST, batch, closed, backend=backend)


RRHF = """
\"\"\"RRHF: likelihoods of answers are ranked as their rewards are; the best is imitated. Yuan et al. 2023.\"\"\"
objective rrhf
axis q : batch
axis sample
axis t
axis v
input logits : logits[q, sample, t, v]
data  labels : label[q, sample, t] in v
data  mask   : mask[q, sample, t]
data  reward : real[q, sample]

let logp = log(softmax[v](logits)[v = labels])
let p    = mean[t where mask](logp)
let best = argmax[sample](reward)

minimize
  rank : mean[q](sum[sample, o where reward < reward[sample -> o]](relu(p - p[sample -> o])))
  sft  : mean[q](-sum[t where mask](logp)[sample = best])
"""


@over_classes
def test_ranked_responses(backend: str) -> None:
    made = hidden(ignored(rollouts(3, q=3, sample=3, t=5, v=7)))
    batch = {name: made[name] for name in ("logits", "labels", "mask", "reward")}

    def closed(t: Tensors) -> Tensor:
        rows = []
        for z, y, m, r in zip(t["logits"], t["labels"], t["mask"], t["reward"], strict=True):
            logps = []
            for i in range(3):
                kept = m[i] & (y[i] >= 0)
                logps.append(-cross_entropy(z[i][kept], y[i][kept], reduction="none"))
            p = [logp.mean() for logp in logps]
            rank = sum((p[i] - p[j]).clamp(min=0) for i in range(3) for j in range(3) if r[i] < r[j])
            rows.append(rank - logps[int(r.argmax())].sum())
        return torch.stack(rows).mean()

    assert_equals(RRHF, batch, closed, backend=backend, warnings=["W301"])


VAT = """
\"\"\"Virtual adversarial training: one power iteration from a random direction. Miyato et al. 2018.\"\"\"
objective vat
use std.ce (ce)
use std.divergence (kl)
axis b : batch
axis d
axis v
data  x   : real[b, d]
data  y   : label[b] in v
input net : model(real[b, d]) -> logits[b, v]
param xi  : positive = 0.1
param eps : positive = 2

let z     = net(x)
let draw  = normal(b, d)
let r     = xi * draw / norm[d](draw)
let slope = grad[r](kl(sg(z), net(x + r)))
let worst_r = eps * sg(slope / norm[d](slope))

minimize
  ce  : mean[b](ce(z, y))
  lds : mean[b](kl(sg(z), net(x + worst_r)))
"""


def test_virtual_adversarial_training() -> None:
    batch = {"x": uniform(4, 3, seed=1), "y": integers(4, high=5, seed=2), "net": network(3, 5)}
    batch["draw"] = uniform(4, 3, seed=3)

    def closed(t: Tensors) -> Tensor:
        net, x = t["net"], t["x"]
        logp = net(x).log_softmax(-1)
        fixed = logp.detach()

        def apart(move: Tensor) -> Tensor:
            return (fixed.exp() * (fixed - net(x + move).log_softmax(-1))).sum(-1)

        r = (0.1 * unit(t["draw"])).requires_grad_()
        (slope,) = torch.autograd.grad(apart(r).sum(), r)
        return -logp.gather(1, t["y"][:, None]).mean() + apart(2 * unit(slope)).mean()

    assert_equals(VAT, batch, closed)


GPINN = """
\"\"\"Gradient-enhanced PINN of u'' + u^3 = s: the slope of the residual vanishes too. Yu et al. 2022.\"\"\"
objective gpinn
axis n : batch
axis edge
input u    : model(real[n]) -> real[n]
data  x    : real[n]
data  s    : real[n]
data  ds   : real[n]   # the slope of s
data  x0   : real[edge]
data  u0   : real[edge]
data  wet  : mask[n]
param w : nonneg = 0.1

let inside = x if wet else 0   # a network is called on every row
let f = grad[inside](grad[inside](u(inside))) + u(inside)^3

minimize
  residual : mean[n where wet]((f - s)^2)
  slope    : w * mean[n where wet]((grad[inside](f) - ds)^2)
  boundary : mean[edge]((u(x0) - u0)^2)
"""


class Waves(nn.Module):
    """A field with known derivatives: sum_k c_k sin(a_k x + s_k)."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.a, self.s = (nn.Parameter(2 * uniform(4, seed=30 + i)) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.derivative(x, 0)

    def derivative(self, x: Tensor, order: int) -> Tensor:
        turned = self.a * x[..., None] + self.s + order * torch.pi / 2
        return (self.c * self.a**order * torch.sin(turned)).sum(-1)


def test_a_gradient_enhanced_pinn() -> None:
    wet = torch.tensor([True, True, False, True, True])
    batch = {"u": Waves(), "x": behind(uniform(5, seed=1), wet), "s": uniform(5, seed=2), "ds": uniform(5, seed=3)}
    batch |= {"x0": torch.tensor([-1.0, 1.0]).double(), "u0": uniform(2, seed=4), "wet": wet}

    def closed(t: Tensors) -> Tensor:
        field, x = t["u"], t["x"][wet]
        u, slope = field(x), field.derivative(x, 1)
        residual = field.derivative(x, 2) + u**3 - t["s"][wet]
        gained = field.derivative(x, 3) + 3 * u**2 * slope - t["ds"][wet]
        return (residual**2).mean() + 0.1 * (gained**2).mean() + ((field(t["x0"]) - t["u0"]) ** 2).mean()

    assert_equals(GPINN, batch, closed)


ZAFAR = """
\"\"\"The covariance of a sensitive attribute and the decision is bounded. Zafar et al. 2017.\"\"\"
objective zafar
axis b : batch
input score : real[b]
data  label : sign[b]
data  s     : mask[b]
data  known : mask[b]
param c : nonneg = 0.05

let cov_s = mean[b where known]((s - mean[b where known](s)) * score)

minimize
  logistic : mean[b where known](log(1 + exp(-label * score)))

subject to fair : abs(cov_s) <= c
"""


def test_covariance_with_a_sensitive_attribute() -> None:
    known = torch.tensor([True, True, False, True, True, False, True])
    batch = {"score": behind(scores(7, seed=1), known), "label": uniform(7, seed=2).sign(), "known": known}
    batch |= {"s": uniform(7, seed=3) > 0, "fair": torch.tensor(0.6, dtype=torch.float64)}

    def closed(t: Tensors) -> Tensor:
        score, label, s = t["score"][known], t["label"][known], t["s"][known].double()
        covariance = torch.cov(torch.stack([s, score]), correction=0)[0, 1]
        return torch.log1p((-label * score).exp()).mean() + 0.6 * (covariance.abs() - 0.05)

    assert_equals(ZAFAR, batch, closed)
