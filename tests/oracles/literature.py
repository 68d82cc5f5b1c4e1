"""Closed forms of the published objectives under tests/golden/good that need only forms compiled now.

Written from the catalogue's formulas in plain PyTorch, one function for each file, with loops where a loop is clearest;
the parameters are the defaults in the files.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from tests.oracles import batches
from tests.oracles.batches import Batch, integers, scores, uniform
from tests.oracles.ce import ce, log_p
from tests.oracles.preference import log1mexp, log_sigmoid
from tests.oracles.settings import margins, pair_logps, sequence_logp
from torch import Tensor


def dice(b: Batch) -> Tensor:
    """Mean over tokens and classes of 1 - (2 w y + 1) / (w + y + 1), w = (1 - p) p."""
    p = log_p(b["logits"][b["mask"]]).exp()
    y = torch.nn.functional.one_hot(b["labels"][b["mask"]], p.shape[-1]).to(p)
    w = (1 - p) * p
    return (1 - (2 * w * y + 1) / (w + y + 1)).mean()


def comp_sum(b: Batch) -> Tensor:
    """((1 + u)^(1 - t) - 1) / (1 - t) at t = 1.5, where 1 + u = 1 / p_y."""
    return ((ce(b["logits"], b["labels"]).exp()) ** -0.5 - 1).mean() / -0.5


def hl_gauss(b: Batch) -> Tensor:
    """-sum q log softmax(l), q the mass of a normal in each of the bins between -4 and 4."""
    count = b["logits"].shape[-1]
    edges = torch.linspace(-4, 4, count + 1, dtype=torch.float64)
    centres = (edges[1:] + edges[:-1]) / 2
    target = b["reward"] + 0.9 * (b["next_logits"].softmax(-1) * centres).sum(-1)
    sigma = 0.75 * 8 / count
    cdf = (1 + torch.erf((edges - target[:, None]) / (sigma * math.sqrt(2)))) / 2
    mass = cdf[:, 1:] - cdf[:, :-1]
    return -(mass / mass.sum(-1, keepdim=True) * log_p(b["logits"])).sum(-1).mean()


def ldr_kl(b: Batch) -> Tensor:
    """lambda log mean_k exp((f_k - f_y + c 1[k != y]) / lambda), lambda = 0.7, c = 0.3."""
    rows = []
    for f, y in zip(b["logits"], b["labels"].tolist(), strict=True):
        terms = [(f[k] - f[y] + 0.3 * (k != y)) / 0.7 for k in range(len(f))]
        rows.append(0.7 * (torch.stack(terms).exp().mean()).log())
    return torch.stack(rows).mean()


def pld(b: Batch) -> Tensor:
    """sum_k q[pi_k] (logsumexp_{j >= k} s[pi_j] - s[pi_k]), pi = the label, then the teacher's descending order."""
    rows = []
    for s, t, y in zip(b["logits"], b["teacher"], b["labels"].tolist(), strict=True):
        order = [y, *(k for k in torch.argsort(t, descending=True).tolist() if k != y)]
        q = t.softmax(-1)
        rows.append(sum(q[k] * (torch.logsumexp(s[order[i:]], 0) - s[k]) for i, k in enumerate(order)))
    return torch.stack(rows).mean()


def barlow_twins(b: Batch) -> Tensor:
    """sum_i (1 - C_ii)^2 + 0.005 sum_{i != j} C_ij^2 on batch-standardised embeddings."""
    a, z = ((x - x.mean(0)) / x.std(0, correction=0) for x in (b["x"], b["y"]))
    c = a.T @ z / a.shape[0]
    diagonal = c.diagonal()
    return ((1 - diagonal) ** 2).sum() + 0.005 * ((c**2).sum() - (diagonal**2).sum())


def dco(b: Batch) -> Tensor:
    """-log(1 - (1 - p)^16), p the probability of the sequence."""
    logps = [sequence_logp(*row) for row in zip(b["logits"], b["labels"], b["mask"], strict=True)]
    return torch.stack([-log1mexp(16 * log1mexp(logp)) for logp in logps if logp is not None]).mean()


def any_loss(b: Batch) -> Tensor:
    """1 - F1 of soft counts."""
    yes = torch.sigmoid(73 * (torch.sigmoid(b["score"]) - 0.5))
    tp, fn, fp = (b["y"] * yes).sum(), (b["y"] * (1 - yes)).sum(), ((1 - b["y"]) * yes).sum()
    return 1 - 2 * tp / (2 * tp + fn + fp)


def f_dpo(b: Batch) -> Tensor:
    """-log sigma(beta f'(u_w) - beta f'(u_l)), f'(u) = log(2 u / (1 + u)), through log u."""
    rows = []
    for i, w, r in pair_logps(b["logits"], b["labels"], b["mask"]):
        chosen, rejected = (math.log(2) + log_sigmoid(x) for x in (w - b["ref_logp"][i, 0], r - b["ref_logp"][i, 1]))
        rows.append(-log_sigmoid(0.1 * (chosen - rejected)))
    return torch.stack(rows).mean()


def disco(b: Batch) -> Tensor:
    """-(mean over right of s - tau log mean over wrong of exp(s / tau)) + 10 [drift - 0.01]_+^2, by loops."""
    gaps = []
    logp = -ce(b["logits"], b["labels"])
    for q in range(b["reward"].shape[0]):
        s = [logp[q, o][b["mask"][q, o]].mean() for o in range(b["reward"].shape[1])]
        right = [s[o] for o in range(len(s)) if b["reward"][q, o] > 0]
        wrong = [s[o] for o in range(len(s)) if b["reward"][q, o] <= 0]
        if right and wrong:
            penalty = 0.5 * (torch.stack(wrong) / 0.5).exp().mean().log()
            gaps.append(torch.stack(right).mean() - penalty)
    drift = (b["old_logp"] - logp)[b["mask"]].mean()
    return -torch.stack(gaps).mean() + 10 * torch.relu(drift - 0.01) ** 2


def r_dpo(b: Batch) -> Tensor:
    """-log sigma(beta margin + alpha (|y_w| - |y_l|))."""
    lengths = b["mask"].sum(-1)
    margin = margins(b["logits"], b["labels"], b["mask"], b["ref_logp"])
    return -log_sigmoid(0.1 * margin + 0.02 * (lengths[:, 0] - lengths[:, 1])).mean()


def harmonic(b: Batch) -> Tensor:
    """n log d_y + logsumexp_j(-n log d_j), n = 3."""
    log_d = ((b["x"][:, None] - b["w"][None]) ** 2).sum(-1).log() / 2
    return (3 * log_d.gather(1, b["labels"][:, None]).squeeze(1) + torch.logsumexp(-3 * log_d, -1)).mean()


def z_loss(b: Batch) -> Tensor:
    """log(1 + exp(a (offset - z_y))) / a on standardised scores, a = 1.5, offset = 4."""
    o = b["logits"]
    z = (o - o.mean(-1, keepdim=True)) / o.std(-1, correction=0, keepdim=True)
    return torch.log1p((1.5 * (4 - z.gather(1, b["labels"][:, None]).squeeze(1))).exp()).mean() / 1.5


def orthogonal_projection(b: Batch) -> Tensor:
    """CE + 0.5 ((1 - s) + 0.5 |d|), s and d the mean cosines within and between classes."""
    f = b["features"] / b["features"].norm(dim=-1, keepdim=True)
    n, y = f.shape[0], b["labels"]
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    inside = torch.stack([f[i] @ f[j] for i, j in pairs if y[i] == y[j]]).mean()
    outside = torch.stack([f[i] @ f[j] for i, j in pairs if y[i] != y[j]]).mean()
    return ce(b["logits"], y).mean() + 0.5 * ((1 - inside) + 0.5 * outside.abs())


def decoupled_softmax(b: Batch) -> Tensor:
    """-sum over positives of log(e^s_p / (e^s_p + sum over negatives of e^s_n)), rows without a positive left out."""
    s, rows = b["query"] @ b["item"].T / 0.2, []
    for row, relevant in zip(s, b["relevant"], strict=True):
        if relevant.any():
            terms = [torch.logsumexp(torch.cat([p[None], row[~relevant]]), 0) - p for p in row[relevant]]
            rows.append(torch.stack(terms).sum())
    return torch.stack(rows).mean()


def bags(b: Batch) -> Tensor:
    """(1 - rho) (y_bag - mean prediction)^2 + rho mean (y_bag - prediction)^2, rho = 0.3, over bags with members."""
    rows = []
    for bag, response in enumerate(b["response"]):
        inside = b["pred"][b["member"] == bag]
        if inside.numel():
            rows.append(0.7 * (response - inside.mean()) ** 2 + 0.3 * ((response - inside) ** 2).mean())
    return torch.stack(rows).mean()


def multi_similarity(b: Batch) -> Tensor:
    """Mined pairs: log(1 + sum exp(-2 (s - 0.5))) / 2 + log(1 + sum exp(10 (s - 0.5))) / 10, by loops."""
    f = b["x"] / b["x"].norm(dim=-1, keepdim=True)
    s, y, rows = f @ f.T, b["labels"].tolist(), []
    for i in range(len(y)):
        positive = [s[i, j] for j in range(len(y)) if j != i and y[j] == y[i]]
        negative = [s[i, j] for j in range(len(y)) if y[j] != y[i]]
        kept = [p for p in positive if negative and p - 0.1 < max(negative)]
        hard = [n for n in negative if positive and n + 0.1 > min(positive)]
        pull = torch.log1p(sum(((-2 * (p - 0.5)).exp() for p in kept), 0 * s[i, i])) / 2
        push = torch.log1p(sum(((10 * (n - 0.5)).exp() for n in hard), 0 * s[i, i])) / 10
        rows.append(pull + push)
    return torch.stack(rows).mean()


def quantile_crossing(b: Batch) -> Tensor:
    """sum over levels of the pinball loss + 2 sum over pairs of levels of [q_low - q_high + 0.05]_+."""
    total = 0 * b["pred"].sum()
    levels = b["levels"].tolist()
    for i, low in enumerate(levels):
        u = b["target"] - b["pred"][:, i]
        total = total + torch.maximum(low * u, (low - 1) * u).mean()
        for j in range(i + 1, len(levels)):
            total = total + 2 * torch.relu(b["pred"][:, i] - b["pred"][:, j] + 0.05).mean()
    return total


def adaptive_activation(b: Batch) -> Tensor:
    """-log p if hit else -log(1 - p), p = (lambda exp(-kappa z) + 1)^(-1 / lambda) at kappa = lambda = 1."""
    z = torch.where(b["hits"], b["scores"], -b["scores"])
    return -log_sigmoid(z).mean()


def elementwise_regularisation(b: Batch) -> Tensor:
    """CE + 0.1 sum over layers of gamma sum Omega (w - w0)^2 / 2, gamma = 1 below and 2 above."""
    fit = ce(b["logits"][b["mask"]], b["labels"][b["mask"]]).mean()
    ties = [
        gamma * (b[f"{layer}_importance"] * (b[layer] - b[f"{layer}_old"]) ** 2).sum() / 2
        for layer, gamma in (("lower", 1), ("upper", 2))
    ]
    return fit + 0.1 * sum(ties)


def _layers(seed: int) -> Batch:
    """Tokens with two groups of weights, each laid out as one vector."""
    layers = {
        layer + part: uniform(extent, seed=seed + shift).abs()
        for layer, extent, shift in (("lower", 4, 50), ("upper", 6, 60))
        for part in ("", "_old", "_importance")
    }
    return {**batches.tokens(seed), **layers, "lower_old": uniform(4, seed=seed), "upper_old": uniform(6, seed=seed)}


def _named(maker: Callable[..., Batch], **further: Callable[[Batch], Tensor]) -> Callable[[int], Batch]:
    """A maker whose batches hold further tensors."""

    def make(seed: int) -> Batch:
        batch = maker(seed)
        return {**batch, **{name: tensor(batch) for name, tensor in further.items()}}

    return make


def _graded(seed: int) -> Batch:
    """Rollouts with rewards of 0 and 1."""
    batch = batches.rollouts(seed, q=3, sample=4)
    return {**batch, "reward": (batch["reward"] > 0).double()}


LITERATURE: dict[str, tuple[Callable[[Batch], Tensor], Callable[[int], Batch], frozenset[str]]] = {
    "dice": (dice, batches.tokens, frozenset({"logits"})),
    "comp_sum": (comp_sum, batches.classes, frozenset({"logits"})),
    "hl_gauss": (
        hl_gauss,
        lambda seed: {
            "logits": scores(4, 9, seed=seed),
            "next_logits": scores(4, 9, seed=seed + 1),
            "reward": uniform(4, seed=seed + 2),
        },
        frozenset({"logits"}),
    ),
    "ldr_kl": (ldr_kl, batches.classes, frozenset({"logits"})),
    "pld": (
        pld,
        _named(batches.classes, teacher=lambda batch: scores(*batch["logits"].shape, seed=41)),
        frozenset({"logits"}),
    ),
    "barlow_twins": (barlow_twins, batches.embeddings, frozenset({"x", "y"})),
    "dco": (dco, batches.tokens, frozenset({"logits"})),
    "any_loss": (
        any_loss,
        lambda seed: {"score": 0.1 * uniform(6, seed=seed), "y": (uniform(6, seed=seed + 1) + 1) / 2},
        frozenset({"score"}),
    ),
    "f_dpo": (f_dpo, batches.pairs, frozenset({"logits"})),
    "disco": (disco, _graded, frozenset({"logits"})),
    "r_dpo": (r_dpo, batches.pairs, frozenset({"logits"})),
    "harmonic": (
        harmonic,
        lambda seed: {
            "x": uniform(4, 3, seed=seed),
            "w": uniform(5, 3, seed=seed + 1),
            "labels": integers(4, high=5, seed=seed + 2),
        },
        frozenset({"x", "w"}),
    ),
    "z_loss": (z_loss, batches.classes, frozenset({"logits"})),
    "orthogonal_projection": (
        orthogonal_projection,
        lambda seed: {**batches.classes(seed, b=6, v=3), "features": uniform(6, 4, seed=seed + 2)},
        frozenset({"logits", "features"}),
    ),
    "decoupled_softmax": (
        decoupled_softmax,
        lambda seed: {
            "query": uniform(4, 3, seed=seed),
            "item": uniform(6, 3, seed=seed + 1),
            "relevant": (uniform(4, 6, seed=seed + 2) > 0.2) & (torch.arange(4) != 1)[:, None],
        },
        frozenset({"query", "item"}),
    ),
    "bags": (
        bags,
        lambda seed: {
            "pred": uniform(7, seed=seed),
            "member": integers(7, high=4, seed=seed + 1) + torch.tensor([-9, 0, 0, 0, 0, 0, 0]),
            "response": uniform(5, seed=seed + 2),
        },
        frozenset({"pred"}),
    ),
    "multi_similarity": (
        multi_similarity,
        lambda seed: {"x": uniform(7, 3, seed=seed), "labels": integers(7, high=3, seed=seed + 1)},
        frozenset({"x"}),
    ),
    "adaptive_activation": (
        adaptive_activation,
        lambda seed: {"scores": scores(4, 5, seed=seed), "hits": uniform(4, 5, seed=seed + 1) > 0},
        frozenset({"scores"}),
    ),
    "elementwise_regularisation": (
        elementwise_regularisation,
        _layers,
        frozenset({"logits", "lower", "upper"}),
    ),
    "quantile_crossing": (
        quantile_crossing,
        lambda seed: {
            "pred": uniform(5, 3, seed=seed),
            "levels": torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64),
            "target": uniform(5, seed=seed + 1),
        },
        frozenset({"pred"}),
    ),
}
"""Closed form, batch and the tensors that carry gradient, by file name."""
