"""Closed forms of the family `ce`: token weights, random losses, inputs that are guesses."""

from __future__ import annotations

import torch
from tests.oracles.batches import integers, logps, tokens, uniform
from tests.oracles.rows import kept
from tests.oracles.settings import sequence_logp
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import Tensors, of_setting, oracle
from torch import Tensor, nn


def with_reference(tensors: Tensors, seed: int) -> Tensors:
    return {"ref_logp": logps(*tensors["mask"].shape, seed=seed + 3) / 2}


@oracle("prior", batch=of_setting("tokens", with_reference), params=[{}, {"alpha": 0}, {"alpha": 2.5}])
def prior(tensors: Tensors, alpha: float = 1) -> Tensor:
    """The mean over captions of sum_t w_t nll_t / sum_t w_t,  w = (1 - p_ref)^alpha."""
    losses = []
    for i, row in enumerate(kept(tensors["labels"], tensors["mask"])):
        if bool(row.any()):
            nll = nn.functional.cross_entropy(tensors["logits"][i][row], tensors["labels"][i][row], reduction="none")
            w = (1 - tensors["ref_logp"][i][row].exp()) ** alpha
            losses.append((w * nll).sum() / w.sum())
    return torch.stack(losses).mean()


def margins(seed: int, variant: str) -> Tensors:
    """Scores and signs with the normal draws, some of which are beyond the bound."""
    b = 1 if variant == "odd" else 7
    return {
        "f": 3 * uniform(b, seed=seed), "y": 2.0 * integers(b, high=2, seed=seed + 1).double() - 1,
        "n": 2 * uniform(b, seed=seed + 2),
    }  # fmt: skip


@oracle("ens_loss", batch=margins, variants=("plain", "odd"), fuses=False)
def ens_loss(tensors: Tensors) -> Tensor:
    """mean g z: slopes -exp(n), at least -1, in the order of the margins, over z beyond 1."""
    z = tensors["y"] * tensors["f"]
    g = torch.zeros_like(z)
    g[z.detach().argsort()] = (-tensors["n"].exp()).clamp(min=-1).sort().values
    beyond = z.detach() > 1
    g[beyond] = g[beyond] / z.detach()[beyond]
    return ((g - 1e-6) * z).mean()


def causal(d: int, v: int) -> nn.Module:
    """A network in which every position also sees the mean of those up to it."""

    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.here, self.past = nn.Linear(d, v), nn.Linear(d, v)

        def forward(self, x: Tensor) -> Tensor:
            before = x.cumsum(1) / (1 + torch.arange(x.shape[1])).to(x).unsqueeze(-1)
            return 3 * (self.here(x) + torch.tanh(self.past(before)))

    net = Causal().double()
    with torch.no_grad():
        for at, weight in enumerate(net.parameters()):
            weight.copy_(uniform(*weight.shape, seed=70 + at))
    return net


def with_inputs(seed: int, variant: str) -> Tensors:
    """Texts whose first tokens are the prompt, which has no labels, and whose labels are the next inputs."""
    b, t, v, d = (1, 3, 11, 2) if variant == "odd" else (3, 6, 7, 4)
    inputs = integers(b, t + 1, high=v, seed=seed)
    labels = inputs[:, 1:].clone()
    labels[:, : t // 3] = -100
    if variant == "masked":
        labels[1] = -100
        labels[2, -2:] = -1
    return {
        "net": causal(d, v), "table": uniform(v, d, seed=seed + 1),
        "inputs": inputs[:, :-1].clone(), "labels": labels,
    }  # fmt: skip


@oracle(
    "ift", batch=with_inputs, params=[{}, {"lambda": 0, "gamma": 0}, {"lambda": 1, "gamma": 0.5}],
    fuses=False,
)  # fmt: skip
def ift(tensors: Tensors, gamma: float = 0.95, **others: float) -> Tensor:
    """The mean over answers of w_t nll_t, w the discounted sum of what follows, at inputs mixed with guesses."""
    lam, net, labels = others.get("lambda", 0.2), tensors["net"], tensors["labels"]
    e = tensors["table"][tensors["inputs"]]
    guesses = net(e).detach().argmax(-1)
    mixed = e.clone()
    for b in range(labels.shape[0]):
        for t in range(1, labels.shape[1]):
            if int(labels[b, t - 1]) >= 0:
                mixed[b, t] = (1 - lam) * e[b, t] + lam * tensors["table"][guesses[b, t - 1]]
    logits, losses = net(mixed), []
    for b, row in enumerate(labels >= 0):
        if not bool(row.any()):
            continue
        nll = nn.functional.cross_entropy(logits[b][row], labels[b][row], reduction="none")
        n = len(nll)
        w = torch.stack([sum(gamma ** (j - i) * nll[j] for j in range(i, n)) for i in range(n)]) if gamma else None
        losses.append(nll.mean() if w is None else (w / w.mean() * nll).mean())
    return torch.stack(losses).mean()


def text_and_own(seed: int, variant: str) -> Tensors:
    """A text, and what the model has written by itself with a reward for each."""
    b, t, v = (1, 3, 11) if variant == "odd" else (3, 6, 4)
    streams = {"text": tokens(seed, b, t, v), "own": tokens(seed + 10, b + 1, t + 1, v)}
    if variant == "masked":
        streams = {name: hidden(ignored(inner)) for name, inner in streams.items()}
    reward = -(1 + uniform(b + 1, seed=seed + 20)) / 2
    return {f"{s}.{name}": x for s, inner in streams.items() for name, x in inner.items()} | {"reward": reward}


@oracle("implicit_unlikelihood", batch=text_and_own, params=[{}, {"alpha": 0.3, "beta": 5}])
def implicit_unlikelihood(tensors: Tensors, alpha: float = 1, beta: float = 1) -> Tensor:
    """-log p(y_t) - alpha sum over earlier other tokens of log(1 - p(c)) - beta (R - mean R) log pi(y)."""
    logits, labels = tensors["text.logits"], tensors["text.labels"]
    likelihood, unlikelihood = [], []
    for b, row in enumerate(kept(labels, tensors["text.mask"])):
        at = [t for t in range(len(row)) if bool(row[t])]
        for i, t in enumerate(at):
            logp = logits[b, t].log_softmax(-1)
            unwanted = {int(labels[b, u]) for u in at[:i]} - {int(labels[b, t])}
            likelihood.append(-logp[labels[b, t]])
            unlikelihood.append(-sum((1 - logp[c].exp()).log() for c in unwanted) + 0 * logp[0])
    rows = list(zip(*(tensors[f"own.{name}"] for name in ("logits", "labels", "mask")), strict=True))
    found = [sequence_logp(*row) for row in rows]
    gain = tensors["reward"] - tensors["reward"].mean()
    policy = torch.stack([-gain[i] * logp for i, logp in enumerate(found) if logp is not None]).mean()
    return torch.stack(likelihood).mean() + alpha * torch.stack(unlikelihood).mean() + beta * policy


@oracle(
    "shaped_prediction",
    batch=of_setting("tokens"),
    params=[{"k": 2}, {"beta": 0, "k": 3, "lambda_top": 0.5, "lambda_tail": 0.2}, {"beta": 0.5, "k": 1}],
    stays="`rank` needs the whole row at once",
)
def shaped_prediction(
    tensors: Tensors, beta: float = -0.25, k: float = 100, lambda_top: float = 0, lambda_tail: float = -0.1
) -> Tensor:
    """-(1 - p_y)^beta log p_y - lambda_top sum of the k likeliest wrong p - lambda_tail sum of the others."""
    losses = []
    keep = kept(tensors["labels"], tensors["mask"])
    for z, y in zip(tensors["logits"][keep], tensors["labels"][keep].tolist(), strict=True):
        p = z.softmax(-1)
        wrong = [v for v in z.detach().argsort(descending=True).tolist() if v != y]
        top, tail = p[wrong[: int(k)]].sum(), p[wrong[int(k) :]].sum()
        losses.append(-((1 - p[y]) ** beta).detach() * p[y].log() - lambda_top * top - lambda_tail * tail)
    return torch.stack(losses).mean()


def with_sequence_reference(tensors: Tensors, seed: int) -> Tensors:
    return {"ref_logp": logps(len(tensors["labels"]), seed=seed + 3, size=tensors["labels"].shape[1])}


@oracle("minor_sft", batch=of_setting("tokens", with_sequence_reference), params=[{}, {"beta": 0.5, "m": 1}])
def minor_sft(tensors: Tensors, beta: float = 0.04, m: float = 2) -> Tensor:
    """-m / (beta |y|) log sigma(beta log(pi / ref)) of each answer."""
    losses = []
    for i, row in enumerate(kept(tensors["labels"], tensors["mask"])):
        if bool(row.any()):
            nll = nn.functional.cross_entropy(tensors["logits"][i][row], tensors["labels"][i][row], reduction="sum")
            ratio = -nll - tensors["ref_logp"][i]
            losses.append(m / (beta * int(row.sum())) * (1 + (-beta * ratio).exp()).log())
    return torch.stack(losses).mean()
