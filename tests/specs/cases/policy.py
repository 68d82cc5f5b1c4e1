"""Cases of std.policy, over rollouts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.oracles import policy as oracle
from tests.oracles.batches import Batch
from tests.oracles.ce import ce
from tests.oracles.rows import kept, mean
from tests.oracles.settings import advantages
from tests.specs.cases.model import Case
from torch import Tensor

Term = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def per_token(call: str, term: Term, *names: str) -> Case:
    """A case of a term of (logp, ratio, advantage, ref) at each token, averaged over tokens."""

    def closed(batch: Batch) -> Tensor:
        if batch["reward"].shape[-1] < 2:
            return 0 * batch["logits"][:0].sum()
        keep = kept(batch["labels"], batch["mask"])
        logp = -ce(batch["logits"][keep], batch["labels"][keep])
        advantage = advantages(batch["reward"]).unsqueeze(-1).expand(keep.shape)[keep]
        return mean(term(logp, (logp - batch["old_logp"][keep]).exp(), advantage, batch["ref_logp"][keep]))

    names = names or (call.partition("(")[0],)
    expression = f"mean[q, sample, t where mask]({call})"
    return Case(call, "rollouts", expression, closed, uses=f"policy ({', '.join(names)})", finite=False)


def of_sequences(batch: Batch) -> Tensor:
    """The mean over the sequences that have a token."""
    keep = kept(batch["labels"], batch["mask"])
    found = [batch["logits"][:0].flatten()]
    for q, sample in keep.any(-1).nonzero().tolist() if batch["reward"].shape[-1] > 1 else []:
        row = keep[q, sample]
        logp = -ce(batch["logits"][q, sample][row], batch["labels"][q, sample][row])
        advantage = advantages(batch["reward"])[q, sample]
        found.append(oracle.gspo(logp - batch["old_logp"][q, sample][row], advantage, 0.1, 0.2).unsqueeze(0))
    return mean(torch.cat(found))


CASES = (
    per_token("ppo_clip()", lambda logp, ratio, advantage, ref: oracle.ppo_clip(ratio, advantage)),
    per_token(
        "grpo(ratio, advantage, eps_low = 0.1, eps_high = 0.3)",
        lambda logp, ratio, advantage, ref: oracle.grpo(ratio, advantage, 0.1, 0.3),
    ),
    per_token("cispo(cap = 1.1)", lambda logp, ratio, advantage, ref: oracle.cispo(logp, ratio, advantage, 1.1)),
    Case(
        "gspo()",
        "rollouts",
        "mean[q, sample](gspo(eps_low = 0.1, eps_high = 0.2))",
        of_sequences,
        uses="policy (gspo)",
        finite=False,
    ),
    per_token("reinforce()", lambda logp, ratio, advantage, ref: oracle.reinforce(logp, advantage)),
    per_token("k1()", lambda logp, ratio, advantage, ref: oracle.k1(logp, ref)),
    per_token("k2()", lambda logp, ratio, advantage, ref: oracle.k2(logp, ref)),
    per_token("k3()", lambda logp, ratio, advantage, ref: oracle.k3(logp, ref)),
    per_token(
        "grpo() + 0.04 * k3()",
        lambda logp, ratio, advantage, ref: oracle.grpo(ratio, advantage) + 0.04 * oracle.k3(logp, ref),
        "grpo",
        "k3",
    ),
)
