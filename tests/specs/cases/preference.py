"""Cases of std.preference and of the settings that they lean on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from tests.oracles import preference as oracle
from tests.oracles import settings
from tests.oracles.batches import Batch
from tests.oracles.rows import mean
from tests.specs.cases.model import Case, Oracle
from torch import Tensor


def of_margin(call: str, **options: float) -> Case:
    """A case of a term of the margin, which the setting provides."""
    name = call.partition("(")[0]
    term = partial(getattr(oracle, name), **options)

    def closed(batch: Batch) -> Tensor:
        tensors = (batch[name] for name in ("logits", "labels", "mask", "ref_logp"))
        return mean(term(settings.margins(*tensors)))

    finite = name != "discopop"  # exp(-h) is the loss itself at a large negative h
    return Case(call, "pairs", f"mean[pair]({call})", closed, uses=f"preference ({name})", finite=finite)


def of_averages(term: Callable[[Tensor, Tensor], Tensor]) -> Oracle:
    return lambda batch: mean(term(*settings.averages(batch["logits"], batch["labels"], batch["mask"])))


def ratios(batch: Batch) -> list[tuple[int, Tensor]]:
    """(row, log p - log ref) of the sequences that are present."""
    rows = range(batch["labels"].shape[0])
    logps = [settings.sequence_logp(batch["logits"][i], batch["labels"][i], batch["mask"][i]) for i in rows]
    return [(i, logp - batch["ref_logp"][i]) for i, logp in zip(rows, logps, strict=True) if logp is not None]


def kto(batch: Batch) -> Tensor:
    z0 = (batch["kl_logp"] - batch["kl_ref_logp"]).mean().clamp(min=0)
    values = [oracle.kto(ratio, batch["desirable"][i], z0) for i, ratio in ratios(batch)]
    return mean(torch.stack(values)) if values else 0 * batch["logits"][:0].sum()


def npo(batch: Batch) -> Tensor:
    values = [oracle.npo(ratio) for _, ratio in ratios(batch)]
    return mean(torch.stack(values)) if values else 0 * batch["logits"][:0].sum()


def apo_zero(batch: Batch) -> Tensor:
    ref = batch["ref_logp"]
    pairs = settings.pair_logps(batch["logits"], batch["labels"], batch["mask"])
    values = [oracle.apo_zero(w - ref[i, 0], r - ref[i, 1]) for i, w, r in pairs]
    return mean(torch.stack(values)) if values else 0 * batch["logits"][:0].sum()


def ipo_of_averages(batch: Batch) -> Tensor:
    """IPO as TRL has it: of log-ratios divided by the length."""
    ref, rows = batch["ref_logp"], []
    for i, w, r in settings.pair_logps(batch["logits"], batch["labels"], batch["mask"]):
        lengths = [max(settings.sequence_length(batch["labels"][i, s], batch["mask"][i, s]), 1) for s in (0, 1)]
        rows.append(oracle.ipo((w - ref[i, 0]) / lengths[0] - (r - ref[i, 1]) / lengths[1]))
    return mean(torch.stack(rows)) if rows else 0 * batch["logits"][:0].sum()


def sft(batch: Batch) -> Tensor:
    return settings.sft(batch["logits"], batch["labels"], batch["mask"])


CASES = (
    of_margin("dpo()"),
    of_margin("dpo(margin, beta = 0.5)", beta=0.5),
    of_margin("ipo()"),
    of_margin("hinge(margin, beta = 0.3)", beta=0.3),
    of_margin("cdpo()"),
    of_margin("robust_dpo(margin, eps = 0.2)", eps=0.2),
    of_margin("discopop()"),
    Case("simpo()", "pairs", "mean[pair](simpo())", of_averages(oracle.simpo), uses="preference (simpo)"),
    Case("orpo()", "pairs", "mean[pair](orpo())", of_averages(oracle.orpo), uses="preference (orpo)"),
    Case(
        "apo_zero(logp - ref_logp)",
        "pairs",
        "mean[pair](apo_zero(logp - ref_logp))",
        apo_zero,
        uses="preference (apo_zero)",
    ),
    Case(
        "ipo of averages",
        "pairs",
        "mean[pair](ipo(each[side = chosen] - each[side = rejected]))",
        ipo_of_averages,
        uses="preference (ipo)",
        declarations="let each = (logp - ref_logp) / max(length, 1)",
    ),
    Case("kto()", "unpaired", "mean[b](kto())", kto, uses="preference (kto)", coupled=True),
    Case("npo()", "unpaired", "mean[b](npo())", npo, uses="preference (npo)"),
    Case("sft", "pairs", "sft", sft),
    Case(
        "dpo + 0.2 sft",
        "pairs",
        "mean[pair](dpo(margin, beta = 0.1)) + 0.2 * sft",
        lambda batch: of_margin("dpo()").oracle(batch) + 0.2 * sft(batch),
        uses="preference (dpo)",
    ),
)
