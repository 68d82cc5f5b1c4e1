"""Objectives of regression, fairness and physics beyond the catalogue, written from the pages of the language alone."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.beyond import assert_everywhere
from tests.zoo.harness import Tensors
from torch import Tensor, nn

CRPS = """
\"\"\"The continuous ranked probability score of a predicted normal distribution. Gneiting & Raftery 2007.\"\"\"
objective crps
axis b : batch
input mu    : real[b]
input sigma : positive[b]
data  y     : real[b]

let z   = (y - mu) / sigma
let pdf = exp(-z^2 / 2) / sqrt(2 * pi)

minimize
  crps : mean[b](sigma * (z * (2 * normcdf(z) - 1) + 2 * pdf - 1 / sqrt(pi)))
"""


def crps(t: Tensors) -> Tensor:
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    z = (t["y"] - t["mu"]) / t["sigma"]
    inner = z * (2 * normal.cdf(z) - 1) + 2 * normal.log_prob(z).exp() - 1 / math.sqrt(math.pi)
    return (t["sigma"] * inner).mean()


def test_crps_of_a_normal_distribution() -> None:
    batch = {"mu": uniform(6, seed=1), "sigma": 1.5 + uniform(6, seed=2), "y": 2 * uniform(6, seed=3)}
    assert_everywhere(CRPS, batch, crps)


EVIDENTIAL = """
\"\"\"Deep evidential regression: with a penalty on evidence for errors. Amini et al. 2020.\"\"\"
objective evidential
axis b : batch
input gamma : real[b]
input nu    : positive[b]
input alpha : real[b]
input beta  : positive[b]
data  y     : real[b]
param lam : nonneg = 0.01

let shape = 1 + exp(alpha)
let omega = 2 * beta * (1 + nu)
let error = y - gamma
let nll   = log(pi / nu) / 2 - shape * log(omega) + (shape + 1/2) * log(error^2 * nu + omega)
            + lgamma(shape) - lgamma(shape + 1/2)

minimize
  nll      : mean[b](nll)
  evidence : lam * mean[b](abs(error) * (2 * nu + shape))
"""


def evidential(t: Tensors, lam: float = 0.01) -> Tensor:
    nu, shape, error = t["nu"], 1 + t["alpha"].exp(), t["y"] - t["gamma"]
    scale = t["beta"] * (1 + nu) / (nu * shape)
    student = torch.distributions.StudentT(2 * shape, t["gamma"], scale.sqrt())
    return (-student.log_prob(t["y"]) + lam * error.abs() * (2 * nu + shape)).mean()


def test_evidential_regression() -> None:
    batch = {
        "gamma": uniform(5, seed=4),
        "nu": 1.5 + uniform(5, seed=5),
        "alpha": uniform(5, seed=6),
        "beta": 1.5 + uniform(5, seed=7),
        "y": uniform(5, seed=8),
    }
    assert_everywhere(EVIDENTIAL, batch, evidential)


COX = """
\"\"\"The partial likelihood of proportional hazards, Breslow's form for ties. Cox 1972.\"\"\"
objective cox
axis b : batch
input risk  : real[b]
data  time  : nonneg[b]
data  event : mask[b]

minimize
  cox : mean[b where event](logsumexp[j where time[b -> j] >= time](risk[b -> j]) - risk)

monitor
  concordance : mean[b, j where event and time[b -> j] > time](risk > risk[b -> j])
"""


def cox(t: Tensors) -> Tensor:
    rows = []
    for i in torch.nonzero(t["event"]).flatten().tolist():
        at_risk = t["risk"][t["time"] >= t["time"][i]]
        rows.append(at_risk.exp().sum().log() - t["risk"][i])
    return torch.stack(rows).mean()


def test_cox_partial_likelihood() -> None:
    time = integers(8, high=5, seed=10).double()
    assert_everywhere(COX, {"risk": uniform(8, seed=9), "time": time, "event": uniform(8, seed=11) > -0.4}, cox)


QUANTILE_HUBER = """
\"\"\"QR-DQN: every predicted quantile against every sample of the target. Dabney et al. 2018.\"\"\"
objective quantile_huber
use std.regression (huber)
axis b : batch
axis i
input theta  : real[b, i]
data  target : real[b, j]
param kappa : positive = 1

let tau = (index[i] + 1/2) / size[i]
let u   = target - theta

minimize
  loss : mean[b](sum[i](mean[j](abs(tau - (u < 0)) * huber(u, delta = kappa) / kappa)))
"""


def quantile_huber(t: Tensors) -> Tensor:
    theta, target = t["theta"], t["target"]
    n = theta.shape[1]
    loss = torch.zeros(len(theta), dtype=theta.dtype)
    for i in range(n):
        u = target - theta[:, i : i + 1]
        h = torch.nn.functional.huber_loss(theta[:, i : i + 1].expand_as(u), target, reduction="none")
        loss = loss + (((2 * i + 1) / (2 * n) - (u < 0).double()).abs() * h).mean(1)
    return loss.mean()


def test_quantile_huber() -> None:
    batch = {"theta": 2 * uniform(3, 5, seed=12), "target": 2 * uniform(3, 4, seed=13)}
    assert_everywhere(QUANTILE_HUBER, batch, quantile_huber)


EQUALISED_ODDS = """
\"\"\"Cross-entropy with equalised odds: of each outcome, every group is to have the mean prediction of all.\"\"\"
objective equalised_odds
use std.ce (bce)
axis b : batch
axis g
input z       : real[b]
data  outcome : mask[b]
data  group   : label[b] in g
param lam : nonneg = 2

let p        = sigmoid(z)
let positive = mean[b by group where outcome](p)
let negative = mean[b by group where not outcome](p)

minimize
  ce     : mean[b](bce(z, outcome))
  among_positives : lam * mean[g](abs(positive - mean[b where outcome](p)))
  among_negatives : lam * mean[g](abs(negative - mean[b where not outcome](p)))
"""


def equalised_odds(t: Tensors, lam: float = 2.0) -> Tensor:
    p = torch.sigmoid(t["z"])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(t["z"], t["outcome"].double())
    for kind in (t["outcome"], ~t["outcome"]):
        gaps = [
            (p[kind & (t["group"] == g)].mean() - p[kind].mean()).abs()
            for g in range(3)
            if bool((kind & (t["group"] == g)).any())
        ]
        loss = loss + lam * torch.stack(gaps).mean()
    return loss


def test_equalised_odds() -> None:
    group = integers(9, high=3, seed=15)
    batch = {"z": 2 * uniform(9, seed=14), "outcome": uniform(9, seed=16) > 0, "group": group}
    assert_everywhere(EQUALISED_ODDS, batch, equalised_odds, sizes={"g": 3})
    batch["group"] = torch.where(torch.arange(9) == 4, -1, group)
    assert_everywhere(EQUALISED_ODDS, batch, equalised_odds, sizes={"g": 3})


HEAT = """
\"\"\"A physics-informed network for the heat equation u_t = kappa u_xx with its initial values. Raissi et al. 2019.\"\"\"
objective heat
axis b : batch
axis c : batch
input x  : real[b]
input t  : real[b]
data  x0 : real[c]
data  g  : real[c]
input u  : model(real[b], real[b]) -> real[b]
param kappa : positive = 0.3

let inside   = u(x, t)
let residual = grad[t](inside) - kappa * grad[x](grad[x](inside))

minimize
  equation : mean[b](residual^2)
  initial  : mean[c]((u(x0, 0 * x0) - g)^2)
"""


class Rod(nn.Module):
    """A temperature: sum_k c_k sin(a_k x + s_k) exp(-r_k t)."""

    def __init__(self) -> None:
        super().__init__()
        a, s, c, r = uniform(4, 3, seed=17)
        self.a, self.s, self.c, self.r = (nn.Parameter(part) for part in (a, s, c, r))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return (torch.sin(x[:, None] * self.a + self.s) * torch.exp(-self.r * t[:, None])) @ self.c


def heat(t: Tensors, kappa: float = 0.3) -> Tensor:
    """The derivatives of `Rod` by hand."""
    u, x, time = t["u"], t["x"][:, None], t["t"][:, None]
    waves = torch.sin(x * u.a + u.s) * torch.exp(-u.r * time)
    residual = waves @ (-u.r * u.c) - kappa * (waves @ (-(u.a**2) * u.c))
    start = torch.sin(t["x0"][:, None] * u.a + u.s) @ u.c
    return (residual**2).mean() + ((start - t["g"]) ** 2).mean()


def test_the_heat_equation() -> None:
    batch = {"x": uniform(5, seed=18), "t": uniform(5, seed=19), "x0": uniform(3, seed=20), "g": uniform(3, seed=21)}
    assert_everywhere(HEAT, batch | {"u": Rod()}, heat)


HAMILTON = """
\"\"\"A Hamiltonian network: q' = dH/dp and p' = -dH/dq. Greydanus et al. 2019.\"\"\"
objective hamilton
axis b : batch
axis k
input q  : real[b, k]
input p  : real[b, k]
data  dq : real[b, k]
data  dp : real[b, k]
input H  : model(real[b, k], real[b, k]) -> real[b]

let energy = H(q, p)

minimize
  position : mean[b](sum[k]((grad[p](energy) - dq)^2))
  momentum : mean[b](sum[k]((grad[q](energy) + dp)^2))
"""


class Energy(nn.Module):
    """<p, M p> / 2 + sum_k c_k cos q_k."""

    def __init__(self) -> None:
        super().__init__()
        self.m, self.c = nn.Parameter(uniform(2, 2, seed=22)), nn.Parameter(uniform(2, seed=23))

    def forward(self, q: Tensor, p: Tensor) -> Tensor:
        return ((p @ self.m) * p).sum(-1) / 2 + torch.cos(q) @ self.c


def hamilton(t: Tensors) -> Tensor:
    h = t["H"]
    position = t["p"] @ (h.m + h.m.T) / 2 - t["dq"]
    momentum = -torch.sin(t["q"]) * h.c + t["dp"]
    return (position**2).sum(1).mean() + (momentum**2).sum(1).mean()


def test_a_hamiltonian_network() -> None:
    batch = {name: uniform(4, 2, seed=24 + at) for at, name in enumerate(("q", "p", "dq", "dp"))}
    assert_everywhere(HAMILTON, batch | {"H": Energy()}, hamilton)
