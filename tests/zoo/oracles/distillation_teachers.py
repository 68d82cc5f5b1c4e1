"""Closed forms of the family `distillation`: rankings, mean teachers, teachers of which little is known."""

from __future__ import annotations

import torch
from tests.oracles.batches import classes, scores, uniform
from tests.specs.variants import ignored
from tests.zoo.harness import Tensors, of_setting, oracle
from tests.zoo.oracles.distillation import kl, with_teacher
from torch import Tensor


def ranked(seed: int, variant: str) -> Tensors:
    b, k, d = (1, 3, 5) if variant == "odd" else (3, 4, 3)
    teacher = scores(b, k, seed=seed + 2).sort(-1, descending=True).values
    return {"query": uniform(b, d, seed=seed), "key": uniform(b, k, d, seed=seed + 1), "teacher": teacher}


@oracle(
    "llm_embedder", batch=ranked, variants=("plain", "odd"), fuses=False,
    params=[{"tau": 0.3}, {"tau": 1, "w_c": 0, "w_d": 2}, {"distil": "kl", "tau": 0.5, "T_t": 2, "T_s": 0.7}],
)  # fmt: skip
def llm_embedder(
    tensors: Tensors,
    distil: str = "stable",
    tau: float = 0.01,
    T_t: float = 1,  # noqa: N803
    T_s: float = 1,  # noqa: N803
    w_c: float = 1,
    w_d: float = 1,
) -> Tensor:
    """InfoNCE + sum_i w_i -log(e^{s_i} / sum e^{s_j}) over all texts of the batch but those that rank before i."""
    query, key, losses = tensors["query"], tensors["key"], []
    k = key.shape[1]
    flat = key.reshape(-1, key.shape[-1])
    for b in range(len(query)):
        s = flat @ query[b] / tau
        own = s[b * k : (b + 1) * k]
        loss = w_c * -s.log_softmax(-1)[b * k]
        if distil == "kl":
            loss = loss + w_d * kl(tensors["teacher"][b] / T_t, own / T_s)
        else:
            w = tensors["teacher"][b].softmax(-1)
            for i in range(k):
                seen = torch.ones(len(s), dtype=torch.bool)
                seen[b * k : b * k + i] = False
                loss = loss + w_d * w[i] * (s[seen].logsumexp(-1) - own[i])
        losses.append(loss)
    return torch.stack(losses).mean()


def adapting(seed: int, variant: str) -> Tensors:
    """Two views of test rows with features, class prototypes, and labelled rows of the source."""
    b, v, d = (1, 11, 5) if variant == "odd" else (3, 7, 4)
    source = classes(seed + 10, 2 if variant == "odd" else 4, v)
    source = ignored(source) if variant == "masked" else source
    return {
        "logits": scores(b, 2, v, seed=seed), "teacher": scores(b, v, seed=seed + 1),
        "feature": uniform(b, 2, d, seed=seed + 2), "prototypes": uniform(v, d, seed=seed + 3),
        **{f"source.{name}": x for name, x in source.items()},
    }  # fmt: skip


@oracle("rmt", batch=adapting, params=[{}, {"l_cl": 0.3, "l_ce": 0, "tau": 0.5}], stays="products of all pairs")
def rmt(tensors: Tensors, l_cl: float = 1, l_ce: float = 1, tau: float = 0.1) -> Tensor:
    """(H(q, p) + H(p, q)) / 4 of two views + the contrast of prototype, view and view + CE of the source."""
    q = tensors["teacher"]
    agree = torch.zeros(())
    for view in (0, 1):
        p = tensors["logits"][:, view]
        agree = agree - (q.softmax(-1) * p.log_softmax(-1) + p.softmax(-1) * q.log_softmax(-1)).sum(-1).mean() / 4
    x, proto = (torch.nn.functional.normalize(tensors[name], dim=-1) for name in ("feature", "prototypes"))
    nearest = (x[:, 0] @ proto.T).argmax(-1)
    sets = torch.stack([proto[nearest], x[:, 0], x[:, 1]], 1).reshape(-1, x.shape[-1])
    sim, terms = sets @ sets.T / tau, []
    for i in range(len(sets)):
        others = [j for j in range(len(sets)) if j != i]
        partners = [j for j in others if j // 3 == i // 3]
        terms.append(sim[i, others].logsumexp(-1) - sim[i, partners].mean())
    rows = tensors["source.labels"] >= 0
    source = torch.nn.functional.cross_entropy(tensors["source.logits"][rows], tensors["source.labels"][rows])
    return agree + l_cl * torch.stack(terms).mean() + l_ce * source


def with_sampled(tensors: Tensors, seed: int) -> Tensors:
    return {"teacher_logp": uniform(len(tensors["labels"]), seed=seed + 3) - 1.2}


@oracle("sel", batch=of_setting("classes", with_sampled), params=[{}, {"learner": "naive"}])
def sel(tensors: Tensors, learner: str = "sel") -> Tensor:
    """(log pi - log pi*)^2 at the label, or -pi* log pi."""
    rows = tensors["labels"] >= 0
    logp = tensors["logits"][rows].log_softmax(-1).gather(-1, tensors["labels"][rows].unsqueeze(-1)).squeeze(-1)
    known = tensors["teacher_logp"][rows]
    return ((logp - known) ** 2 if learner == "sel" else -known.exp() * logp).mean()


def with_two_heads(tensors: Tensors, seed: int) -> Tensors:
    return {**with_teacher(tensors, seed), "auxiliary": scores(*tensors["logits"].shape, seed=seed + 6)}


@oracle("dhkd", batch=of_setting("classes", with_two_heads), params=[{}, {"alpha": 0.3, "tau": 1}])
def dhkd(tensors: Tensors, alpha: float = 1, tau: float = 4) -> Tensor:
    """CE of one head + alpha tau^2 sum_k KL of sigmoids of the other."""
    rows = tensors["labels"] >= 0
    hard = torch.nn.functional.cross_entropy(tensors["logits"][rows], tensors["labels"][rows])
    p, s = torch.sigmoid(tensors["teacher"] / tau), torch.sigmoid(tensors["auxiliary"] / tau)
    apart = p * (p.log() - s.log()) + (1 - p) * ((1 - p).log() - (1 - s).log())
    return hard + alpha * tau**2 * apart.sum(-1).mean()


def crossed(seed: int, variant: str) -> Tensors:
    b, d = (2, 5) if variant == "odd" else (6, 3)
    return {
        "image": uniform(b, d, seed=seed), "text": uniform(b, d, seed=seed + 1), "teacher": scores(b, b, seed=seed + 2),
    }  # fmt: skip


@oracle("cprd", batch=crossed, params=[{}, {"m": 2, "tau": 0.5, "lambda": 3}], variants=("plain", "odd"), fuses=False)
def cprd(tensors: Tensors, m: float = 4, tau: float = 0.07, **others: float) -> Tensor:
    """InfoNCE both ways + lambda sum over the m hardest of -log(e^{s_i} / sum of it and of all behind it)."""
    x, y = (torch.nn.functional.normalize(tensors[name], dim=-1) for name in ("image", "text"))
    s, own = x @ y.T / tau, torch.arange(len(x))
    loss = (torch.nn.functional.cross_entropy(s, own) + torch.nn.functional.cross_entropy(s.T, own)) / 2
    for b in range(len(x)):
        wrong = sorted((j for j in range(len(x)) if j != b), key=lambda j: -float(tensors["teacher"][b, j]))
        for i, j in enumerate(wrong[: int(m)]):
            loss = loss + others.get("lambda", 1) * (s[b, wrong[i:]].logsumexp(-1) - s[b, j]) / len(x)
    return loss


def with_layers(tensors: Tensors, seed: int) -> Tensors:
    b = len(tensors["labels"])
    vectors = {"h_S": uniform(b, 4, seed=seed + 6), "h_T": uniform(b, 4, seed=seed + 7)}
    return {**with_teacher(tensors, seed), **vectors, "log_q": torch.tensor(0.3).double()}


@oracle(
    "mi_alpha",
    batch=of_setting("classes", with_layers),
    params=[{}, {"alpha": 0.2, "scale": 3, "kd": 0}],
    stays="all pairs",
)
def mi_alpha(tensors: Tensors, alpha: float = 0.9, scale: float = 10, kd: float = 1) -> Tensor:
    """CE + KD - I_alpha, I_alpha = 1 + E_joint log(e^f / mix) - E_indep e^f / mix,  mix = alpha mean e^f + (1 - alpha) q."""
    rows = tensors["labels"] >= 0
    hard = torch.nn.functional.cross_entropy(tensors["logits"][rows], tensors["labels"][rows])
    soft = 4 * kl(tensors["teacher"] / 2, tensors["logits"] / 2).mean()
    x, y = (torch.nn.functional.normalize(tensors[name], dim=-1) for name in ("h_T", "h_S"))
    power = (scale * x @ y.T).exp()
    mix = alpha * power.mean(-1) + (1 - alpha) * tensors["log_q"].exp()
    bound = 1 + (power.diagonal() / mix).log().mean() - (power / mix.unsqueeze(-1)).mean()
    return hard + kd * soft - bound
