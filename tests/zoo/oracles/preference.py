"""Closed forms of the family `preference`, each from the formula of its paper."""

from __future__ import annotations

import torch
from tests.oracles.batches import uniform
from tests.oracles.rows import mean
from tests.oracles.settings import pair_logps, sequence_length, sequence_logp
from tests.zoo.harness import Tensors, advanced, of_setting, oracle
from torch import Tensor

log_sigmoid = torch.nn.functional.logsigmoid


def pair_values(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log pi(y_w), log pi(y_l), log pi_ref(y_w), log pi_ref(y_l) of the pairs of which both responses are present."""
    rows, chosen, rejected = zip(*pair_logps(tensors["logits"], tensors["labels"], tensors["mask"]), strict=True)
    ref = tensors["ref_logp"][list(rows)]
    return torch.stack(chosen), torch.stack(rejected), ref[:, 0], ref[:, 1]


def pair_rows(tensors: Tensors) -> list[int]:
    """The pairs of which both responses are present."""
    return [row for row, _, _ in pair_logps(tensors["logits"], tensors["labels"], tensors["mask"])]


def pair_lengths(tensors: Tensors) -> tuple[Tensor, Tensor]:
    """|y_w| and |y_l| of those pairs."""
    labels, mask = tensors["labels"], tensors["mask"]
    sides = [[float(sequence_length(labels[i, s], mask[i, s])) for i in pair_rows(tensors)] for s in (0, 1)]
    return torch.tensor(sides[0]).double(), torch.tensor(sides[1]).double()


def log_ratios(tensors: Tensors) -> tuple[Tensor, Tensor]:
    """log(pi / pi_ref) of chosen and of rejected."""
    w, r, ref_w, ref_r = pair_values(tensors)
    return w - ref_w, r - ref_r


@oracle(
    "dpo_shift", batch=of_setting("pairs"), prepare=advanced(3),
    params=[{}, {"f_start": 0.5, "f_end": 0.5, "beta": 0.3}, {"f_start": 0.75, "f_end": 0.95, "over": 10},
            {"f_start": 0.75, "f_end": 0.95, "over": 2}],
)  # fmt: skip
def dpo_shift(
    tensors: Tensors, beta: float = 0.1, f_start: float = 0.95, f_end: float = 0.95, over: float = 1000
) -> Tensor:
    """-log sigma(beta (log pi(y_w) - f log pi(y_l)) - beta (log pi_ref(y_w) - f log pi_ref(y_l))), after three steps."""
    f = f_start + min(3 / over, 1) * (f_end - f_start)
    w, r, ref_w, ref_r = pair_values(tensors)
    return mean(-log_sigmoid(beta * (w - f * r) - beta * (ref_w - f * ref_r)))


@oracle(
    "f_dpo", batch=of_setting("pairs"),
    params=[{}, *({"divergence": name, "beta": 0.3} for name in ("forward_kl", "jsd", "alpha_divergence")),
            {"divergence": "alpha_divergence", "alpha": 0.3}],
)  # fmt: skip
def f_dpo(tensors: Tensors, beta: float = 0.1, alpha: float = 0.5, divergence: str = "reverse_kl") -> Tensor:
    """-log sigma(beta f'(u_w) - beta f'(u_l)), the four derivatives of the paper through log u."""
    slopes = {
        "reverse_kl": lambda log_u: log_u + 1,
        "forward_kl": lambda log_u: -torch.exp(-log_u),
        "jsd": lambda log_u: torch.log(torch.tensor(2.0).double()) - torch.log(1 + torch.exp(-log_u)),
        "alpha_divergence": lambda log_u: (1 - torch.exp(-alpha * log_u)) / alpha,
    }
    chosen, rejected = (slopes[divergence](log_u) for log_u in log_ratios(tensors))
    return mean(-log_sigmoid(beta * chosen - beta * rejected))


@oracle("discopop", batch=of_setting("pairs"), params=[{}, {"beta": 0.5, "tau": 0.3}])
def discopop(tensors: Tensors, beta: float = 0.05, tau: float = 0.05) -> Tensor:
    """(1 - m) (-log sigma(h)) + m exp(-h), h = beta margin, m = sigma(h / tau)."""
    chosen, rejected = log_ratios(tensors)
    h = beta * (chosen - rejected)
    m = 1 / (1 + torch.exp(-h / tau))
    return mean((1 - m) * -log_sigmoid(h) + m * torch.exp(-h))


@oracle("mipo", batch=of_setting("pairs"), params=[{}, {"beta": 2.0}])
def mipo(tensors: Tensors, beta: float = 10) -> Tensor:
    """-log sigma(beta ((avg log pi(y_w) - avg log pi(y_l)) - log(1 + e^K))), K of the averages of the reference."""
    w, r, ref_w, ref_r = pair_values(tensors)
    n_w, n_r = pair_lengths(tensors)
    k = ref_w / n_w - ref_r / n_r
    return mean(-log_sigmoid(beta * (w / n_w - r / n_r - torch.log(1 + torch.exp(k)))))


@oracle("r_dpo", batch=of_setting("pairs"), params=[{}, {"beta": 0.4, "alpha": 0.3}])
def r_dpo(tensors: Tensors, beta: float = 0.1, alpha: float = 0.05) -> Tensor:
    """-log sigma(beta (log-ratio of y_w - log-ratio of y_l) + alpha (|y_w| - |y_l|))."""
    chosen, rejected = log_ratios(tensors)
    n_w, n_r = pair_lengths(tensors)
    return mean(-log_sigmoid(beta * (chosen - rejected) + alpha * (n_w - n_r)))


@oracle("robust_dpo", batch=of_setting("pairs"), params=[{}, {"beta": 0.4, "eps": 0.35}, {"eps": 0}])
def robust_dpo(tensors: Tensors, beta: float = 0.1, eps: float = 0.1) -> Tensor:
    """((1 - eps) l(m) - eps l(-m)) / (1 - 2 eps), l(m) = -log sigma(m)."""
    chosen, rejected = log_ratios(tensors)
    m = beta * (chosen - rejected)
    return mean(((1 - eps) * -log_sigmoid(m) - eps * -log_sigmoid(-m)) / (1 - 2 * eps))


@oracle(
    "bfpo",
    batch=of_setting("pairs", lambda batch, seed: {"safe": uniform(*batch["ref_logp"].shape, seed=seed + 7) > 0}),
    params=[{}, {"beta": 0.3, "b1": 2, "alpha": 0.2}],
    rate=0.2,
)
def bfpo(tensors: Tensors, beta: float = 0.1, b1: float = 3, alpha: float = 0.5) -> Tensor:
    """(delta - (1 / beta) ((b1 s_w - s_l) / (b1 - 1) - alpha))^2, s = 1 for a safe response."""
    chosen, rejected = log_ratios(tensors)
    safe = tensors["safe"][pair_rows(tensors)].double()
    target = (b1 * safe[:, 0] - safe[:, 1]) / (b1 - 1) - alpha
    return mean((chosen - rejected - target / beta) ** 2)


def wins(batch: Tensors, seed: int) -> Tensors:
    return {"win": (uniform(*batch["ref_logp"].shape, seed=seed + 7) + 1) / 2}


@oracle("sppo", batch=of_setting("pairs", wins), params=[{}, {"eta": 3.0}], rate=0.5)
def sppo(tensors: Tensors, eta: float = 1000) -> Tensor:
    """(log(pi / pi_t) - eta (P(y > pi_t) - 1/2))^2, the mean over the responses that are present."""
    terms = []
    for i in range(tensors["labels"].shape[0]):
        for s in (0, 1):
            logp = sequence_logp(tensors["logits"][i, s], tensors["labels"][i, s], tensors["mask"][i, s])
            if logp is not None:
                terms.append((logp - tensors["ref_logp"][i, s] - eta * (tensors["win"][i, s] - 0.5)) ** 2)
    return mean(torch.stack(terms))


def strengths(batch: Tensors, seed: int) -> Tensors:
    return {"strength": (uniform(batch["ref_logp"].shape[0], seed=seed + 7) + 1) / 2}


@oracle("osp", batch=of_setting("pairs", strengths), params=[{}, {"beta": 0.5}])
def osp(tensors: Tensors, beta: float = 0.1) -> Tensor:
    """-(p log sigma(m) + (1 - p) log sigma(-m)), m = beta margin."""
    chosen, rejected = log_ratios(tensors)
    m, p = beta * (chosen - rejected), tensors["strength"][pair_rows(tensors)]
    return mean(-(p * log_sigmoid(m) + (1 - p) * log_sigmoid(-m)))


def last_round(batch: Tensors, seed: int) -> Tensors:
    """The log-probabilities of the policy of the last round, near those of the reference."""
    return {"last_logp": batch["ref_logp"] + uniform(*batch["ref_logp"].shape, seed=seed + 8) - 1}


@oracle("inpo", batch=of_setting("pairs", last_round), params=[{}, {"eta": 0.5, "tau": 0.2}, {"eta": 0.5, "tau": 0}])
def inpo(tensors: Tensors, eta: float = 0.0075, tau: float = 0.0025) -> Tensor:
    """(h - 1 / (2 eta))^2, h = log pi_w/pi_l - tau/eta log ref_w/ref_l - (eta - tau)/eta log last_w/last_l."""
    w, r, ref_w, ref_r = pair_values(tensors)
    last = tensors["last_logp"][pair_rows(tensors)]
    h = (w - r) - tau / eta * (ref_w - ref_r) - (eta - tau) / eta * (last[:, 0] - last[:, 1])
    return mean((h - 1 / (2 * eta)) ** 2)


@oracle("h_dpo", batch=of_setting("pairs"), params=[{}, {"alpha": 0.5, "beta": 0.4}])
def h_dpo(tensors: Tensors, beta: float = 0.1, alpha: float = 0.95) -> Tensor:
    """-log sigma(alpha beta (log pi(y_w) - log pi(y_l)) - beta (log pi_ref(y_w) - log pi_ref(y_l)))."""
    w, r, ref_w, ref_r = pair_values(tensors)
    return mean(-log_sigmoid(alpha * beta * (w - r) - beta * (ref_w - ref_r)))


def consistencies(batch: Tensors, seed: int) -> Tensors:
    return {"consistency": (uniform(batch["ref_logp"].shape[0], seed=seed + 7) + 1) / 2}


@oracle("cream", batch=of_setting("pairs", consistencies), params=[{}, {"beta": 0.5}])
def cream(tensors: Tensors, beta: float = 0.1) -> Tensor:
    """-c log sigma(m) - (1 - c) log sigma(-m), m = beta margin."""
    chosen, rejected = log_ratios(tensors)
    m, c = beta * (chosen - rejected), tensors["consistency"][pair_rows(tensors)]
    return mean(-c * log_sigmoid(m) - (1 - c) * log_sigmoid(-m))


def aligned_models(batch: Tensors, seed: int) -> Tensors:
    """Log-probabilities a token of three models."""
    return {"aligned": uniform(batch["labels"].shape[0], 3, seed=seed + 6) - 2}


@oracle("poft", batch=of_setting("tokens", aligned_models))
def poft(tensors: Tensors) -> Tensor:
    """-log sigma(1/M sum_j (r - r_j)), r = log p(y) / |y|."""
    losses = []
    for i in range(len(tensors["labels"])):
        row = (tensors["logits"][i], tensors["labels"][i], tensors["mask"][i])
        length = sequence_length(row[1], row[2])
        logp = sequence_logp(*row)
        if logp is not None and length:
            losses.append(-log_sigmoid((logp / length - tensors["aligned"][i]).mean()))
    return torch.stack(losses).mean()


def judged(tensors: Tensors) -> tuple[Tensor, Tensor]:
    """The rows of the sequences that are present, and their log(pi / pi_ref)."""
    found = []
    for i in range(tensors["labels"].shape[0]):
        logp = sequence_logp(tensors["logits"][i], tensors["labels"][i], tensors["mask"][i])
        if logp is not None:
            found.append((i, logp - tensors["ref_logp"][i]))
    return torch.tensor([i for i, _ in found]), torch.stack([ratio for _, ratio in found])


@oracle("kto", batch=of_setting("unpaired"), params=[{}, {"beta": 0.4, "lambda_D": 1.2, "lambda_U": 0.7}])
def kto(tensors: Tensors, beta: float = 0.1, lambda_D: float = 1, lambda_U: float = 1) -> Tensor:  # noqa: N803
    """lambda_y - v, v = lambda_D sigma(beta (r - z0)) if desirable else lambda_U sigma(beta (z0 - r))."""
    rows, ratio = judged(tensors)
    z0 = max(0.0, float((tensors["kl_logp"] - tensors["kl_ref_logp"]).mean()))
    good = tensors["desirable"][rows]
    gain = lambda_D - lambda_D * torch.sigmoid(beta * (ratio - z0))
    loss = lambda_U - lambda_U * torch.sigmoid(beta * (z0 - ratio))
    return mean(torch.where(good, gain, loss))


def shifted(batch: Tensors, seed: int) -> Tensors:
    """`unpaired` needs no mismatched responses; prompts weigh, and the shift is where some steps have brought it."""
    weight = torch.exp(uniform(batch["ref_logp"].shape[0], seed=seed + 8))
    return {"weight": weight, "delta": torch.tensor(0.37, dtype=torch.float64)}


@oracle("bco", batch=of_setting("unpaired", shifted), params=[{}, {"beta": 0.5}])
def bco(tensors: Tensors, beta: float = 0.1) -> Tensor:
    """-E_D+ log sigma(r - delta) - E_D- w log sigma(-(r - delta)), r = beta log(pi / pi_ref)."""
    rows, ratio = judged(tensors)
    good, reward = tensors["desirable"][rows], beta * ratio - tensors["delta"]
    weight = tensors["weight"][rows]
    return mean(-log_sigmoid(reward[good])) + mean(-weight[~good] * log_sigmoid(-reward[~good]))
