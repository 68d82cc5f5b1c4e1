"""Cases of std.ce."""

from __future__ import annotations

from functools import partial

from tests.oracles import ce as oracle
from tests.oracles.batches import Batch, scores, uniform
from tests.specs.cases.model import Case, at_labels, at_tokens


def soft_targets(batch: Batch) -> Batch:
    return {"q": scores(*batch["logits"].shape, seed=31).softmax(-1)}


def hits(batch: Batch) -> Batch:
    return {"hits": (uniform(*batch["logits"].shape, seed=32) + 1) / 2}


def labelled(call: str, *, finite: bool = True, **options: float) -> Case:
    """A case of a term of logits and labels, over tokens."""
    name = call.partition("(")[0]
    closed = at_labels(partial(getattr(oracle, name), **options), "logits", "labels")
    return Case(call, "tokens", f"mean[b, t where mask]({call})", closed, uses=f"ce ({name})", finite=finite)


def unlabelled(call: str, **options: float) -> Case:
    """A case of a term of logits alone, over tokens."""
    name = call.partition("(")[0]
    closed = at_tokens(partial(getattr(oracle, name), **options), "logits")
    return Case(call, "tokens", f"mean[b, t where mask]({call})", closed, uses=f"ce ({name})")


CASES = (
    labelled("ce(logits, labels)"),
    labelled("label_smoothing(logits, labels)"),
    labelled("label_smoothing(logits, labels, eps = 0.25)", eps=0.25),
    labelled("focal(logits, labels)"),
    labelled("focal(logits, labels, gamma = 0)", gamma=0),
    labelled("focal(logits, labels, gamma = 0.5)", gamma=0.5, finite=False),  # (1 - p)^0.5 is steep at p = 1
    labelled("gce(logits, labels)"),
    labelled("gce(logits, labels, q = 0.3)", q=0.3),
    labelled("poly1(logits, labels)"),
    labelled("unlikelihood(logits, labels)"),
    labelled("dft(logits, labels)"),
    labelled("symmetric_ce(logits, labels)"),
    unlabelled("z_loss(logits)"),
    unlabelled("entropy(logits)"),
    unlabelled("tsallis_entropy(logits)"),
    unlabelled("tsallis_entropy(logits, q = 0.5)", q=0.5),
    Case(
        "soft_ce(logits, q)",
        "tokens",
        "mean[b, t where mask](soft_ce(logits, q))",
        at_tokens(oracle.soft_ce, "logits", "q"),
        uses="ce (soft_ce)",
        declarations="data q : prob[b, t, v]",
        extra=soft_targets,
    ),
    Case(
        "bce(logits, hits)",
        "tokens",
        "mean[b, t, v where mask](bce(logits, hits))",
        at_tokens(oracle.bce, "logits", "hits"),
        uses="ce (bce)",
        declarations="data hits : unit[b, t, v]",
        extra=hits,
    ),
)
