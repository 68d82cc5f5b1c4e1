"""Cases of std.regularise, the parameters laid out as one vector."""

from __future__ import annotations

from tests.oracles import regularise as oracle
from tests.oracles.batches import Batch, uniform
from tests.specs.cases.model import MAKERS, Case


def parameters(seed: int = 0) -> Batch:
    return {"w": uniform(9, seed=seed)}


MAKERS.update(parameters=parameters)


def old(batch: Batch) -> Batch:
    return {"anchor": uniform(9, seed=36), "importance": uniform(9, seed=37).abs()}


CASES = (
    Case(
        "l1(w)",
        "parameters",
        "l1(w)",
        lambda batch: oracle.l1({"": batch["w"]}),
        uses="regularise (l1)",
        declarations="input w : weights",
        inputs=frozenset({"w"}),
        coupled=True,
    ),
    Case(
        "l2(w)",
        "parameters",
        "l2(w)",
        lambda batch: oracle.l2({"": batch["w"]}),
        uses="regularise (l2)",
        declarations="input w : weights",
        inputs=frozenset({"w"}),
        coupled=True,
    ),
    Case(
        "ewc(w, anchor, importance)",
        "parameters",
        "ewc(w, anchor, importance)",
        lambda batch: oracle.ewc({"": batch["w"]}, {"": batch["anchor"]}, {"": batch["importance"]}),
        uses="regularise (ewc)",
        declarations="input w : weights\ndata anchor : weights\ndata importance : weights",
        extra=old,
        inputs=frozenset({"w"}),
        coupled=True,
    ),
)
