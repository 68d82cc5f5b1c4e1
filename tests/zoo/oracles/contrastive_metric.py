"""Closed forms of the family `contrastive_metric`, each from the formula of its paper."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import classes, integers, uniform
from tests.zoo.harness import Tensors, oracle
from tests.zoo.oracles.attacks import network
from torch import Tensor


def size(variant: str, plain: int, odd: int) -> int:
    return odd if variant == "odd" else plain


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """<x_i, y_j> / (|x_i| |y_j|) for all pairs."""
    return (x @ y.T) / (x.pow(2).sum(-1).sqrt()[:, None] * y.pow(2).sum(-1).sqrt()[None, :])


def hide_rows(x: Tensor, rows: Tensor) -> Tensor:
    """NaN and infinity in the rows that nothing may read."""
    garbage = torch.where(torch.arange(x.shape[-1]) % 2 == 0, torch.nan, torch.inf).to(x.dtype)
    return torch.where(rows[:, None], garbage, x)


# ---------------------------------------------------------------------------------------------------- two views


def views(seed: int, variant: str) -> Tensors:
    b, i = size(variant, 6, 3), size(variant, 4, 1)
    return {"z_A": uniform(b, i, seed=seed), "z_B": uniform(b, i, seed=seed + 1)}


@oracle("barlow_twins", batch=views, params=[{}, {"lam": 0.5}], variants=("plain", "odd"))
def barlow_twins(tensors: Tensors, lam: float = 0.005) -> Tensor:
    """sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2, C_ij of the batch-centred embeddings."""
    a = tensors["z_A"] - tensors["z_A"].mean(0, keepdim=True)
    b = tensors["z_B"] - tensors["z_B"].mean(0, keepdim=True)
    loss = torch.zeros((), dtype=a.dtype)
    for i in range(a.shape[1]):
        for j in range(a.shape[1]):
            c = (a[:, i] * b[:, j]).sum() / ((a[:, i] ** 2).sum().sqrt() * (b[:, j] ** 2).sum().sqrt())
            loss = loss + ((1 - c) ** 2 if i == j else lam * c**2)
    return loss


def manifolds(seed: int, variant: str) -> Tensors:
    b, m, d = size(variant, 5, 1), size(variant, 3, 1), size(variant, 4, 7)
    return {"z": uniform(b, m, d, seed=seed)}


@oracle("mmcr", batch=manifolds, params=[{}, {"lam": 0.3}], variants=("plain", "odd"))
def mmcr(tensors: Tensors, lam: float = 0.0) -> Tensor:
    """(lambda / B) sum_b |Z_b|_* - |C|_*, Z_b the unit vectors of the views of b and C their means."""
    z = tensors["z"] / tensors["z"].pow(2).sum(-1, keepdim=True).sqrt()
    local = torch.stack([torch.linalg.matrix_norm(view, "nuc") for view in z])
    return lam * local.mean() - torch.linalg.matrix_norm(z.mean(1), "nuc")


# ---------------------------------------------------------------------------------------------------- labelled rows


def opl_batch(seed: int, variant: str) -> Tensors:
    b = size(variant, 7, 2)
    tensors = classes(seed, b=b, v=3) | {"f": uniform(b, size(variant, 4, 1), seed=seed + 5)}
    if variant == "masked":
        tensors["labels"] = torch.where(torch.arange(b) % 3 == 1, -100, tensors["labels"])
        tensors["f"] = hide_rows(tensors["f"], tensors["labels"] < 0)
        tensors["logits"] = hide_rows(tensors["logits"], tensors["labels"] < 0)
    return tensors


@oracle("opl", batch=opl_batch, params=[{}, {"lam": 2.0, "gamma": 1.5}])
def opl(tensors: Tensors, lam: float = 1.0, gamma: float = 0.5) -> Tensor:
    """CE + lambda ((1 - s) + gamma |d|) by loops over the pairs of rows that have a label."""
    rows = [i for i, y in enumerate(tensors["labels"].tolist()) if y >= 0]
    labels = tensors["labels"][rows]
    cosine = cosines(tensors["f"][rows], tensors["f"][rows])
    pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
    same = [cosine[i, j] for i, j in pairs if labels[i] == labels[j]]
    different = [cosine[i, j] for i, j in pairs if labels[i] != labels[j]]
    loss = torch.nn.functional.cross_entropy(tensors["logits"][rows], labels)
    if same:
        loss = loss + lam * (1 - torch.stack(same).mean())
    if different:
        loss = loss + lam * gamma * torch.stack(different).mean().abs()
    return loss


def labelled(seed: int, variant: str) -> Tensors:
    b = size(variant, 9, 3)
    tensors: Tensors = {"x": uniform(b, 3, seed=seed), "y": integers(b, high=3, seed=seed + 1)}
    if variant == "masked":
        tensors["y"] = torch.where(torch.arange(b) % 4 == 1, -1, tensors["y"])
        tensors["x"] = hide_rows(tensors["x"], tensors["y"] < 0)
    return tensors


@oracle("multi_similarity", batch=labelled, params=[{}, {"alpha": 1.0, "beta": 5.0, "lam": 0.2, "eps": 0.5}])
def multi_similarity(
    tensors: Tensors, alpha: float = 2.0, beta: float = 40.0, lam: float = 0.5, eps: float = 0.1
) -> Tensor:
    """Mining, then log(1 + sum exp) of the kept pairs of each row; rows count alike, those without pairs 0."""
    y = tensors["y"]
    loss = 0 * torch.where(y[:, None] >= 0, tensors["x"], 0).sum()
    for i in range(len(y)):
        positive = [k for k in range(len(y)) if k != i and y[i] >= 0 and y[k] == y[i]]
        negative = [k for k in range(len(y)) if y[i] >= 0 and y[k] >= 0 and y[k] != y[i]]
        if not positive or not negative:
            continue
        p = cosines(tensors["x"][i : i + 1], tensors["x"][positive])[0]
        n = cosines(tensors["x"][i : i + 1], tensors["x"][negative])[0]
        kept_p, kept_n = p[p < n.max() + eps], n[n > p.min() - eps]
        loss = loss + torch.log(1 + torch.exp(-alpha * (kept_p - lam)).sum()) / alpha
        loss = loss + torch.log(1 + torch.exp(beta * (kept_n - lam)).sum()) / beta
    return loss / len(y)


# ---------------------------------------------------------------------------------------------------- retrieval


def searches(seed: int, variant: str) -> Tensors:
    b, d = size(variant, 5, 2), size(variant, 4, 1)
    return {
        "query": 2 * uniform(b, d, seed=seed),
        "code": 2 * uniform(b, d, seed=seed + 1),
        "q": 2 * uniform(b, b, seed=seed + 2),
    }


SOFT = ({}, {"alpha": 0.5, "beta": 0.7, "t": 0.4}, {"alpha": 0})


@oracle("soft_info_nce", batch=searches, params=SOFT, variants=("plain", "odd"))
def soft_info_nce(tensors: Tensors, alpha: float = 1.0, beta: float = 2.0, t: float = 1.0) -> Tensor:
    """-(1/N) sum_i log( e^s_ii / (e^s_ii + sum_{j != i} w_ij e^s_ij) ), by loops."""
    s = tensors["query"] @ tensors["code"].T
    n = s.shape[0]
    losses = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        similar = torch.softmax(tensors["q"][i, others] / t, 0)
        w = torch.clamp((beta - alpha * similar) / (beta - alpha / (n - 1)), min=0.1)
        losses.append(torch.logsumexp(torch.cat([s[i, i : i + 1], s[i, others] + w.log()]), 0) - s[i, i])
    return torch.stack(losses).mean()


def multi_hot(seed: int, variant: str) -> Tensors:
    q, labels, d = size(variant, 4, 1), size(variant, 6, 3), size(variant, 4, 1)
    positive = uniform(q, labels, seed=seed + 2) > 0.2
    positive[:, 0], positive[:, 1] = True, False
    tensors = {"x": uniform(q, d, seed=seed), "e": uniform(labels, d, seed=seed + 1), "positive": positive}
    if variant == "masked":
        positive[2] = False
        tensors["x"] = hide_rows(tensors["x"], ~positive.any(1))
    return tensors


@oracle("dexml", batch=multi_hot, params=[{}, {"tau": 0.5}, {"form": "soft_topk", "k": 1.5, "alpha": 3, "tau": 0.4}])
def dexml(tensors: Tensors, tau: float = 0.05, form: str = "decoupled", k: float = 2.0, alpha: float = 1.0) -> Tensor:
    """The mean over queries of the mean over their positives, by loops; t of the soft top-k by bisection."""
    rows = []
    for q, positive in enumerate(tensors["positive"]):
        if not bool(positive.any()):
            continue
        s = cosines(tensors["x"][q : q + 1], tensors["e"])[0] / tau
        if form == "decoupled":
            negatives = torch.logsumexp(s[~positive], 0)
            rows.append((torch.logaddexp(s[positive], negatives) - s[positive]).mean())
        else:
            rows.append(-torch.nn.functional.logsigmoid(alpha * (s + threshold(s, k, alpha)))[positive].mean())
    return torch.stack(rows).mean()


def threshold(s: Tensor, k: float, alpha: float) -> Tensor:
    """t such that sum_i sigma(alpha (s_i + t)) = k, with dt/ds_i = -v_i / sum v by the implicit function theorem."""
    low, high = float(-s.detach().max()) - 40 / alpha, float(-s.detach().min()) + 40 / alpha
    for _ in range(200):
        middle = (low + high) / 2
        above = float(torch.sigmoid(alpha * (s.detach() + middle)).sum()) > k
        low, high = (low, middle) if above else (middle, high)
    t = torch.tensor(high, dtype=s.dtype)
    v = torch.sigmoid(alpha * (s.detach() + t)) * torch.sigmoid(-alpha * (s.detach() + t))
    weight = v / v.sum()
    assert math.isclose(float(torch.sigmoid(alpha * (s.detach() + t)).sum()), k, rel_tol=1e-12)
    return t - (weight * (s - s.detach())).sum()


# ---------------------------------------------------------------------------------------------------- proxies, all pairs, units


def circled(seed: int, variant: str) -> Tensors:
    b, d = size(variant, 6, 3), size(variant, 4, 2)
    y = torch.arange(b) % 3 if variant != "odd" else torch.tensor([0, 0, 1])
    x = uniform(b, d, seed=seed)
    if variant == "masked":
        y[1] = -1
        x = hide_rows(x, y < 0)
    return {"x": x, "y": y}


@oracle("circle", batch=circled, params=[{"m": 0.4, "gamma": 4}])
def circle(tensors: Tensors, m: float = 0.25, gamma: float = 32) -> Tensor:
    """log(1 + sum exp(gamma a_n (s_n - m)) sum exp(-gamma a_p (s_p - 1 + m))) over the pairs of the batch."""
    x, y = (tensors[name][tensors["y"] >= 0] for name in ("x", "y"))
    s = cosines(x, x)
    near, far = [], []
    for i in range(len(y)):
        for j in range(i + 1, len(y)):
            if y[i] == y[j]:
                near.append(torch.exp(-gamma * torch.relu(1 + m - s[i, j]).detach() * (s[i, j] - 1 + m)))
            else:
                far.append(torch.exp(gamma * torch.relu(s[i, j] + m).detach() * (s[i, j] - m)))
    return torch.log1p(sum(near) * sum(far))


def proxied(seed: int, variant: str) -> Tensors:
    b, d, c = size(variant, 6, 1), size(variant, 4, 2), size(variant, 4, 3)
    return {"x": uniform(b, d, seed=seed), "proxy": uniform(c, d, seed=seed + 1), "y": integers(b, high=c - 1, seed=seed + 2)}


@oracle("proxy_anchor", batch=proxied, params=[{"alpha": 4, "delta": 0.3}], variants=("plain", "odd"), steps=6)
def proxy_anchor(tensors: Tensors, alpha: float = 32, delta: float = 0.1) -> Tensor:
    """The mean over classes that are there of log(1 + sum exp(-alpha (s - delta))), and over all of the others' part."""
    x, proxy, y = tensors.values()
    s, draw, repel = cosines(x, proxy), [], []
    for c in range(len(proxy)):
        if bool((y == c).any()):
            draw.append(torch.log1p(torch.exp(-alpha * (s[y == c, c] - delta)).sum()))
        repel.append(torch.log1p(torch.exp(alpha * (s[y != c, c] + delta)).sum()))
    return torch.stack(draw).mean() + torch.stack(repel).mean()


def paired(seed: int, variant: str) -> Tensors:
    b, d = size(variant, 6, 2), size(variant, 4, 1)
    return {"x": uniform(b, d, seed=seed), "y": uniform(b, d, seed=seed + 1)}


@oracle("vicreg", batch=paired, params=[{"lam": 1, "mu": 2, "nu": 3}], variants=("plain", "odd"))
def vicreg(tensors: Tensors, lam: float = 25, mu: float = 25, nu: float = 1, eps: float = 1e-4) -> Tensor:
    """lambda |Z - Z'|^2 + mu (v(Z) + v(Z')) + nu (c(Z) + c(Z')), unit by unit."""
    x, y = tensors.values()
    loss = lam * ((x - y) ** 2).mean()
    for z in (x, y):
        n, d = z.shape
        columns = [z[:, at] - z[:, at].mean() for at in range(d)]
        spread = [torch.relu(1 - ((column @ column) / (n - 1) + eps).sqrt()) for column in columns]
        mixed = [((columns[i] @ columns[j]) / (n - 1)) ** 2 for i in range(d) for j in range(d) if i != j]
        loss = loss + mu * sum(spread) / d + nu * sum(mixed) / d
    return loss


# ---------------------------------------------------------------------------------------------------- scores compared


def rationales(seed: int, variant: str) -> Tensors:
    """The second row has no negative rationale."""
    b, v, r = size(variant, 5, 2), size(variant, 4, 3), size(variant, 3, 1)
    given = (torch.arange(r) < 1 + torch.arange(b)[:, None] % r) & (torch.arange(b) != 1)[:, None]
    tensors = classes(seed, b=b, v=v) | {
        "positive": uniform(b, v, seed=seed + 5),
        "negative": uniform(b, r, v, seed=seed + 6),
        "given": given,
        "weights": network(2, v),
    }
    if variant == "masked":
        tensors["negative"][~given] = torch.nan
        tensors["labels"] = torch.where(torch.arange(b) % 3 == 2, -100, tensors["labels"])
        tensors["positive"] = hide_rows(tensors["positive"], tensors["labels"] < 0)
    return tensors


@oracle("plausible_rationales", batch=rationales, params=[{}, {"w_1": 1, "w_2": 3, "alpha": 0.1}])
def plausible_rationales(tensors: Tensors, w_1: float = 0.5, w_2: float = 0.5, alpha: float = 1) -> Tensor:
    """w_1 CE + w_2 sum -log(e^{s+} / (e^{s+} + sum e^{s-})) + alpha / 2 |W|^2; 1 for the sum where there is none."""
    matrices = [w for name, w in tensors["weights"].named_parameters() if name.endswith("weight")]
    loss = alpha / 2 * sum((w**2).sum() for w in matrices)
    for row, y in enumerate(tensors["labels"].tolist()):
        if y >= 0:
            own = tensors["positive"][row, y].exp()
            others = tensors["negative"][row, tensors["given"][row], y].exp()
            rivals = others.sum() if len(others) else 1
            loss = loss - w_1 * tensors["logits"][row].log_softmax(-1)[y] - w_2 * torch.log(own / (own + rivals))
    return loss


def pools(seed: int, variant: str) -> Tensors:
    """The first solution of the first problem sets every variable to 0, the last of the last sets all to 1."""
    b, q, i = size(variant, 3, 1), size(variant, 4, 2), size(variant, 5, 3)
    ones = uniform(b, q, i, seed=seed + 1) > 0
    ones[0, 0], ones[-1, -1] = False, True
    variable, pool = torch.ones(b, i, dtype=torch.bool), torch.ones(b, q, dtype=torch.bool)
    z, value = uniform(b, i, seed=seed), 100 * uniform(b, q, seed=seed + 2)
    if variant == "masked":
        variable[1, 3:], pool[2, 2:] = False, False
        z[~variable], value[~pool] = torch.nan, torch.nan
    return {"z": z, "ones": ones, "objective": value, "variable": variable, "pool": pool}


@oracle("coco_milp", batch=pools, params=[{}, {"tau": 1, "margin": 0.2, "alpha": 2, "W": 20}])
def coco_milp(
    tensors: Tensors,
    tau: float = 0.1,
    margin: float = 0.9,
    alpha: float = 0.01,
    W: float = 100,  # noqa: N803
) -> Tensor:
    """The released code's loops over problems and solutions: those without a 1, or without a 0, are passed over."""
    loss = torch.zeros((), dtype=torch.float64)
    for scores, solutions, value, variable, pool in zip(*tensors.values(), strict=True):
        z, weight = scores[variable], torch.softmax(-value[pool] / W, -1)
        p, e = 1 / (1 + torch.exp(-z)), torch.exp(z / tau)
        for share, solution in zip(weight, solutions[pool][:, variable], strict=True):
            if solution.any():
                loss = loss - share * torch.log(e[solution].sum() / e.sum())
            if solution.any() and not solution.all():
                apart = p[solution][:, None] - p[~solution][None, :]
                loss = loss + alpha * share * (margin - apart).clamp(min=0).mean()
    return loss


def faces(seed: int, variant: str) -> Tensors:
    """One pair of the batch is an outlier: two different people with the same face."""
    b, d, k = size(variant, 6, 2), size(variant, 3, 2), size(variant, 4, 3)
    y = torch.arange(b) % (k - 1)
    x = uniform(b, d, seed=seed)
    x[1] = x[0] + 0.01
    if variant == "masked":
        y[3] = -1
        x = hide_rows(x, y < 0)
    return {"x": x, "centre": uniform(k, d, seed=seed + 1), "y": y}


@oracle("unpg", batch=faces, params=[{"gamma": 5}, {"gamma": 5, "m": 0.1, "w": 0.3}])
def unpg(tensors: Tensors, gamma: float = 30, m: float = 0.35, w: float = 1) -> Tensor:
    """Cross-entropy over the cosines to all centres and the usual cosines of pairs of different labels."""
    rows = tensors["y"] >= 0
    x, y = tensors["x"][rows], tensors["y"][rows].tolist()
    s, cos = cosines(x, x), cosines(x, tensors["centre"])
    apart = [s[i, j] for i in range(len(x)) for j in range(i + 1, len(x)) if y[i] != y[j]]
    low, high = (float(torch.quantile(torch.stack(apart).detach(), at)) for at in (0.25, 0.75))
    pairs = [score for score in apart if low - w * (high - low) <= score <= high + w * (high - low)]
    losses = []
    for row, own in enumerate(y):
        others = torch.cat([cos[row, :own], cos[row, own + 1 :], torch.stack(pairs)])
        z = gamma * torch.cat([(cos[row, own] - m)[None], others])
        losses.append(torch.logsumexp(z, 0) - z[0])
    return torch.stack(losses).mean()


def states(seed: int, variant: str) -> Tensors:
    b, i = size(variant, 9, 4), size(variant, 3, 1)
    return {"x": 2 * uniform(b, i, seed=seed), "y": 2 * uniform(b, i, seed=seed + 1)}


@oracle("dpnets", batch=states, params=[{}, {"gamma": 0.2}], variants=("plain", "odd"))
def dpnets(tensors: Tensors, gamma: float = 1) -> Tensor:
    """-|C_xy|_F^2 / (|C_x|_2 |C_y|_2) + gamma sum over both of sum_k (l_k^2 - l_k - log l_k) of the eigenvalues."""
    x, y = (rows - rows.mean(0) for rows in (tensors["x"], tensors["y"]))
    c_x, c_y, c_xy = x.T @ x / len(x), y.T @ y / len(y), x.T @ y / len(x)
    spectra = [torch.linalg.eigvalsh(c) for c in (c_x, c_y)]
    score = (c_xy**2).sum() / (spectra[0].max() * spectra[1].max())
    return gamma * sum((values**2 - values - values.log()).sum() for values in spectra) - score
