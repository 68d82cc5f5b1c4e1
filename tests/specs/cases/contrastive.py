"""Cases of std.contrastive."""

from __future__ import annotations

from functools import partial

from tests.oracles import contrastive as oracle
from tests.oracles.batches import Batch, integers, uniform
from tests.oracles.rows import mean
from tests.specs.cases.model import Case
from torch import Tensor


def of_scores(call: str, **options: float) -> Case:
    name = call.partition("(")[0]
    term = partial(getattr(oracle, name), **options)
    return Case(
        call,
        "embeddings",
        f"mean[b]({call})",
        lambda batch: mean(term(oracle.all_pairs(batch["x"], batch["y"]))),
        uses=f"contrastive ({name})",
        coupled=True,
    )


def symmetric(batch: Batch) -> Tensor:
    s = oracle.all_pairs(batch["x"], batch["y"])
    return mean((oracle.info_nce(s) + oracle.info_nce(s.T)) / 2)


def group(batch: Batch) -> Batch:
    return {"group": integers(batch["x"].shape[0], high=2, seed=34)}


def negative(batch: Batch) -> Batch:
    return {"n": uniform(*batch["x"].shape, seed=35)}


CASES = (
    of_scores("info_nce()"),
    of_scores("info_nce(s, tau = 0.5)", tau=0.5),
    of_scores("sigmoid_pairs()"),
    Case(
        "symmetric_nce()",
        "embeddings",
        "mean[b](symmetric_nce())",
        symmetric,
        uses="contrastive (symmetric_nce)",
        coupled=True,
    ),
    Case(
        "sup_con(s, group)",
        "embeddings",
        "mean[b](sup_con(s, group))",
        lambda batch: mean(oracle.sup_con(oracle.all_pairs(batch["x"], batch["y"]), batch["group"])),
        uses="contrastive (sup_con)",
        declarations="axis k\ndata group : label[b] in k",
        extra=group,
        coupled=True,
    ),
    Case(
        "triplet(x, y, n)",
        "embeddings",
        "mean[b](triplet(x, y, n))",
        lambda batch: mean(oracle.triplet(batch["x"], batch["y"], batch["n"])),
        uses="contrastive (triplet)",
        declarations="input n : embedding[b, d]",
        extra=negative,
        inputs=frozenset({"n"}),
    ),
    Case(
        "cosine_distance()",
        "embeddings",
        "mean[b](cosine_distance())",
        lambda batch: mean(oracle.cosine_distance(batch["x"], batch["y"])),
        uses="contrastive (cosine_distance)",
    ),
)
