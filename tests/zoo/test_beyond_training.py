"""Classification, distillation, policy and value objectives beyond the catalogue, written from docs/language.md alone."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import classes, distill, integers, rollouts, scores, uniform
from tests.oracles.rows import kept, mean
from tests.specs.variants import hidden, ignored
from tests.zoo.beyond import assert_equals
from tests.zoo.harness import Tensors
from tests.zoo.oracles.attacks import network
from tests.zoo.oracles.distillation import kl
from tests.zoo.oracles.rlhf_policy import samples, token_logp
from torch import Tensor

import lossc

cross_entropy = torch.nn.functional.cross_entropy

LOGIT_ADJUSTMENT = """
\"\"\"Cross-entropy of scores moved by tau log prior, so that rare classes need larger ones. Menon et al. 2021.\"\"\"
objective logit_adjustment
axis b : batch
axis v
input logits : logits[b, v]
data  labels : label[b] in v
data  n      : positive[v]  # examples of each class
param tau : positive = 1

let prior    = n / sum[v](n)
let adjusted = logits + tau * log(prior)

minimize
  loss : mean[b](-log(softmax[v](adjusted)[v = labels]))
"""


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_logit_adjustment(backend: str) -> None:
    batch = ignored(classes(3) | {"n": 50 * (1.1 + uniform(7, seed=5))})

    def closed(t: Tensors) -> Tensor:
        rows = t["labels"] >= 0
        return cross_entropy((t["logits"] + (t["n"] / t["n"].sum()).log())[rows], t["labels"][rows])

    assert_equals(LOGIT_ADJUSTMENT, batch, closed, backend=backend)


LDAM = """
\"\"\"The label's score is lowered by a margin C / n_y^(1/4) before a scaled cross-entropy. Cao et al. 2019.\"\"\"
objective ldam
use std.settings.classes
use std.ce (ce)
data n : positive[v]  # examples of each class
param C : positive = 0.5
param s : positive = 30

let margin = C / n^0.25

minimize
  ldam : mean[b](ce(s * (logits - (margin if index[v] == labels else 0)), labels))
"""


def test_ldam() -> None:
    batch = ignored(classes(3) | {"n": 1 + 50 * (1 + uniform(7, seed=5))})

    def closed(t: Tensors) -> Tensor:
        rows = (t["labels"] >= 0).nonzero().flatten().tolist()
        moved = t["logits"].clone()
        for i in rows:
            moved[i, t["labels"][i]] = moved[i, t["labels"][i]] - 0.5 / t["n"][t["labels"][i]] ** 0.25
        return cross_entropy(30 * moved[rows], t["labels"][rows])

    assert_equals(LDAM, batch, closed)


ASYMMETRIC = """
\"\"\"Several labels: negatives are shifted and focused harder than positives. Ridnik et al. 2021.\"\"\"
objective asymmetric
axis b : batch
axis k
input z : real[b, k]
data  y : mask[b, k]
param gamma_pos : nonneg = 1
param gamma_neg : nonneg = 4
param m         : unit   = 0.05

let p   = sigmoid(z)
let p_m = max(p - m, 0)

minimize
  asl : sum[b, k](-(1 - p)^gamma_pos * log(p) if y else -p_m^gamma_neg * log(1 - p_m)) / size[b]
"""


def test_asymmetric_loss() -> None:
    batch = {"z": scores(4, 5, seed=1), "y": uniform(4, 5, seed=2) > 0}

    def closed(t: Tensors) -> Tensor:
        p = 1 / (1 + (-t["z"]).exp())
        p_m = (p - 0.05).clamp(min=0)
        positive, negative = (1 - p) * p.log(), p_m**4 * (1 - p_m).log()
        return -torch.where(t["y"], positive, negative).sum() / 4

    assert_equals(ASYMMETRIC, batch, closed)


DECOUPLED = """
\"\"\"Decoupled distillation: label against the rest, and the rest among themselves. Zhao et al. 2022.\"\"\"
objective dkd
use std.settings.distill
param alpha : nonneg   = 1
param beta  : nonneg   = 8
param T     : positive = 4

let p_T = softmax[v](teacher / T)[v = labels]
let p_S = softmax[v](logits / T)[v = labels]
let tckd = p_T * log(p_T / p_S) + (1 - p_T) * log((1 - p_T) / (1 - p_S))
let rest = index[v] != labels
let q_T = softmax[v where rest](teacher / T)
let nckd = sum[v where rest](q_T * (log_softmax[v where rest](teacher / T) - log_softmax[v where rest](logits / T)))

minimize
  dkd : T^2 * mean[b, t where mask](alpha * tckd + beta * nckd)
"""


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_decoupled_distillation(backend: str) -> None:
    batch = hidden(ignored(distill(3)))

    def closed(t: Tensors) -> Tensor:
        keep = kept(t["labels"], t["mask"])
        losses = []
        for z, u, y in zip(t["logits"][keep] / 4, t["teacher"][keep] / 4, t["labels"][keep].tolist(), strict=True):
            p, q = u.softmax(-1)[y], z.softmax(-1)[y]
            others = [k for k in range(len(z)) if k != y]
            binary = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
            losses.append(binary + 8 * kl(u[others], z[others]))
        return 16 * mean(torch.stack(losses))

    assert_equals(DECOUPLED, batch, closed, backend=backend)


RELATIONAL = """
\"\"\"Relational distillation: distances of all pairs over their mean, compared by Huber's loss. Park et al. 2019.\"\"\"
objective rkd
use std.regression (huber)
axis b : batch
axis d
axis e
input s : embedding[b, d]
data  t : embedding[b, e]

let d_s = norm[d](s - s[b -> j])
let d_t = norm[e](t - t[b -> j])
let mu_s = mean[b, j where index[j] != index[b]](d_s)
let mu_t = mean[b, j where index[j] != index[b]](d_t)

minimize
  rkd : mean[b, j](huber(d_t / mu_t - d_s / mu_s))
"""


def test_relational_distillation() -> None:
    batch = {"s": uniform(5, 3, seed=1), "t": uniform(5, 4, seed=2)}

    def distances(x: Tensor) -> Tensor:
        n = len(x)
        found = [(x[i] - x[j]).square().sum().sqrt() for i in range(n) for j in range(n) if i != j]
        return torch.stack(found) / torch.stack(found).mean()

    def closed(t: Tensors) -> Tensor:
        return torch.nn.functional.huber_loss(distances(t["s"]), distances(t["t"]), reduction="sum") / 25

    assert_equals(RELATIONAL, batch, closed)


GSPO = """
\"\"\"Group sequence policy optimisation: one length-normalised ratio for a whole answer, clipped. Zheng et al. 2025.\"\"\"
objective gspo
use std.settings.rollouts
param eps_low  : unit   = 0.0003
param eps_high : nonneg = 0.0004

let s = exp(mean[t where mask](logp - old_logp))

maximize
  gspo : mean[q, sample](min(s * advantage, clip(s, 1 - eps_low, 1 + eps_high) * advantage))
"""


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_sequence_ratios(backend: str) -> None:
    batch = hidden(ignored(rollouts(3)))

    def closed(t: Tensors) -> Tensor:
        reward = t["reward"]
        advantage = (reward - reward.mean(-1, keepdim=True)) / (reward.std(-1, keepdim=True) + 1e-4)
        gains = []
        for q, found in enumerate(samples(t)):
            for j, row in found:
                one = {name: t[name][q, j] for name in ("logits", "labels", "old_logp")}
                ratio = (token_logp(one, row) - one["old_logp"][row]).mean().exp()
                gains.append(torch.minimum(ratio * advantage[q, j], ratio.clamp(0.9997, 1.0004) * advantage[q, j]))
        return -torch.stack(gains).mean()

    assert_equals(GSPO, batch, closed, backend=backend)


RLOO = """
\"\"\"REINFORCE with a leave-one-out baseline; the divergence is part of the reward. Ahmadian et al. 2024.\"\"\"
objective rloo
use std.settings.rollouts
param beta : nonneg = 0.05

let log_pi   = sum[t where mask](logp)
let R        = sg(reward - beta * sum[t where mask](logp - ref_logp))
let baseline = (sum[sample](R) - R) / (size[sample] - 1)

maximize
  rloo : mean[q, sample]((R - baseline) * log_pi)
"""


def test_leave_one_out_baseline() -> None:
    batch = rollouts(3, q=2, sample=4)
    batch["mask"][:] = True

    def closed(t: Tensors) -> Tensor:
        logp = t["logits"].log_softmax(-1).gather(-1, t["labels"].unsqueeze(-1)).squeeze(-1)
        reward = (t["reward"] - 0.05 * (logp - t["ref_logp"]).sum(-1)).detach()
        gains = []
        for q in range(2):
            for i in range(4):
                others = [float(reward[q, j]) for j in range(4) if j != i]
                gains.append((reward[q, i] - sum(others) / 3) * logp[q, i].sum())
        return -torch.stack(gains).mean()

    assert_equals(RLOO, batch, closed)


QUANTILES = """
\"\"\"Distributional value learning by quantile regression with Huber's loss. Dabney et al. 2018.\"\"\"
objective qr_dqn
use std.regression (huber)
axis b : batch
axis i
input theta  : real[b, i]
data  next_theta : real[b, i]  # of the target network, best action
data  r      : real[b]
param gamma : unit     = 0.99
param kappa : positive = 1

let tau  = (index[i] + 0.5) / size[i]
let goal = r + gamma * next_theta
let u    = goal[i -> j] - theta

minimize
  qr : mean[b](sum[i](mean[j](abs(tau - (u < 0)) * huber(u, delta = kappa) / kappa)))
"""


def test_quantile_values() -> None:
    batch = {"theta": scores(3, 5, seed=1), "next_theta": scores(3, 5, seed=2), "r": uniform(3, seed=3)}

    def closed(t: Tensors) -> Tensor:
        losses = []
        for row in range(3):
            for i in range(5):
                for j in range(5):
                    u = t["r"][row] + 0.99 * t["next_theta"][row, j] - t["theta"][row, i]
                    rho = 0.5 * u**2 if bool(u.abs() <= 1) else u.abs() - 0.5
                    losses.append(abs((i + 0.5) / 5 - float(u < 0)) * rho)
        return torch.stack(losses).sum() / 15

    assert_equals(QUANTILES, batch, closed)


GROUP_RISK = """
\"\"\"Tilted risk of groups: a soft maximum of the mean losses of groups. Li et al. 2021.\"\"\"
objective tilted_groups
use std.settings.classes
axis group
data g : label[b] in group
param t : positive = 2

let risk = mean[b by g](nll)

minimize
  tilted : log(mean[group](exp(t * risk))) / t
"""


def test_tilted_risk_of_groups() -> None:
    batch = ignored(classes(3, b=9) | {"g": integers(9, high=3, seed=4)})

    def closed(t: Tensors) -> Tensor:
        rows = t["labels"] >= 0
        losses, groups = cross_entropy(t["logits"][rows], t["labels"][rows], reduction="none"), t["g"][rows]
        risks = torch.stack([losses[groups == k].mean() for k in range(4) if bool((groups == k).any())])
        return (2 * risks).exp().mean().log() / 2

    assert_equals(GROUP_RISK, batch, closed, sizes={"group": 4})


LWF = """
\"\"\"Learning without forgetting: the old model's answers are a soft target at temperature T. Li & Hoiem 2016.\"\"\"
objective lwf
axis b : batch
axis fresh
axis old
input logits     : logits[b, fresh]
input old_head   : logits[b, old]
data  recorded   : logits[b, old]
data  labels     : label[b] in fresh
param keep : nonneg   = 1
param T    : positive = 2

let y_old = softmax[old](recorded)^(1/T) / sum[old](softmax[old](recorded)^(1/T))

minimize
  new : mean[b](-log(softmax[fresh](logits)[fresh = labels]))
  old : keep * mean[b](-sum[old](y_old * log(softmax[old](old_head / T))))
"""


def test_learning_without_forgetting() -> None:
    batch = {"logits": scores(3, 4, seed=1), "old_head": scores(3, 6, seed=2), "recorded": scores(3, 6, seed=3)}
    batch["labels"] = integers(3, high=4, seed=5)

    def closed(t: Tensors) -> Tensor:
        target = (t["recorded"] / 2).softmax(-1)
        return cross_entropy(t["logits"], t["labels"]) + cross_entropy(t["old_head"] / 2, target)

    assert_equals(LWF, batch, closed)


GROUP_DRO = """
\"\"\"Group DRO: weights of groups by exponentiated gradient ascent, kept between steps. Sagawa et al. 2020.\"\"\"
objective group_dro
use std.settings.classes
axis group
data g : label[b] in group
param eta : positive = 0.5

let risk = mean[b by g](nll)
let up   = sg(q * exp(eta * fill(risk, 0)))
let now  = up / sum[group](up)
state q : positive[group] = 1 then now

minimize
  robust : sum[group](now * risk)
"""


def test_group_weights_ascend() -> None:
    batches = [classes(seed, b=9) | {"g": torch.arange(9) % 3} for seed in (3, 5)]
    objective = lossc.loads(GROUP_DRO, backend="reference", sizes={"group": 3}).double()
    q = torch.ones(3, dtype=torch.float64)
    for batch in batches:
        losses = cross_entropy(batch["logits"], batch["labels"], reduction="none")
        risks = torch.stack([losses[batch["g"] == k].mean() for k in range(3)])
        q = q * (0.5 * risks).exp()
        q = q / q.sum()
        torch.testing.assert_close(objective(**batch).loss, (q * risks).sum())
        objective.advance()
        torch.testing.assert_close(objective.state["q"], q)


TRADES = """
\"\"\"Cross-entropy, and the divergence of the answers in a ball around each input. Zhang et al. 2019.\"\"\"
objective trades
use std.ce (ce)
use std.divergence (kl)
axis b : batch
axis d
axis v
input net : model(real[b, d]) -> logits[b, v]
data  x   : real[b, d]
data  y   : label[b] in v
param beta : nonneg   = 6
param eps  : positive = 0.1

let z    = net(x)
let from = 0.001 * normal(b, d)
let far  = worst[e : real[b, d] in ball(inf, eps), steps = 5, step_size = 0.03, start = from](kl(z, net(x + e)))

minimize
  natural : mean[b](ce(z, y))
  robust  : beta * mean[b](far)
"""


def test_trades() -> None:
    batch = {"x": uniform(4, 3, seed=1), "y": integers(4, high=5, seed=2), "net": network(3, 5)}
    batch["from"] = uniform(4, 3, seed=3) / 1000

    def closed(t: Tensors) -> Tensor:
        z = t["net"](t["x"])

        def apart(e: Tensor) -> Tensor:
            return kl(z, t["net"](t["x"] + e))

        e = t["from"]
        for _ in range(5):
            e = e.detach().requires_grad_()
            (slope,) = torch.autograd.grad(apart(e).sum(), e, retain_graph=True)
            e = (e + 0.03 * slope.sign()).clamp(-0.1, 0.1).detach()
        return cross_entropy(z, t["y"]) + 6 * apart(e).mean()

    assert_equals(TRADES, batch, closed)


CVAR = """
\"\"\"The mean of the worst share alpha of the losses, with its threshold. Rockafellar & Uryasev 2000.\"\"\"
objective cvar
use std.settings.classes
param alpha : positive = 0.4
learn eta   : real     = 1

minimize
  cvar : eta + mean[b](relu(nll - eta)) / alpha
"""


@pytest.mark.parametrize("backend", ["reference", "torch", "c"])
def test_conditional_value_at_risk(backend: str) -> None:
    batch = ignored(classes(3))

    def closed(t: Tensors) -> Tensor:
        rows = t["labels"] >= 0
        losses = cross_entropy(t["logits"][rows], t["labels"][rows], reduction="none")
        return t["eta"] + (losses - t["eta"]).clamp(min=0).mean() / 0.4

    assert_equals(CVAR, batch, closed, backend=backend)


CHI_SQUARED = """
\"\"\"Robustness to a chi-squared ball of distributions, by its dual. Duchi & Namkoong 2021.\"\"\"
objective chi_squared
use std.settings.classes
param rho : positive = 0.5

let c   = sqrt(1 + 2 * rho)
let top = max[b](nll) - 0.000001
let eta = root[u in -100..top](mean[b](relu(nll - u))^2 * c^2 - mean[b](relu(nll - u)^2))

minimize
  dro : c * sqrt(mean[b](relu(nll - sg(eta))^2)) + sg(eta)
"""


def test_robustness_to_a_chi_squared_ball() -> None:
    batch = classes(3, b=6)

    def closed(t: Tensors) -> Tensor:
        losses = cross_entropy(t["logits"], t["labels"], reduction="none")
        c = 2**0.5

        def slope(eta: Tensor) -> float:
            over = (losses.detach() - eta).clamp(min=0)
            return float(1 - c * over.mean() / over.square().mean().sqrt())

        low, high = losses.detach().min() - 50, losses.detach().max() - 1e-6
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) < 0 else (low, middle)
        return c * (losses - low).clamp(min=0).square().mean().sqrt() + low

    assert_equals(CHI_SQUARED, batch, closed)


STARTING_POINT = """
\"\"\"Fine-tuning tied to where the shared layers started, with group lasso on the head. Li et al. 2018.\"\"\"
objective l2_sp
use std.settings.classes
input shared : weights[layer] in "body.*"
data  before : weights[layer] in "body.*"
input head   : weights[part] in "head.*"
param alpha : nonneg = 0.1
param beta  : nonneg = 0.01

minimize
  task : mean[b](nll)
  tie  : alpha / 2 * total((shared - before)^2)
  few  : beta * sum[part](norm[entry](head))
"""


def test_the_starting_point_as_a_reference() -> None:
    body, head = network(3, 4), network(4, 7)
    batch: Tensors = dict(classes(3))
    batch |= {"shared": torch.nn.ModuleDict({"body": body}), "head": torch.nn.ModuleDict({"head": head})}
    batch["before"] = {f"body.{n}": w.detach() + uniform(*w.shape, seed=9) for n, w in body.named_parameters()}

    def closed(t: Tensors) -> Tensor:
        moved = sum((w - t["before"][f"body.{n}"]).square().sum() for n, w in body.named_parameters())
        groups = sum(w.square().sum().sqrt() for w in head.parameters())
        return cross_entropy(t["logits"], t["labels"]) + 0.05 * moved + 0.01 * groups

    assert_equals(STARTING_POINT, batch, closed)


CONSERVATIVE = """
\"\"\"Conservative Q-learning of discrete actions: values of actions not taken are pushed down. Kumar et al. 2020.\"\"\"
objective cql
axis b : batch
axis action
input q      : real[b, action]
data  next_q : real[b, action]  # of the target network
data  taken  : label[b] in action
data  r      : real[b]
data  done   : mask[b]
param gamma : unit   = 0.99
param alpha : nonneg = 1

let y = r if done else r + gamma * max[action](next_q)

minimize
  bellman : 0.5 * mean[b]((q[action = taken] - y)^2)
  gap     : alpha * mean[b](logsumexp[action](q) - q[action = taken])
"""


@pytest.mark.parametrize("backend", ["reference", "c"])
def test_conservative_values(backend: str) -> None:
    batch = {"q": scores(4, 5, seed=1), "next_q": scores(4, 5, seed=2), "r": uniform(4, seed=3)}
    batch |= {"taken": integers(4, high=5, seed=4), "done": torch.tensor([True, False, False, True])}
    batch["next_q"][0] = torch.nan

    def closed(t: Tensors) -> Tensor:
        losses = []
        for i in range(4):
            y = t["r"][i] + (0 if bool(t["done"][i]) else 0.99 * t["next_q"][i].max())
            taken = t["q"][i, t["taken"][i]]
            losses.append(0.5 * (taken - y) ** 2 + t["q"][i].logsumexp(-1) - taken)
        return torch.stack(losses).mean()

    assert_equals(CONSERVATIVE, batch, closed, backend=backend)
