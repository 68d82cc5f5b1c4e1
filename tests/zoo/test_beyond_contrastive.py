"""Objectives on embeddings and samples beyond the catalogue, written from docs/language.md and docs/library.md alone."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, uniform
from tests.zoo.beyond import assert_everywhere
from tests.zoo.harness import Tensors
from tests.zoo.oracles.contrastive_metric import cosines
from torch import Tensor, nn

NT_XENT = """
\"\"\"SimCLR: each of the 2N views finds the other view of its row among all others. Chen et al. 2020.\"\"\"
objective nt_xent
use std.contrastive (cosine)
axis b : batch
axis view = {first, second}
axis d
input z : embedding[b, view, d]
param tau : positive = 0.5

let s     = cosine(z, z[b -> j][view -> other]) / tau
let apart = index[b] != index[j] or index[view] != index[other]
let mate  = index[b] == index[j] and index[view] != index[other]

minimize
  nt_xent : mean[b, view](logsumexp[j, other where apart](s) - sum[j, other where mate](s))
"""


def nt_xent(t: Tensors, tau: float = 0.5) -> Tensor:
    views = torch.cat([t["z"][:, 0], t["z"][:, 1]])
    n = len(t["z"])
    s = (cosines(views, views) / tau).masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    return torch.nn.functional.cross_entropy(s, torch.arange(2 * n).roll(n))


def test_nt_xent() -> None:
    assert_everywhere(NT_XENT, {"z": uniform(4, 2, 3, seed=1)}, nt_xent)


VICREG = """
\"\"\"VICReg: invariance, a hinge on each unit's standard deviation, decorrelated units. Bardes et al. 2021.\"\"\"
objective vicreg
axis b : batch
axis d
input x : embedding[b, d]
input y : embedding[b, d]
param lam : nonneg = 25
param mu  : nonneg = 25
param nu  : nonneg = 1

term spread(z : real[b, d]) = mean[d](relu(1 - sqrt(var[b](z, ddof = 1) + 0.0001)))
term correlation(z : real[b, d]) =
  sum[d, e where index[d] != index[e]](cov[b, d -> e](z, ddof = 1)^2) / size[d]

minimize
  invariance : lam * mean[b, d]((x - y)^2)
  variance   : mu * (spread(x) + spread(y)) / 2
  covariance : nu * (correlation(x) + correlation(y))
"""


def vicreg(t: Tensors) -> Tensor:
    def parts(z: Tensor) -> tuple[Tensor, Tensor]:
        c = torch.cov(z.T)
        off = (c**2).sum() - (c.diagonal() ** 2).sum()
        return torch.relu(1 - (z.var(0) + 1e-4).sqrt()).mean(), off / z.shape[1]

    (vx, cx), (vy, cy) = parts(t["x"]), parts(t["y"])
    return 25 * ((t["x"] - t["y"]) ** 2).mean() + 25 * (vx + vy) / 2 + cx + cy


def test_vicreg() -> None:
    assert_everywhere(VICREG, {"x": uniform(6, 4, seed=2), "y": uniform(6, 4, seed=3)}, vicreg)


CIRCLE = """
\"\"\"Circle loss: pairs weigh by how far they are from their optimum, weights without gradient. Sun et al. 2020.\"\"\"
objective circle
use std.contrastive (cosine)
axis b : batch
axis d
axis k
input x : embedding[b, d]
data  y : label[b] in k
param gamma  : positive = 16
param margin : nonneg   = 0.25

let s   = cosine(x, x[b -> j])
let a_p = sg(relu(1 + margin - s))
let a_n = sg(relu(s + margin))
let p   = logsumexp[j where y == y[b -> j] and index[b] != index[j]](-gamma * a_p * (s - 1 + margin))
let n   = logsumexp[j where y != y[b -> j]](gamma * a_n * (s - margin))

minimize
  circle : mean[b where any[j](y == y[b -> j] and index[b] != index[j]) and any[j](y != y[b -> j])](softplus(p + n))
"""


def circle(t: Tensors, gamma: float = 16.0, m: float = 0.25) -> Tensor:
    keep = [i for i, y in enumerate(t["y"].tolist()) if y >= 0]
    x, y = t["x"][keep], t["y"][keep]
    s = cosines(x, x)
    rows = []
    for i in range(len(y)):
        p = [s[i, j] for j in range(len(y)) if j != i and y[j] == y[i]]
        n = [s[i, j] for j in range(len(y)) if y[j] != y[i]]
        if p and n:
            up = sum(torch.exp(-gamma * torch.relu(1 + m - v.detach()) * (v - 1 + m)) for v in p)
            down = sum(torch.exp(gamma * torch.relu(v.detach() + m) * (v - m)) for v in n)
            rows.append(torch.log1p(up * down))
    return torch.stack(rows).mean()


def test_circle_loss() -> None:
    y = integers(8, high=3, seed=5)
    x = uniform(8, 3, seed=4)
    assert_everywhere(CIRCLE, {"x": x, "y": y}, circle)
    y[2] = -1
    x[2] = torch.nan
    assert_everywhere(CIRCLE, {"x": x, "y": y}, circle)


PROXY_ANCHOR = """
\"\"\"Proxy-Anchor: one learned proxy for each class, pulled and pushed by all rows at once. Kim et al. 2020.\"\"\"
objective proxy_anchor
use std.contrastive (cosine)
axis b : batch
axis d
axis k
input x     : embedding[b, d]
input proxy : embedding[k, d]
data  y     : label[b] in k
param alpha : positive = 32
param delta : nonneg   = 0.1

let s    = cosine(x, proxy)
let mine = index[k] == y
let pull = log(1 + sum[b where mine](exp(-alpha * (s - delta))))
let push = log(1 + sum[b where not mine](exp(alpha * (s + delta))))

minimize
  pull : mean[k where any[b](mine)](pull)
  push : mean[k](push)
"""


def proxy_anchor(t: Tensors, alpha: float = 32.0, delta: float = 0.1) -> Tensor:
    s = cosines(t["x"], t["proxy"])
    pull, push = [], []
    for k in range(s.shape[1]):
        mine = t["y"] == k
        if bool(mine.any()):
            pull.append(torch.log1p(torch.exp(-alpha * (s[mine, k] - delta)).sum()))
        push.append(torch.log1p(torch.exp(alpha * (s[~mine, k] + delta)).sum()))
    return torch.stack(pull).mean() + torch.stack(push).mean()


def test_proxy_anchor() -> None:
    batch = {"x": uniform(6, 3, seed=6), "proxy": uniform(4, 3, seed=7), "y": integers(6, high=3, seed=8)}
    assert_everywhere(PROXY_ANCHOR, batch, proxy_anchor)


ALIGN_UNIFORM = """
\"\"\"Alignment and uniformity on the sphere. Wang & Isola 2020.\"\"\"
objective align_uniform
use std.settings.embeddings
param t : positive = 2

let u = x / norm[d](x)
let w = y / norm[d](y)
term spread(z : embedding[b, d], t : positive) =
  log(mean[b, j where index[b] < index[j]](exp(-t * sum[d]((z - z[b -> j])^2))))

minimize
  align   : mean[b](norm[d](u - w)^2)
  uniform : (spread(u, t) + spread(w, t)) / 2
"""


def align_uniform(t: Tensors) -> Tensor:
    u, w = (z / z.norm(dim=-1, keepdim=True) for z in (t["x"], t["y"]))
    spread = [torch.pdist(z).pow(2).mul(-2).exp().mean().log() for z in (u, w)]
    return ((u - w) ** 2).sum(-1).mean() + (spread[0] + spread[1]) / 2


def test_alignment_and_uniformity() -> None:
    assert_everywhere(ALIGN_UNIFORM, {"x": uniform(5, 3, seed=9), "y": uniform(5, 3, seed=10)}, align_uniform)


DONSKER_VARADHAN = """
\"\"\"The Donsker-Varadhan bound on mutual information of a critic's scores of all pairs. Belghazi et al. 2018.\"\"\"
objective mine
axis b : batch
input T : real[b, j]

let joint    = mean[b](T[j = index[b]])
let marginal = logsumexp[b, j where index[b] != index[j]](T) - log(max(size[b]^2 - size[b], 1))

maximize
  information : joint - marginal
"""


def donsker_varadhan(t: Tensors) -> Tensor:
    apart = ~torch.eye(len(t["T"]), dtype=torch.bool)
    return torch.exp(t["T"][apart]).mean().log() - t["T"].diagonal().mean()


def test_the_donsker_varadhan_bound() -> None:
    assert_everywhere(DONSKER_VARADHAN, {"T": 2 * uniform(5, 5, seed=11)}, donsker_varadhan)


MMD = """
\"\"\"Maximum mean discrepancy with a sum of Gaussian kernels, the unbiased estimate. Gretton et al. 2012.\"\"\"
objective mmd
axis b : batch
axis c : batch
axis d
axis width = {narrow, middle, wide}
input x : embedding[b, d]
data  y : embedding[c, d]

let scale = width{narrow: 0.5, middle: 1, wide: 2}
term kernel(r : nonneg, scale : positive[width]) = sum[width](exp(-r / (2 * scale^2)))
let xx = kernel(sum[d]((x - x[b -> i])^2), scale)
let yy = kernel(sum[d]((y - y[c -> j])^2), scale)
let xy = kernel(sum[d]((x - y)^2), scale)

minimize
  mmd : mean[b, i where index[b] != index[i]](xx) + mean[c, j where index[c] != index[j]](yy) - 2 * mean[b, c](xy)
"""


def mmd(t: Tensors) -> Tensor:
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        r = ((x[:, None] - y[None]) ** 2).sum(-1)
        return sum(torch.exp(-r / (2 * w**2)) for w in (0.5, 1.0, 2.0))

    def apart(k: Tensor) -> Tensor:
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    x, y = t["x"], t["y"]
    return apart(kernel(x, x)) + apart(kernel(y, y)) - 2 * kernel(x, y).mean()


def test_maximum_mean_discrepancy() -> None:
    assert_everywhere(MMD, {"x": uniform(5, 3, seed=12), "y": uniform(4, 3, seed=13)}, mmd)


SINKHORN_DIVERGENCE = """
\"\"\"The debiased Sinkhorn divergence of two samples. Feydy et al. 2019; Genevay et al. 2018.\"\"\"
objective sinkhorn_divergence
axis b : batch
axis c : batch
axis d
input x : embedding[b, d]
data  y : embedding[c, d]
param eps : positive = 0.2

let xy = sum[d]((x - y)^2) / 2
let xx = sum[d]((x - x[b -> i])^2) / 2
let yy = sum[d]((y - y[c -> j])^2) / 2

minimize
  divergence : sum[b, c](xy * sinkhorn[b, c](xy, eps = eps, steps = 30))
               - sum[b, i](xx * sinkhorn[b, i](xx, eps = eps, steps = 30)) / 2
               - sum[c, j](yy * sinkhorn[c, j](yy, eps = eps, steps = 30)) / 2
"""


def sinkhorn_divergence(t: Tensors, eps: float = 0.2) -> Tensor:
    def cost(x: Tensor, y: Tensor) -> Tensor:
        c = ((x[:, None] - y[None]) ** 2).sum(-1) / 2
        k = torch.exp(-c / eps)
        v = torch.ones(len(y), dtype=c.dtype)
        for _ in range(30):
            u = 1 / len(x) / (k @ v)
            v = 1 / len(y) / (k.T @ u)
        return (c * u[:, None] * k * v[None]).sum()

    x, y = t["x"], t["y"]
    return cost(x, y) - cost(x, x) / 2 - cost(y, y) / 2


def test_sinkhorn_divergence() -> None:
    assert_everywhere(
        SINKHORN_DIVERGENCE, {"x": uniform(5, 2, seed=14), "y": uniform(4, 2, seed=15)}, sinkhorn_divergence
    )


SLICED = """
\"\"\"The sliced Wasserstein distance: along random lines, sorted against sorted. Bonneel et al. 2015.\"\"\"
objective sliced_wasserstein
axis b : batch
axis d
axis line = {first, second, third}
input x : real[b, d]
data  y : real[b, d]

let direction = normal(line, d)
let theta     = direction / norm[d](direction)
let p         = sort[b -> r](dot[d](x, theta))
let q         = sort[b -> r](dot[d](y, theta))

minimize
  sliced : mean[line](mean[r]((p - q)^2))
"""


def sliced(t: Tensors) -> Tensor:
    theta = t["direction"] / t["direction"].norm(dim=0, keepdim=True)
    p, q = ((t[name] @ theta).sort(0).values for name in ("x", "y"))
    return ((p - q) ** 2).mean()


def test_sliced_wasserstein() -> None:
    batch = {"x": uniform(6, 2, seed=16), "y": uniform(6, 2, seed=17), "direction": uniform(2, 3, seed=18)}
    assert_everywhere(SLICED, batch, sliced)


WGAN = """
\"\"\"The critic of a Wasserstein GAN, its slopes held to 1 between the samples. Gulrajani et al. 2017.\"\"\"
objective wgan_gp
axis b : batch
axis d
data  real_x : real[b, d]
data  made_x : real[b, d]
input critic : model(real[b, d]) -> real[b]
param lam : nonneg = 10

let mix   = uniform(b)
let point = mix * real_x + (1 - mix) * made_x

minimize
  distance : mean[b](critic(made_x)) - mean[b](critic(real_x))
  penalty  : lam * mean[b]((norm[d](grad[point](critic(point))) - 1)^2)
"""


class Bump(nn.Module):
    """A critic that is not linear: tanh(x A) c."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Parameter(2 * uniform(3, 4, seed=19)), nn.Parameter(uniform(4, seed=20))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.a) @ self.c


def wgan(t: Tensors, lam: float = 10.0) -> Tensor:
    point = (t["mix"][:, None] * t["real_x"] + (1 - t["mix"][:, None]) * t["made_x"]).requires_grad_()
    (slope,) = torch.autograd.grad(t["critic"](point).sum(), point, create_graph=True)
    distance = t["critic"](t["made_x"]).mean() - t["critic"](t["real_x"]).mean()
    return distance + lam * ((slope.pow(2).sum(1).sqrt() - 1) ** 2).mean()


def test_a_wasserstein_critic() -> None:
    batch = {"real_x": uniform(5, 3, seed=21), "made_x": uniform(5, 3, seed=22), "critic": Bump()}
    assert_everywhere(WGAN, batch | {"mix": (uniform(5, seed=23) + 1) / 2}, wgan)
