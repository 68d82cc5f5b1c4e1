"""Cases of std.divergence and std.distill: both arguments carry gradient."""

from __future__ import annotations

from functools import partial

from tests.oracles import divergence as oracle
from tests.oracles.batches import Batch, scores
from tests.oracles.rows import mean
from tests.specs.cases.model import MAKERS, Case, at_tokens

LOGITS = """
    axis b : batch
    axis v
    input p : logits[b, v]
    input q : logits[b, v]
"""
PROBS = LOGITS.replace("logits", "prob")


def two_logits(seed: int = 0, b: int = 5, v: int = 7) -> Batch:
    return {"p": scores(b, v, seed=seed), "q": scores(b, v, seed=seed + 1)}


def two_probs(seed: int = 0, b: int = 5, v: int = 7) -> Batch:
    """Two distributions a row; the first is 0 at class 0 of every second row."""
    p = scores(b, v, seed=seed).exp()
    p[::2, 0] = 0
    return {"p": p / p.sum(-1, keepdim=True), "q": scores(b, v, seed=seed + 1).softmax(-1)}


def one_prob(seed: int = 0, b: int = 5, v: int = 7) -> Batch:
    return {"p": two_probs(seed, b, v)["p"]}


MAKERS.update(two_logits=two_logits, two_probs=two_probs, one_prob=one_prob)


def pair(call: str, *, probs: bool = False, finite: bool = True, **options: float) -> Case:
    """A case of a divergence of `p` and `q`, with gradient to both."""
    name = call.partition("(")[0]
    term = partial(getattr(oracle, name), **options)
    maker, declarations = ("two_probs", PROBS) if probs else ("two_logits", LOGITS)
    return Case(
        call,
        maker,
        f"mean[b]({call})",
        lambda batch: mean(term(batch["p"], batch["q"])),
        uses=f"divergence ({name})",
        declarations=declarations,
        inputs=frozenset({"p", "q"}),
        finite=finite,
    )


def generated(generator: str) -> Case:
    """A case of `fdiv` over one generator; p / q overflows at extremes."""
    f = oracle.GENERATORS[generator]
    return Case(
        f"fdiv({generator}, p, q)",
        "two_logits",
        f"mean[b](fdiv({generator}, p, q))",
        lambda batch: mean(oracle.fdiv(f, batch["p"], batch["q"])),
        uses=f"divergence (fdiv, {generator})",
        declarations=LOGITS,
        inputs=frozenset({"p", "q"}),
        finite=False,
    )


CASES = (
    pair("kl(p, q)"),
    pair("jeffreys(p, q)"),
    pair("js(p, q)"),
    pair("gjs(p, q, beta = 0.3)", beta=0.3),
    pair("skew_kl(p, q)"),
    pair("tv(p, q)"),
    pair("hellinger(p, q)"),
    pair("renyi(p, q)"),
    pair("renyi(p, q, alpha = 1.5)", alpha=1.5),
    *map(generated, oracle.GENERATORS),
    pair("kl_prob(p, q)", probs=True),
    pair("js_prob(p, q)", probs=True),
    pair("tv_prob(p, q)", probs=True),
    Case(
        "entropy_prob(p)",
        "one_prob",
        "mean[b](entropy_prob(p))",
        lambda batch: mean(oracle.entropy_prob(batch["p"])),
        uses="divergence (entropy_prob)",
        declarations=PROBS.replace("input q : prob[b, v]", ""),
        inputs=frozenset({"p"}),
    ),
    Case(
        "distill(logits)",
        "distill",
        "mean[b, t where mask](distill(logits))",
        at_tokens(oracle.distill, "logits", "teacher"),
        uses="distill (distill)",
    ),
    Case(
        "distill(logits, teacher, tau = 0.7)",
        "distill",
        "mean[b, t where mask](distill(logits, teacher, tau = 0.7))",
        at_tokens(partial(oracle.distill, tau=0.7), "logits", "teacher"),
        uses="distill (distill)",
    ),
)
