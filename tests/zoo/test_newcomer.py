"""Published objectives of one label a row and of policies, written by a newcomer from the pages alone."""

from __future__ import annotations

import pytest
import torch
from tests.oracles.batches import classes, integers, logps, scores, uniform
from tests.specs.variants import ignored
from tests.zoo.harness import Tensors
from tests.zoo.newcomer import assert_equals, behind, cross_entropy, over_classes
from torch import Tensor

ELR = """
\"\"\"Early learning: a running target of each example, from its own earlier answers. Liu et al. 2020.\"\"\"
objective elr
use std.settings.classes
axis example
data id : label[b] in example
param beta : unit   = 0.7
param lam  : nonneg = 3

let p   = softmax[v](logits)
let now = beta * target[example = id] + (1 - beta) * sg(p)
state target : real[example, v] = 0 then mean[b by id](now)

minimize
  ce  : mean[b](nll)
  elr : lam * mean[b](log(1 - dot[v](now, p)))
"""


@over_classes
def test_early_learning_regularisation(backend: str) -> None:
    held = uniform(6, 7, seed=8).softmax(-1)
    batch = ignored(classes(3)) | {"id": torch.tensor([4, 2, 0, 5, 1]), "target": held}

    def now(t: Tensors) -> Tensor:
        return 0.7 * held[t["id"]] + 0.3 * t["logits"].softmax(-1).detach()

    def closed(t: Tensors) -> Tensor:
        met = (now(t) * t["logits"].softmax(-1)).sum(-1)
        rows = t["labels"] >= 0
        return cross_entropy(t["logits"][rows], t["labels"][rows]) + 3 * (1 - met).log().mean()

    found = assert_equals(ELR, batch, closed, backend=backend, sizes={"example": 6, "v": 7}, warnings=["W201"])
    found.advance()
    expected = held.clone()
    expected[batch["id"]] = now(batch)
    torch.testing.assert_close(found.state["target"], expected)


SEESAW = """
\"\"\"Negatives of rare classes are mitigated, mistaken ones compensated. Wang et al. 2021.\"\"\"
objective seesaw
use std.settings.classes
data n : positive[v]  # examples of each class so far
param p : nonneg = 0.8
param q : nonneg = 2

let share      = softmax[v](logits)
let mitigate   = (n / n[v = labels])^p if n < n[v = labels] else 1
let odds       = sg(share / share[v = labels])
let compensate = odds^q if odds > 1 else 1

minimize
  seesaw : mean[b](-log(exp(logits)[v = labels] / sum[v](mitigate * compensate * exp(logits))))
"""


@over_classes
def test_seesaw(backend: str) -> None:
    batch = ignored(classes(3, b=6)) | {"n": 50 * (1.1 + uniform(7, seed=5))}

    def closed(t: Tensors) -> Tensor:
        losses = []
        for z, y in zip(t["logits"], t["labels"].tolist(), strict=True):
            if y < 0:
                continue
            p = z.softmax(-1).detach()
            total = z[y].exp()
            for j in range(7):
                if j != y:
                    mitigate = min(1.0, float(t["n"][j] / t["n"][y])) ** 0.8
                    compensate = max(1.0, float(p[j] / p[y])) ** 2
                    total = total + mitigate * compensate * z[j].exp()
            losses.append(total.log() - z[y])
        return torch.stack(losses).mean()

    assert_equals(SEESAW, batch, closed, backend=backend, warnings=["W201"])


LOVASZ = """
\"\"\"The Lovasz extension of the Jaccard loss of each class, over the pixels of each image. Berman et al. 2018.\"\"\"
objective lovasz_softmax
axis b : batch
axis pixel
axis c
input logits : logits[b, pixel, c]
data  labels : label[b, pixel] in c

let p        = softmax[c](logits)
let own      = index[c] == labels
let error    = 1 - p if own else p
let sorted   = -sort[pixel -> r where labels >= 0](-error)
let hit      = sort[pixel -> r where labels >= 0](own, by = -error)
let all_own  = sum[pixel](own)
let jaccard  = 1 - (all_own - cumsum[r](hit)) / (all_own + cumsum[r](1 - hit))
let slope    = jaccard - shift[r](jaccard, 1, fill = 0)

minimize
  lovasz : mean[b](mean[c where all_own > 0](sum[r](sorted * slope)))
"""


def jaccard_slopes(hit: Tensor) -> Tensor:
    """The increments of the Jaccard loss as pixels are taken in the order of their errors."""
    losses = [0.0]
    for taken in range(1, len(hit) + 1):
        inter, union = hit[taken:].sum(), hit.sum() + (1 - hit[:taken]).sum()
        losses.append(float(1 - inter / union))
    return torch.tensor(losses, dtype=torch.float64).diff()


@over_classes
def test_the_lovasz_extension(backend: str) -> None:
    batch = ignored({"logits": scores(3, 7, 4, seed=1), "labels": integers(3, 7, high=4, seed=2)})
    batch["logits"] = behind(batch["logits"], batch["labels"] >= 0)

    def closed(t: Tensors) -> Tensor:
        images = []
        for z, y in zip(t["logits"], t["labels"], strict=True):
            p, y = z[y >= 0].softmax(-1), y[y >= 0]
            parts = []
            for c in y.unique().tolist():
                hit = (y == c).double()
                error, order = (hit - p[:, c]).abs().sort(descending=True)
                parts.append((error * jaccard_slopes(hit[order])).sum())
            images.append(torch.stack(parts).mean())
        return torch.stack(images).mean()

    assert_equals(LOVASZ, batch, closed, backend=backend)


BI_TEMPERED = """
\"\"\"The bi-tempered logistic loss: a tempered logarithm of a softmax with heavy tails. Amid et al. 2019.\"\"\"
objective bi_tempered
axis b : batch
axis v
input logits : logits[b, v]
data  labels : label[b] in v
param t1 : real in [0, 0.99]  = 0.8
param t2 : real in [1.01, 4] = 1.3

term log_t(x : nonneg, t : real) = (x^(1 - t) - 1) / (1 - t)
term exp_t(x : real, t : real) = relu(1 + (1 - t) * x)^(1 / (1 - t))

let top = max[v](logits)
let lam = root[u in top..top + 1 + (size[v]^(t2 - 1) - 1) / (t2 - 1)](sum[v](exp_t(logits - u, t2)) - 1)
let p   = exp_t(logits - lam, t2)

minimize
  loss : mean[b](-log_t(p[v = labels], t1) - (1 - sum[v](p^(2 - t1))) / (2 - t1))
"""


@over_classes
def test_the_bi_tempered_logistic_loss(backend: str) -> None:
    batch = ignored(classes(3))
    batch["logits"] = behind(batch["logits"], batch["labels"] >= 0)

    def powered(z: Tensor, lam: Tensor) -> Tensor:
        return (1 + 0.3 * (lam - z)) ** (-1 / 0.3)

    def closed(t: Tensors) -> Tensor:
        losses = []
        for z, y in zip(t["logits"], t["labels"].tolist(), strict=True):
            if y < 0:
                continue
            lam = z.max().detach()
            for _ in range(60):  # Newton from the left: the sum is convex and falls in lam
                p = powered(z.detach(), lam)
                lam = lam + (p.sum() - 1) / (p**1.3).sum()
            escort = powered(z.detach(), lam) ** 1.3
            lam = lam + (escort / escort.sum() * (z - z.detach())).sum()  # the implicit gradient
            p = powered(z, lam)
            losses.append(-((p[y] ** 0.2 - 1) / 0.2) - (1 - (p**1.2).sum()) / 1.2)
        return torch.stack(losses).mean()

    assert_equals(BI_TEMPERED, batch, closed, backend=backend)


PARTIAL = """
\"\"\"The true label is among the candidates of a row, whose probabilities are added. Feng et al. 2020.\"\"\"
objective classifier_consistent
axis b : batch
axis v
axis candidate
input logits : logits[b, v]
data  labels : label[b, candidate] in v

minimize
  cc : mean[b](-log(sum[candidate](softmax[v](logits)[v = labels])))
"""


@over_classes
def test_candidate_labels(backend: str) -> None:
    labels = torch.tensor([[0, 3, -1], [6, 2, 1], [-1, -1, -1], [-1, 5, -100], [4, 4, 0]])
    batch = {"logits": behind(scores(5, 7, seed=1), (labels >= 0).any(1)), "labels": labels}

    def closed(t: Tensors) -> Tensor:
        rows = zip(t["logits"], t["labels"], strict=True)
        return torch.stack([-z.softmax(-1)[y[y >= 0]].sum().log() for z, y in rows if bool((y >= 0).any())]).mean()

    assert_equals(PARTIAL, batch, closed, backend=backend, warnings=["W201"])


VREX = """
\"\"\"V-REx: the variance of the risks of environments, penalised more after a step. Krueger et al. 2021.\"\"\"
objective vrex
use std.settings.classes
axis env
data e : label[b] in env
param beta : nonneg = 50

let risk   = mean[b by e](nll)
let weight = beta if step >= 2 else 1

minimize
  rex : (mean[env](risk) + weight * var[env](risk)) / max(weight, 1)
"""


@over_classes
@pytest.mark.parametrize("steps", [1, 2])
def test_extrapolated_risks(backend: str, steps: int) -> None:
    batch = ignored(classes(3, b=9)) | {"e": torch.tensor([0, 2, 2, 0, 3, 3, 2, 0, -1])}
    weight = 50 if steps >= 2 else 1

    def closed(t: Tensors) -> Tensor:
        rows = t["labels"] >= 0
        losses, e = cross_entropy(t["logits"][rows], t["labels"][rows], reduction="none"), t["e"][rows]
        risks = torch.stack([losses[e == k].mean() for k in (0, 2, 3)])
        return (risks.mean() + weight * risks.var(correction=0)) / weight

    assert_equals(VREX, batch, closed, backend=backend, steps=steps, sizes={"env": 4})


DERPP = """
\"\"\"Dark experience replay ++: recorded logits and labels of a buffer beside the stream. Buzzega et al. 2020.\"\"\"
objective der_plus_plus
axis v
use std.settings.classes as now sharing (v)
use std.settings.classes as dark sharing (v)
use std.settings.classes as old sharing (v)
data recorded : logits[dark.b, v]
param alpha : nonneg = 0.3
param beta  : nonneg = 0.5

minimize
  stream : mean[now.b](now.nll)
  dark   : alpha * mean[dark.b](sum[v]((dark.logits - recorded)^2))
  replay : beta * mean[old.b](old.nll)
"""


@over_classes
def test_dark_experience_replay(backend: str) -> None:
    streams = {"now": classes(3), "dark": classes(5, b=3), "old": classes(7, b=4)}
    batch = {f"{stream}.{name}": value for stream, held in streams.items() for name, value in ignored(held).items()}
    batch["recorded"] = scores(3, 7, seed=9)

    def closed(t: Tensors) -> Tensor:
        now, old = t["now.labels"] >= 0, t["old.labels"] >= 0
        dark = ((t["dark.logits"] - t["recorded"]) ** 2).sum(-1).mean()
        stream = cross_entropy(t["now.logits"][now], t["now.labels"][now])
        return stream + 0.3 * dark + 0.5 * cross_entropy(t["old.logits"][old], t["old.labels"][old])

    assert_equals(
        DERPP, {name: value for name, value in batch.items() if name != "dark.labels"}, closed, backend=backend
    )


VTRACE = """
\"\"\"IMPALA: V-trace targets of an off-policy actor-critic. Espeholt et al. 2018.\"\"\"
objective vtrace
axis b : batch
axis t
axis action
input policy   : logits[b, t, action]
input value    : real[b, t]
data  last     : real[b]            # the value behind the last step
data  taken    : label[b, t] in action
data  old_logp : logprob[b, t]
data  reward   : real[b, t]
data  discount : unit[b, t]         # 0 where an episode ends
param c_value   : nonneg = 0.5
param c_entropy : nonneg = 0.01

let pi    = softmax[action](policy)
let w     = sg(exp(log(pi)[action = taken] - old_logp))
let rho   = min(1, w)
let next  = fill(shift[t](value, -1), last)
let delta = rho * (reward + discount * next - value)
let back  = size[t] - 1 - index[t]
let rdelta = delta[t -> u][u = back]
let rdecay = (discount * rho)[t -> u][u = back]
let vs     = sg(value + scan[t](rdelta, rdecay)[t -> u][u = back])
let vs_next = fill(shift[t](vs, -1), last)

minimize
  value   : c_value * mean[b, t]((vs - value)^2)
  policy  : -mean[b, t](log(pi)[action = taken] * sg(rho * (reward + discount * vs_next - value)))
  entropy : c_entropy * mean[b, t](sum[action](pi * log(pi)))
"""


@over_classes
def test_vtrace(backend: str) -> None:
    batch = {"policy": scores(3, 5, 4, seed=1), "value": uniform(3, 5, seed=2), "last": uniform(3, seed=3)}
    batch |= {"taken": integers(3, 5, high=4, seed=4), "old_logp": logps(3, 5, seed=5), "reward": uniform(3, 5, seed=6)}
    batch["discount"] = torch.where(uniform(3, 5, seed=7) > -0.6, 0.97, 0.0).double()

    def closed(t: Tensors) -> Tensor:
        logp = t["policy"].log_softmax(-1)
        of_taken = logp.gather(-1, t["taken"][..., None])[..., 0]
        rho = (of_taken.detach() - t["old_logp"]).exp().clamp(max=1)
        values = torch.cat([t["value"].detach(), t["last"][:, None]], 1)
        vs = [t["last"]]
        for s in reversed(range(5)):
            delta = rho[:, s] * (t["reward"][:, s] + t["discount"][:, s] * values[:, s + 1] - values[:, s])
            vs.insert(0, values[:, s] + delta + t["discount"][:, s] * rho[:, s] * (vs[0] - values[:, s + 1]))
        target = torch.stack(vs, 1)
        advantage = rho * (t["reward"] + t["discount"] * target[:, 1:] - values[:, :-1])
        entropy = -(logp.exp() * logp).sum(-1)
        return 0.5 * ((target[:, :-1] - t["value"]) ** 2).mean() - (of_taken * advantage + 0.01 * entropy).mean()

    assert_equals(VTRACE, batch, closed, backend=backend)


MPO = """
\"\"\"A temperature by its dual, weighted likelihoods of actions, a trust region. Abdolmaleki et al. 2018.\"\"\"
objective mpo
use std.divergence (kl)
axis b : batch
axis sample
axis action
input policy : logits[b, action]
data  old    : logits[b, action]
data  taken  : label[b, sample] in action
data  q      : real[b, sample]
param eps : positive = 0.1
learn eta : positive = 1

let weight = sg(softmax[sample](q / eta))
let logp   = log_softmax[action](policy)[action = taken]

minimize
  dual   : eta * eps + eta * mean[b](log(mean[sample](exp(q / eta))))
  policy : -mean[b](sum[sample](weight * logp))

subject to trust : mean[b](kl(old, policy)) <= 0.01
"""


@over_classes
def test_maximum_a_posteriori_policy_optimisation(backend: str) -> None:
    batch = {"policy": scores(3, 7, seed=1), "old": scores(3, 7, seed=2), "taken": integers(3, 5, high=7, seed=3)}
    batch |= {"q": 2 * uniform(3, 5, seed=4)}
    batch |= {"eta": torch.tensor(0.8, dtype=torch.float64), "trust": torch.tensor(0.6, dtype=torch.float64)}

    def closed(t: Tensors) -> Tensor:
        old, new = t["old"].log_softmax(-1), t["policy"].log_softmax(-1)
        weight = (t["q"] / t["eta"].detach()).softmax(-1)
        dual = t["eta"] * 0.1 + t["eta"] * (t["q"] / t["eta"]).exp().mean(-1).log().mean()
        fit = -(weight * new.gather(1, t["taken"])).sum(-1).mean()
        return dual + fit + 0.6 * ((old.exp() * (old - new)).sum(-1).mean() - 0.01)

    assert_equals(MPO, batch, closed, backend=backend)
