"""Cases of std.returns: trajectories of several lengths, padding and holes NaN; episodes end inside some of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tests.oracles import returns as oracle
from tests.oracles.batches import Batch, lengths_mask, uniform
from tests.oracles.rows import mean
from tests.specs.cases.model import MAKERS, Case
from torch import Tensor

DECLARATIONS = """
axis b : batch
axis t
input value    : real[b, t]
input ratio    : nonneg[b, t]
data  reward   : real[b, t]
data  discount : unit[b, t]
data  after    : real[b]
data  mask     : mask[b, t]
"""
NAMES = ("reward", "value", "ratio", "discount")


def trajectories(seed: int = 0, b: int = 4, t: int = 6) -> Batch:
    mask = lengths_mask(b, t, seed=seed)
    if t > 2:
        mask[:, 1] &= ~mask[:, 2]  # a step inside a trajectory that does not count
    padded = {name: uniform(b, t, seed=seed + at) for at, name in enumerate(NAMES, start=1)}
    padded["ratio"] = 1 + 0.9 * padded["ratio"]
    padded["discount"] = 0.9 * (padded["discount"] > -0.7).double()
    behind = {name: torch.where(mask, x, torch.nan) for name, x in padded.items()}
    return {**behind, "after": uniform(b, seed=seed + 9), "mask": mask}


MAKERS.update(trajectories=trajectories)


def of_trajectories(call: str, found: Callable[..., Tensor]) -> Case:
    """The mean square over all steps; `found` takes reward, value, ratio, discount and after of one trajectory."""

    def closed(batch: Batch) -> Tensor:
        rows = [
            found(*(batch[name][b][mask] for name in NAMES), batch["after"][b])
            for b, mask in enumerate(batch["mask"])
            if mask.any()
        ]
        return mean(torch.cat([batch["value"][0, :0], *rows]).square())

    term = call.partition("(")[0]
    expression = f"mean[b, t where mask]({call}^2)"
    inputs = frozenset({"value", "ratio"})
    return Case(call, "trajectories", expression, closed, f"returns ({term})", DECLARATIONS, inputs=inputs)


CASES = (
    of_trajectories(
        "discounted(value, discount, after, mask)", lambda r, v, w, g, after: oracle.discounted(v, g, after)
    ),
    of_trajectories(
        "lambda_return(reward, value, discount, 0.8, after, mask)",
        lambda r, v, w, g, after: oracle.lambda_return(r, v, g, 0.8, after),
    ),
    of_trajectories(
        "gae(reward, value, discount, after = after, here = mask)",
        lambda r, v, w, g, after: oracle.gae(r, v, g, 0.95, after),
    ),
    of_trajectories(
        "vtrace(reward, value, ratio, discount, 1.2, 0.9, after, mask)",
        lambda r, v, w, g, after: oracle.vtrace(r, v, w, g, 1.2, 0.9, after),
    ),
    of_trajectories(
        "backward(value, discount * ratio, mask)",
        lambda r, v, w, g, after: oracle.discounted(v, g * w, 0 * after),
    ),
)
