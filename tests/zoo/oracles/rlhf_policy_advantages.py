"""Closed forms of the family `rlhf_policy` whose news is how a token or an answer is weighted, one token at a time."""

from __future__ import annotations

import math

import torch
from tests.oracles.batches import integers, rollouts, tokens, uniform
from tests.oracles.rows import kept, mean
from tests.oracles.settings import advantages, sequence_logp
from tests.specs.variants import hidden, ignored
from tests.zoo.harness import ODD, Objective, Tensors, of_setting, oracle
from tests.zoo.oracles.rlhf_policy import binary_reward, clipped, stream, token_logp
from torch import Tensor


def surrogate(tensors: Tensors, advantage: Tensor, low: float = 0.2, high: float = 0.2) -> Tensor:
    """The clipped loss of every admitted token, flat; the advantage is of an answer or of a token."""
    keep = kept(tensors["labels"], tensors["mask"])
    each = advantage if advantage.dim() == 3 else advantage.unsqueeze(-1).expand(keep.shape)
    return clipped(token_logp(tensors, keep) - tensors["old_logp"][keep], each[keep], low, high)


@oracle(
    "steer",
    batch=of_setting("rollouts"),
    params=[{}, {"map": "exponential", "lowest": 0.5}, {"lowest": 1, "highest": 1, "eps_high": 0.2}],
)
def steer(
    tensors: Tensors,
    eps_low: float = 0.2,
    eps_high: float = 0.28,
    map: str = "linear",
    lowest: float = 0.8,
    highest: float = 1.2,
) -> Tensor:
    """w(|Omega|) of the clipped loss, Omega = A / pi_old p (1 - p) (log p + H), w falling from highest to lowest."""
    keep = kept(tensors["labels"], tensors["mask"])
    A = advantages(tensors["reward"])  # noqa: N806
    losses = surrogate(tensors, A, eps_low, eps_high)
    with torch.no_grad():
        logp = token_logp(tensors, keep)
        z = tensors["logits"][keep]
        entropy = -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)
        p, old = logp.exp(), tensors["old_logp"][keep].exp()
        omega = (A.unsqueeze(-1).expand(keep.shape)[keep] / old * p * (1 - p) * (logp + entropy)).abs()
        if map == "exponential":
            w = torch.exp(math.log(lowest) / max(float(omega.max()), 0.02) * omega)
        elif omega.max() > omega.min():
            w = highest - (highest - lowest) * (omega - omega.min()) / (omega.max() - omega.min())
        else:
            w = torch.full_like(omega, (lowest + highest) / 2)
    return mean(w * losses)


def with_answers(tensors: Tensors, seed: int) -> Tensors:
    """Final answers, of which the last question has one only."""
    answers = integers(*tensors["reward"].shape, high=3, seed=seed + 11)
    answers[-1] = 1
    return {**binary_reward(tensors, seed), "answers": answers}


@oracle(
    "copo",
    batch=of_setting("rollouts", with_answers, q=3, sample=4),
    params=[{}, {"k": 4, "b": 1, "eps": 0.1}],
    stays="rows are gathered into `answer`",
)
def copo(tensors: Tensors, eps: float = 0.2, k: float = 1, b: float = 0.5) -> Tensor:
    """w L(A_local) + (1 - w) L(A_global),  w = sigma(k (H - b)), 0 where the rewards are equal."""
    reward = tensors["reward"]
    G = reward.shape[1]  # noqa: N806
    entropies, worth = [], []
    for r, answers in zip(reward, tensors["answers"].tolist(), strict=True):
        shares = [answers.count(a) / G for a in set(answers)]
        H = -sum(s * math.log2(s) for s in shares)  # noqa: N806
        entropies.append(H)
        worth.append(float(r.mean()) * (1 - (1 - 1 / G) / math.log2(G) * H))
    R = torch.tensor(worth, dtype=torch.float64)  # noqa: N806
    spread = reward.std(-1)
    local = (reward - reward.mean(-1, keepdim=True)) / (spread.unsqueeze(-1) + 1e-6)
    between = (R - R.mean()) / (R.std() + 1e-6) if len(R) > 1 else torch.zeros(1).double()
    w = torch.sigmoid(k * (torch.tensor(entropies, dtype=torch.float64) - b)) * (spread > 0)
    keep = kept(tensors["labels"], tensors["mask"])
    each = w[:, None, None].expand(keep.shape)[keep]
    whole = between.unsqueeze(-1).expand(reward.shape)
    return mean(each * surrogate(tensors, local, eps, eps) + (1 - each) * surrogate(tensors, whole, eps, eps))


def own_and_warm(seed: int, variant: str) -> Tensors:
    """Rollouts for the clipped loss, and answers sampled at another temperature with rewards that are not negative."""
    q, sample, b, t, v = (1, 3, 1, 3, 11) if variant == "odd" else (2, 3, 3, 4, 5)
    own, warm = rollouts(seed, q, sample, t, v), tokens(seed + 20, b, t + 1, v)
    reward = 1 + uniform(b, seed=seed + 30)
    if variant == "masked":
        own, warm = hidden(ignored(own)), hidden(ignored(warm))
    streams = {"own": own, "warm": warm}
    return {f"{s}.{name}": x for s, inner in streams.items() for name, x in inner.items()} | {"warm_reward": reward}


@oracle("aepo", batch=own_and_warm, params=[{}, {"alpha": 1, "eps_high": 0.2}])
def aepo(tensors: Tensors, eps_low: float = 0.2, eps_high: float = 0.28, alpha: float = 0.01, **_: float) -> Tensor:
    """The loss of GRPO less alpha E[R log pi(o)] over answers sampled at another temperature."""
    own, warm = stream(tensors, "own"), stream(tensors, "warm")
    gains = []
    for i, row in enumerate(zip(warm["logits"], warm["labels"], warm["mask"], strict=True)):
        logp = sequence_logp(*row)
        if logp is not None:
            gains.append(tensors["warm_reward"][i] * logp)
    return mean(surrogate(own, advantages(own["reward"]), eps_low, eps_high)) - alpha * torch.stack(gains).mean()


def with_bundles(tensors: Tensors, seed: int) -> Tensors:
    """Bundles of up to two questions, and quantiles that rewards fall on every side of."""
    bundles = torch.arange(tensors["reward"].shape[0]) // 2
    return {"bundles": bundles, "q_a": torch.tensor(-0.3).double(), "q_b": torch.tensor(0.4).double()}


@oracle(
    "risk_po",
    batch=of_setting("rollouts", with_bundles, q=3, sample=4),
    params=[{}, {"a": 0.1, "b": 0.5, "w": 0, "eps": 0.1}],
)
def risk_po(
    tensors: Tensors, eps: float = 0.2, a: float = 0.2, b: float = 0.8, w: float = 1.5, eta: float = 0.1
) -> Tensor:
    """The clipped loss with (w A_cvar + A_rvar) / (w + 1) of the summed rewards of a bundle."""
    reward, bundles = tensors["reward"], tensors["bundles"].tolist()
    low, high = float(tensors["q_a"]), float(tensors["q_b"])
    A = torch.zeros_like(reward)  # noqa: N806
    for i, bundle in enumerate(bundles):
        for j in range(reward.shape[1]):
            s = sum(float(reward[k, j]) for k, other in enumerate(bundles) if other == bundle)
            rvar = (max(s - low, 0) - max(s - high, 0) + low - high) / (b - a)
            cvar = -max(low - s, 0) / a
            A[i, j] = (w * cvar + rvar) / (w + 1)
    return mean(surrogate(tensors, A, eps, eps))


def with_draws(tensors: Tensors, seed: int) -> Tensors:
    shape = tensors["reward"].shape
    return {"A": uniform(*tensors["mask"].shape, seed=seed + 7), "u": (uniform(*shape, seed=seed + 8) + 1) / 2}


@oracle(
    "pf_ppo",
    batch=of_setting("rollouts", with_draws, q=3, sample=4),
    params=[{}, {"keep": "best_worst"}, {"keep": "best_worst_random"}, {"keep": "all", "eps": 0.1}],
)
def pf_ppo(tensors: Tensors, keep: str = "best_random", eps: float = 0.2) -> Tensor:
    """The clipped loss of the answers that the filter keeps, each answer alike."""
    present = kept(tensors["labels"], tensors["mask"])
    losses = []
    for q, rewards in enumerate(tensors["reward"].tolist()):
        order = sorted(range(len(rewards)), key=lambda j: -rewards[j])
        ends = {"best_random": order[:1], "all": order}.get(keep, [order[0], order[-1]])
        spare = [j for j in order if j not in ends]
        lucky = sorted(spare, key=lambda j: float(tensors["u"][q, j]))[:1] if keep.endswith("random") else []
        for j in {*ends, *lucky}:
            row = present[q, j]
            if bool(row.any()):
                one = {name: tensors[name][q, j] for name in ("logits", "labels")}
                log_ratio = token_logp(one, row) - tensors["old_logp"][q, j][row]
                losses.append(clipped(log_ratio, tensors["A"][q, j][row], eps, eps).mean())
    return torch.stack(losses).mean()


def probed(seed: int, variant: str) -> Tensors:
    x, answer, d = (1, 3, ODD["d"]) if variant == "odd" else (3, 4, 5)
    reward = (integers(x, answer, high=2, seed=seed + 1)).double()
    return {
        "h": uniform(x, answer, d, seed=seed), "r": reward,
        "w": uniform(d, seed=seed + 2), "c": torch.tensor(0.2).double(),
    }  # fmt: skip


@oracle(
    "q_probe", batch=probed, params=[{}, {"beta": 0.3}, {"loss": "mse"}, {"loss": "ce"}], variants=("plain", "odd"),
    load={"sizes": {"d": 5}}, fuses=False,
)  # fmt: skip
def q_probe(tensors: Tensors, loss: str = "pg", beta: float = 1) -> Tensor:
    """-E sum_j r_j softmax_j(Q / beta), or a fit of Q to r."""
    Q, r = tensors["h"] @ tensors["w"] + tensors["c"], tensors["r"]  # noqa: N806
    if loss == "pg":
        return -((Q / beta).softmax(-1) * r).sum(-1).mean()
    if loss == "mse":
        return ((Q - r) ** 2).mean()
    return torch.nn.functional.binary_cross_entropy_with_logits(Q, r)


def with_teacher_logp(tensors: Tensors, seed: int) -> Tensors:
    mask = tensors["mask"]
    plain = tensors["old_logp"] + uniform(*mask.shape, seed=seed + 7)
    return {"teacher_logp": torch.where(mask, plain, torch.nan)}


def a_quarter(objective: Objective, tensors: Tensors) -> None:
    """Brings the run to its first quarter."""
    objective.total_steps = 8
    for _ in range(2 - objective.step):
        objective.advance()


@oracle(
    "kdrl",
    batch=of_setting("rollouts", with_teacher_logp),
    params=[{}, {"kl": "k3", "first": 1, "last": 0.2}, {"distil": "guided", "first": 3}],
    prepare=a_quarter,
)
def kdrl(
    tensors: Tensors,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    first: float = 0.005,
    last: float = 0.001,
    kl: str = "k2",
    distil: str = "all",
) -> Tensor:
    """The loss of GRPO + beta (k2 or k3) of log(pi / pi_T), beta falling linearly; here at a quarter of the run."""
    keep = kept(tensors["labels"], tensors["mask"])
    gap = token_logp(tensors, keep) - tensors["teacher_logp"][keep]
    apart = gap**2 / 2 if kl == "k2" else (-gap).exp() + gap - 1
    wrong = (tensors["reward"] <= 0).unsqueeze(-1).expand(keep.shape)[keep]
    taught = apart if distil == "all" else torch.where(wrong, apart, 0.0)
    policy = surrogate(tensors, advantages(tensors["reward"]), eps_low, eps_high)
    return mean(policy) + (0.75 * first + 0.25 * last) * mean(taught)


def with_base(tensors: Tensors, seed: int) -> Tensors:
    base = tensors["logits"] + uniform(*tensors["logits"].shape, seed=seed + 7)
    return {"base": torch.where(tensors["mask"].unsqueeze(-1), base, torch.nan)}


@oracle("superhf", batch=of_setting("rollouts", with_base, q=3, sample=4), params=[{}, {"k": 3, "beta": 1}])
def superhf(tensors: Tensors, k: float = 1, beta: float = 0.35) -> Tensor:
    """CE of the best answers + beta KL(base, pi) of their tokens."""
    keep, nll, apart = kept(tensors["labels"], tensors["mask"]), [], []
    for q, rewards in enumerate(tensors["reward"].tolist()):
        for j in sorted(range(len(rewards)), key=lambda j: -rewards[j])[: int(k)]:
            row = keep[q, j]
            if bool(row.any()):
                nll.append(-token_logp({n: tensors[n][q, j] for n in ("logits", "labels")}, row))
                before, now = (tensors[n][q, j][row].log_softmax(-1) for n in ("base", "logits"))
                apart.append((before.exp() * (before - now)).sum(-1).mean())
    return mean(torch.cat(nll)) + beta * torch.stack(apart).mean()


@oracle(
    "apo",
    batch=of_setting("rollouts", q=3, sample=4),
    params=[
        {},
        {"solved": 0, "beta": 1, "grow": 1.5},
        {"solved": -0.4, "beta": 2, "steep": 0.5, "grow": 1, "eps": 0.1},
    ],
)
def apo(
    tensors: Tensors,
    eps: float = 0.2,
    beta: float = 0.001,
    solved: float = 1,
    steep: float = math.e,
    grow: float = 1.00001,
) -> Tensor:
    """GRPO + beta k3, a mean over answers of means over tokens, each answer with a weight of its own in either part."""
    keep, policy, drift = kept(tensors["labels"], tensors["mask"]), [], []
    A = advantages(tensors["reward"]).tolist()  # noqa: N806
    for q, rewards in enumerate(tensors["reward"].tolist()):
        lengths = [int(row.sum()) for row in tensors["mask"][q]]
        right = [n for n, r in zip(lengths, rewards, strict=True) if r >= solved]
        p = len(right) / len(rewards)
        for j, (n, r) in enumerate(zip(lengths, rewards, strict=True)):
            excess = max(n - sum(right) / len(right), 0) if right and r < solved else 0
            weight = 1 + (1 - grow**-excess)
            hold = 1 - math.exp(-steep * p) if A[q][j] > 0 and 0 < p < 1 else 1
            row = keep[q, j]
            if bool(row.any()):
                logp = token_logp({name: tensors[name][q, j] for name in ("logits", "labels")}, row)
                gain = torch.tensor(weight * A[q][j], dtype=logp.dtype)
                policy.append(clipped(logp - tensors["old_logp"][q, j][row], gain, eps, eps).mean())
                gap = tensors["ref_logp"][q, j][row] - logp
                drift.append(hold * (gap.exp() - gap - 1).mean())
    return torch.stack(policy).mean() + beta * torch.stack(drift).mean()


@oracle(
    "rapo",
    batch=of_setting("rollouts", q=3),
    params=[{}, {"alpha": 1, "beta": 0.5, "least": 0.3, "eps_low": 0.1, "eps_high": 0.3}, {"alpha": 2, "least": 1}],
)
def rapo(
    tensors: Tensors,
    alpha: float = 0.001,
    beta: float = 0.001,
    least: float = 0.9,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
) -> Tensor:
    """GRPO + alpha (rho log rho - rho + 1) - beta H, a mean over answers of means over tokens."""
    keep, losses = kept(tensors["labels"], tensors["mask"]), []
    A = advantages(tensors["reward"])  # noqa: N806
    for q, rewards in enumerate(tensors["reward"].tolist()):
        for j, r in enumerate(rewards):
            row = keep[q, j]
            if bool(row.any()):
                z = tensors["logits"][q, j][row].log_softmax(-1)
                logp = z.gather(-1, tensors["labels"][q, j][row].unsqueeze(-1)).squeeze(-1)
                phi = least + (1 - least) * min(max(r, 0.0), 1.0)
                rho = (phi * tensors["ref_logp"][q, j][row] - logp).exp()
                apart = rho * rho.log() - rho + 1
                policy = clipped(logp - tensors["old_logp"][q, j][row], A[q, j], eps_low, eps_high)
                losses.append((policy + alpha * apart + beta * (z.exp() * z).sum(-1)).mean())
    return torch.stack(losses).mean()
