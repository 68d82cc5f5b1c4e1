"""How a batch of each setting is made: the one table from columns of data to the tensors of a setting.

A feed says which columns it reads, how a row becomes an example, how the network answers a batch, and which tensors come
from the network as it was before the first step (a frozen reference). Adding a setting to training is one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lossc.runtime.training.encoding import Encoding
from lossc.runtime.training.examples import Batch, Example, stack
from lossc.runtime.training.rows import BadValueError, Column
from lossc.runtime.training.sequences import encode, scores, sequence_logp, token_logp

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Networks:
    """The network in training, and the teacher where there is one."""

    student: nn.Module
    teacher: nn.Module | None = None


@dataclass(frozen=True)
class Feed:
    """One setting. `example(row, next row, encoding)`; `answers` are its `input` tensors; `frozen` by the first network."""

    setting: str
    network: Literal["language", "rows"]
    axis: str
    """The axis that rows run along; another `data` tensor over this axis alone is read from a column of its name."""
    columns: tuple[Column, ...]
    example: Callable[[Values, Values, Encoding], Example]
    tensors: tuple[str, ...]
    """The `input` and `data` tensors that this feed makes (the frozen ones aside)."""
    answer: Callable[[Networks, Batch], dict[str, Tensor]]
    frozen: Mapping[str, Callable[[nn.Module, Batch], Tensor]] = field(default_factory=dict)


# Text


def _tokens(row: Values, _: Values, encoding: Encoding) -> Example:
    return _sequence_example(_encode(encoding, row, "text"))


def _pairs(row: Values, _: Values, encoding: Encoding) -> Example:
    sides = [_encode(encoding, row, side) for side in ("chosen", "rejected")]
    return _sequence_example(_joined(sides))


def _unpaired(row: Values, following: Values, encoding: Encoding) -> Example:
    example = _sequence_example(_encode(encoding, row, "completion"))
    example.data["desirable"] = torch.tensor(row["desirable"])
    mismatched = _encode(encoding, {**row, "completion": following["completion"]}, "completion")
    example.network |= {f"kl.{name}": tensor for name, tensor in mismatched.items()}
    return example


def _rollouts(row: Values, _: Values, encoding: Encoding) -> Example:
    if len(row["completions"]) != len(row["rewards"]):
        raise BadValueError("are not as many as the completions", column="rewards")
    samples = [_encode(encoding, {**row, "completions": text}, "completions") for text in row["completions"]]
    example = _sequence_example(_joined(samples))
    example.data["reward"] = encoding.numbers(row["rewards"])
    return example


def _forget_retain(row: Values, _: Values, encoding: Encoding) -> Example:
    streams = [_sequence_example(_encode(encoding, row, name), f"{name}.") for name in ("forget", "retain")]
    return Example(streams[0].network | streams[1].network, streams[0].data | streams[1].data)


def _encode(encoding: Encoding, row: Values, column: str) -> dict[str, Tensor]:
    assert encoding.tokenizer is not None
    return encode(encoding.tokenizer, row.get("prompt", ""), row[column], encoding.tokens, column)


def _joined(sequences: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: stack([s[name] for s in sequences], -1 if name == "labels" else 0) for name in sequences[0]}


def _sequence_example(sequence: dict[str, Tensor], prefix: str = "") -> Example:
    network = {f"{prefix}{name}": sequence[name] for name in ("ids", "attention")}
    return Example(network, {f"{prefix}{name}": sequence[name] for name in ("labels", "mask")})


def _logits(networks: Networks, batch: Batch) -> dict[str, Tensor]:
    return {"logits": scores(networks.student, batch)}


def _logits_and_teacher(networks: Networks, batch: Batch) -> dict[str, Tensor]:
    assert networks.teacher is not None
    with torch.no_grad():
        teacher = scores(networks.teacher, batch)
    return {"logits": scores(networks.student, batch), "teacher": teacher}


def _logits_and_mismatched(networks: Networks, batch: Batch) -> dict[str, Tensor]:
    with torch.no_grad():
        mismatched = _mismatched_logp(networks.student, batch)
    return {"logits": scores(networks.student, batch), "kl_logp": mismatched}


def _both_logits(networks: Networks, batch: Batch) -> dict[str, Tensor]:
    return {f"{name}.logits": scores(networks.student, batch, f"{name}.") for name in ("forget", "retain")}


def _sequence_logp(network: nn.Module, batch: Batch, prefix: str = "") -> Tensor:
    data = batch["data"]
    return sequence_logp(scores(network, batch, prefix), data[f"{prefix}labels"], data[f"{prefix}mask"])


def _mismatched_logp(network: nn.Module, batch: Batch) -> Tensor:
    inner = batch["network"]
    return sequence_logp(scores(network, batch, "kl."), inner["kl.labels"], inner["kl.mask"])


def _token_logp(network: nn.Module, batch: Batch) -> Tensor:
    return token_logp(scores(network, batch), batch["data"]["labels"], batch["data"]["mask"])


# Rows of numbers


def _classes(row: Values, _: Values, encoding: Encoding) -> Example:
    assert encoding.classes is not None
    label = torch.tensor(encoding.classes.index(row["labels"]))
    return Example({"features": encoding.numbers(row["features"])}, {"labels": label})


def _regression(row: Values, _: Values, encoding: Encoding) -> Example:
    return Example({"features": encoding.numbers(row["features"])}, {"target": encoding.numbers(row["target"])})


def _embeddings(row: Values, _: Values, encoding: Encoding) -> Example:
    if len(row["x"]) != len(row["y"]):
        raise BadValueError("is not as wide as `x`", column="y")
    return Example({name: encoding.numbers(row[name]) for name in ("x", "y")})


def _scores_of(name: str) -> Callable[[Networks, Batch], dict[str, Tensor]]:
    return lambda networks, batch: {name: networks.student(batch["network"]["features"])}


def _both_embeddings(networks: Networks, batch: Batch) -> dict[str, Tensor]:
    return {name: networks.student(batch["network"][name]) for name in ("x", "y")}


_PROMPT = Column("prompt", "text", "what stands before, unscored")
_OPTIONAL_PROMPT = Column("prompt", "text", "what stands before, unscored", required=False)
_TEXT = Column("text", "text", "the text to learn")
_FEATURES = Column("features", "numbers", "the numbers that the network reads", rest=True)

_TABLE = (
    Feed(
        "tokens", "language", "b", (_OPTIONAL_PROMPT, _TEXT), _tokens, ("logits", "labels", "mask"), _logits,
    ),
    Feed(
        "referenced", "language", "b", (_OPTIONAL_PROMPT, _TEXT), _tokens, ("logits", "labels", "mask"), _logits,
        {"ref_logp": _sequence_logp},
    ),
    Feed(
        "pairs", "language", "pair",
        (_PROMPT, Column("chosen", "text", "the preferred text"), Column("rejected", "text", "the other text")),
        _pairs, ("logits", "labels", "mask"), _logits, {"ref_logp": _sequence_logp},
    ),
    Feed(
        "unpaired", "language", "b",
        (_PROMPT, Column("completion", "text", "the text that is judged"), Column("desirable", "flag", "the judgement")),
        _unpaired, ("logits", "labels", "mask", "desirable", "kl_logp"), _logits_and_mismatched,
        {"ref_logp": _sequence_logp, "kl_ref_logp": _mismatched_logp},
    ),
    Feed(
        "rollouts", "language", "q",
        (_PROMPT, Column("completions", "texts", "the samples, equally many in each row"),
         Column("rewards", "numbers", "one reward for each sample")),
        _rollouts, ("logits", "labels", "mask", "reward"), _logits, {"old_logp": _token_logp, "ref_logp": _token_logp},
    ),
    Feed(
        "distill", "language", "b", (_OPTIONAL_PROMPT, _TEXT), _tokens,
        ("logits", "labels", "mask", "teacher"), _logits_and_teacher,
    ),
    Feed(
        "forget_retain", "language", "forget.b",
        (Column("forget", "text", "the text to be forgotten"), Column("retain", "text", "the text to be kept")),
        _forget_retain,
        ("forget.logits", "forget.labels", "forget.mask", "retain.logits", "retain.labels", "retain.mask"), _both_logits,
        {"forget.ref_logp": lambda network, batch: _sequence_logp(network, batch, "forget."),
         "retain.ref_logp": lambda network, batch: _sequence_logp(network, batch, "retain.")},
    ),
    Feed(
        "classes", "rows", "b", (_FEATURES, Column("labels", "label", "the class of each row")),
        _classes, ("logits", "labels"), _scores_of("logits"),
    ),
    Feed(
        "regression", "rows", "b", (_FEATURES, Column("target", "numbers", "the values to predict")),
        _regression, ("pred", "target"), _scores_of("pred"),
    ),
    Feed(
        "embeddings", "rows", "b",
        (Column("x", "numbers", "one view of each row"), Column("y", "numbers", "the other view, of equal width")),
        _embeddings, ("x", "y"), _both_embeddings,
    ),
)  # fmt: skip

FEEDS: dict[str, Feed] = {feed.setting: feed for feed in _TABLE}
