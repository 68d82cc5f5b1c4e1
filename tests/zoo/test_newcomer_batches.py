"""Published objectives over batches and ensembles, written by a newcomer from the pages alone."""

from __future__ import annotations

import torch
from tests.oracles.batches import classes, integers, scores, uniform
from tests.specs.variants import ignored
from tests.zoo.harness import Tensors
from tests.zoo.newcomer import assert_equals, behind, cross_entropy, over_classes, unit
from torch import Tensor

SWAV = """
\"\"\"SwAV: each view predicts the code of the other, a plan of transport to prototypes. Caron et al. 2020.\"\"\"
objective swav
axis b : batch
axis view = {one, two}
axis d
axis k
input z : embedding[b, view, d]
input c : embedding[k, d]
param tau : positive = 0.1
param eps : positive = 0.05

let unit_z = z / norm[d](z)
let s      = dot[d](unit_z, c)
let q      = sg(size[b] * sinkhorn[k, b](-s, eps = eps, steps = 3))
let logp   = log(softmax[k](s / tau))

minimize
  swap : -mean[b](sum[k](q[view = one] * logp[view = two] + q[view = two] * logp[view = one])) / 2
"""


def test_swapped_assignments() -> None:
    batch = {"z": uniform(5, 2, 3, seed=1), "c": uniform(4, 3, seed=2)}

    def closed(t: Tensors) -> Tensor:
        parts = []
        s = unit(t["z"]) @ t["c"].T
        for here, there in ((0, 1), (1, 0)):
            q = (s[:, here].detach() / 0.05).exp()
            for _ in range(3):
                q = q / q.sum(0, keepdim=True) / 4
                q = q / q.sum(1, keepdim=True) / 5
            parts.append(-(5 * q * (s[:, there] / 0.1).log_softmax(-1)).sum(-1).mean())
        return torch.stack(parts).sum() / 2

    assert_equals(SWAV, batch, closed)


CORAL = """
\"\"\"Deep CORAL: the covariances of the features of two domains agree. Sun & Saenko 2016.\"\"\"
objective deep_coral
use std.settings.classes as source
axis n : batch
axis d
input x : embedding[source.b, d]
input u : embedding[n, d]
data  m : mask[n]
param lam : nonneg = 2

let gap = cov[source.b, d -> e](x, ddof = 1) - cov[n, d -> e where m](u, ddof = 1)

minimize
  ce    : mean[source.b](source.nll)
  coral : lam * sum[d, e](gap^2) / (4 * size[d]^2)
"""


def test_deep_coral() -> None:
    m = torch.tensor([True, False, True, True, True, False, True])
    batch = {f"source.{name}": value for name, value in ignored(classes(3)).items()}
    batch |= {"x": uniform(5, 3, seed=1), "u": behind(uniform(7, 3, seed=2), m), "m": m}

    def closed(t: Tensors) -> Tensor:
        rows = t["source.labels"] >= 0
        gap = t["x"].T.cov() - t["u"][m].T.cov()
        return cross_entropy(t["source.logits"][rows], t["source.labels"][rows]) + 2 * (gap**2).sum() / (4 * 9)

    assert_equals(CORAL, batch, closed)


ENERGY = """
\"\"\"The energy score of an ensemble, with the unbiased spread of its members. Gneiting & Raftery 2007.\"\"\"
objective energy_score
axis b : batch
axis m
axis d
input pred   : real[b, m, d]
data  target : real[b, d]
data  ran    : mask[b, m]

let pairs  = ran and ran[m -> o] and index[m] != index[o]
let miss   = mean[m where ran](norm[d](pred - target))
let spread = mean[m, o where pairs](norm[d](pred - pred[m -> o]))

minimize
  score : mean[b](miss - spread / 2)
"""


def test_the_energy_score() -> None:
    ran = torch.tensor(
        [[True, True, False, True, True], [True, True, True, False, False], [False, True, True, True, True]]
    )
    batch = {"pred": behind(uniform(3, 5, 2, seed=1), ran), "target": uniform(3, 2, seed=2), "ran": ran}

    def closed(t: Tensors) -> Tensor:
        rows = []
        for x, y, m in zip(t["pred"], t["target"], ran, strict=True):
            members = list(x[m])
            miss = torch.stack([(x_i - y).norm() for x_i in members]).mean()
            apart = [(x_i - x_j).norm() for i, x_i in enumerate(members) for j, x_j in enumerate(members) if i != j]
            rows.append(miss - torch.stack(apart).mean() / 2)
        return torch.stack(rows).mean()

    assert_equals(ENERGY, batch, closed)


BALANCED_MSE = """
\"\"\"Balanced MSE by the targets of the batch, with a learned noise. Ren et al. 2022.\"\"\"
objective balanced_mse
axis b : batch
input pred   : real[b]
data  target : real[b]
data  mask   : mask[b]
learn sigma  : positive = 1

let s = -(pred - target[b -> j])^2 / (2 * sigma^2)

minimize
  bmc : 2 * sg(sigma)^2 * mean[b where mask](logsumexp[j where mask[b -> j]](s) - s[j = index[b]])
"""


def test_balanced_mse() -> None:
    mask = torch.tensor([True, False, True, True, False, True, True])
    batch = {"pred": behind(uniform(7, seed=1), mask), "target": behind(2 * uniform(7, seed=2), mask), "mask": mask}
    batch["sigma"] = torch.tensor(0.7, dtype=torch.float64)

    def closed(t: Tensors) -> Tensor:
        pred, target = t["pred"][mask], t["target"][mask]
        s = -((pred[:, None] - target[None]) ** 2) / (2 * t["sigma"] ** 2)
        return 2 * t["sigma"].detach() ** 2 * cross_entropy(s, torch.arange(5))

    assert_equals(BALANCED_MSE, batch, closed)


SMOOTH_AP = """
\"\"\"Smooth-AP: the average precision of each query, its ranks by sigmoids. Brown et al. 2020.\"\"\"
objective smooth_ap
axis b : batch
axis d
axis class
input x : embedding[b, d]
data  y : label[b] in class
param tau : positive = 0.1

let unit_x = x / norm[d](x)
let s      = dot[d](unit_x, unit_x[b -> j])
let pos    = y == y[b -> j] and index[b] != index[j]
let other  = index[k] != index[j] and index[k] != index[b]
let above  = sigmoid((s[j -> k] - s) / tau)
let among  = 1 + sum[k where pos[j -> k] and other](above)
let rank_j = 1 + sum[k where other and y[b -> k] >= 0](above)

minimize
  ap : 1 - mean[b](mean[j where pos](among / rank_j))
"""


def test_smooth_average_precision() -> None:
    batch = {"x": uniform(7, 3, seed=1), "y": torch.tensor([0, 1, 0, -1, 1, 0, 2])}
    batch["x"] = behind(batch["x"], batch["y"] >= 0)

    def closed(t: Tensors) -> Tensor:
        x, y = unit(t["x"][t["y"] >= 0]), t["y"][t["y"] >= 0].tolist()
        s, rows = x @ x.T, range(len(y))
        precisions = []
        for i in rows:
            found = []
            for j in (j for j in rows if j != i and y[j] == y[i]):
                above = {k: torch.sigmoid((s[i, k] - s[i, j]) / 0.1) for k in rows if k not in (i, j)}
                found.append((1 + sum(a for k, a in above.items() if y[k] == y[i])) / (1 + sum(above.values())))
            if found:
                precisions.append(torch.stack(found).mean())
        return 1 - torch.stack(precisions).mean()

    assert_equals(SMOOTH_AP, batch, closed)


MCR2 = """
\"\"\"Maximal coding rate reduction: the rate of all features less that of each class. Yu et al. 2020.\"\"\"
objective mcr2
axis b : batch
axis d
axis class
input x    : embedding[b, d]
data  y    : label[b] in class
data  mask : mask[b]
param eps : positive = 0.5

let z      = x / norm[d](x)
let eye    = index[d] == index[e]
let m      = count[b where mask]
let m_c    = count[b by y where mask]
let all_zz = sum[b where mask](z * z[d -> e])
let own_zz = sum[b by y where mask](z * z[d -> e])
let rate   = logdet[d, e](eye + size[d] / (m * eps^2) * all_zz) / 2
let inner  = m_c / m * logdet[d, e](eye + size[d] / (m_c * eps^2) * own_zz) / 2

maximize
  reduction : rate - sum[class where m_c > 0](inner)
"""


def test_maximal_coding_rate_reduction() -> None:
    mask = torch.tensor([True, True, False, True, True, True, True])
    batch = {"x": behind(uniform(7, 3, seed=1), mask), "y": torch.tensor([0, 2, 1, 0, 2, 2, 0]), "mask": mask}

    def rate(z: Tensor) -> Tensor:
        return torch.logdet(torch.eye(3).double() + 3 / (len(z) * 0.25) * z.T @ z) / 2

    def closed(t: Tensors) -> Tensor:
        z, y = unit(t["x"][mask]), t["y"][mask]
        return sum(len(z[y == c]) / len(z) * rate(z[y == c]) for c in (0, 2)) - rate(z)

    assert_equals(MCR2, batch, closed, warnings=["W202"], sizes={"class": 4})


BSS = """
\"\"\"Batch spectral shrinkage: the smallest singular values of the features are suppressed. Chen et al. 2019.\"\"\"
objective bss
use std.settings.classes
axis d
input f : embedding[b, d]
param eta : nonneg = 0.1

let sigma = svdvals[b, d -> i](f)

minimize
  ce  : mean[b](nll)
  bss : eta * sum[i where index[i] >= size[i] - 2](sigma^2)
"""


def test_batch_spectral_shrinkage() -> None:
    batch = ignored(classes(3)) | {"f": uniform(5, 4, seed=1)}

    def closed(t: Tensors) -> Tensor:
        rows = t["labels"] >= 0
        smallest = torch.linalg.eigvalsh(t["f"].T @ t["f"])[:2]
        return cross_entropy(t["logits"][rows], t["labels"][rows]) + 0.1 * smallest.sum()

    assert_equals(BSS, batch, closed)


DEEPHIT = """
\"\"\"DeepHit: discrete survival times, with events ranked by the incidence of others at their time. Lee et al. 2018.\"\"\"
objective deephit
axis b : batch
axis time
input z : logits[b, time]
data  t : label[b] in time
data  event : mask[b]
param sigma : positive = 0.1

let p         = softmax[time](z)
let incidence = cumsum[time](p)
let own       = incidence[time = t]
let others    = incidence[b -> j][time = t]

minimize
  likelihood : -mean[b](log(p[time = t]) if event else log(1 - own + 1e-7))
  ranking    : mean[b, j](exp(-(own - others) / sigma) if event and t < t[b -> j] else 0)
"""


@over_classes
def test_survival_in_discrete_time(backend: str) -> None:
    batch = {"z": scores(6, 7, seed=1), "t": integers(6, high=6, seed=2), "event": torch.tensor([1, 0, 1, 1, 0, 1]) > 0}

    def closed(t: Tensors) -> Tensor:
        p = t["z"].softmax(-1)
        total = torch.zeros((), dtype=torch.float64)
        for i, (at, event) in enumerate(zip(t["t"].tolist(), t["event"].tolist(), strict=True)):
            own = p[i, : at + 1].sum()
            total = total - (p[i, at] if event else 1 - own + 1e-7).log() / 6
            for k, later in enumerate(t["t"].tolist()):
                if event and at < later:
                    total = total + ((p[k, : at + 1].sum() - own) / 0.1).exp() / 36
        return total

    assert_equals(DEEPHIT, batch, closed, backend=backend, warnings=["W201"])
