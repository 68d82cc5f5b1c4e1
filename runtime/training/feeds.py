"""How a batch of each setting is made: the one table from columns of data to the tensors of a setting.

A feed says which columns it reads, how a row becomes an example, and which tensors some network answers: the one in
training, a frozen reference, a teacher, whatever the run file says. Adding a setting to training is one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lossc.runtime.training.encoding import Encoding
from lossc.runtime.training.examples import Batch, Example, stack
from lossc.runtime.training.rows import BadValueError, Column
from lossc.runtime.training.sequences import encode, hidden_states, prompt_tokens, scores, sequence_logp, token_logp

Values = Mapping[str, Any]
Ask = Callable[[nn.Module, Batch, str], Tensor]
"""What a network says of a batch; the tensors that it reads stand under a prefix, that of the stream."""


@dataclass(frozen=True)
class Answer:
    """A tensor that a network answers: which network, unless the run file names another, and what it is asked."""

    network: Literal["model", "reference", "teacher", "sampler"]
    ask: Ask


@dataclass(frozen=True)
class Feed:
    """One setting. `example(row, next row, encoding)` makes the `data` tensors; `answers` are those of networks."""

    setting: str
    network: Literal["language", "rows"]
    lead: tuple[str, ...]
    """The axes of an example, the first one along the rows; a sequence has `t` behind them."""
    columns: tuple[Column, ...]
    example: Callable[[Values, Values, Encoding], Example]
    data: tuple[str, ...]
    answers: Mapping[str, Answer]

    @property
    def axis(self) -> str:
        """The axis that rows run along; another `data` tensor over it alone is read from a column of its name."""
        return self.lead[0]


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


def _prompts(row: Values, _: Values, encoding: Encoding) -> Example:
    assert encoding.tokenizer is not None
    ids = prompt_tokens(encoding.tokenizer, row["prompt"], encoding.tokens)
    return Example({"prompt": ids, "prompt_length": torch.tensor(len(ids))})


def _encode(encoding: Encoding, row: Values, column: str) -> dict[str, Tensor]:
    assert encoding.tokenizer is not None
    return encode(encoding.tokenizer, row.get("prompt", ""), row[column], encoding.tokens, column)


def _joined(sequences: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: stack([s[name] for s in sequences], -1 if name == "labels" else 0) for name in sequences[0]}


def _sequence_example(sequence: dict[str, Tensor]) -> Example:
    network = {name: sequence[name] for name in ("ids", "attention")}
    return Example(network, {name: sequence[name] for name in ("labels", "mask")})


def sequence_logps(network: nn.Module, batch: Batch, prefix: str) -> Tensor:
    """In nats, of each whole sequence."""
    data = batch["data"]
    return sequence_logp(scores(network, batch, prefix), data[f"{prefix}labels"], data[f"{prefix}mask"])


def token_logps(network: nn.Module, batch: Batch, prefix: str) -> Tensor:
    """In nats, of each scored token."""
    data = batch["data"]
    return token_logp(scores(network, batch, prefix), data[f"{prefix}labels"], data[f"{prefix}mask"])


def mismatched_logps(network: nn.Module, batch: Batch, prefix: str) -> Tensor:
    """In nats, of the completion of another prompt."""
    inner = batch["network"]
    return sequence_logp(scores(network, batch, f"{prefix}kl."), inner[f"{prefix}kl.labels"], inner[f"{prefix}kl.mask"])


SMALL: frozenset[Ask] = frozenset({sequence_logps, token_logps, mismatched_logps})
"""Answers without an axis of the vocabulary: those of a fixed network are worked out once and kept."""


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


def outputs_of(column: str) -> Ask:
    """What a network of rows says of a column."""

    def ask(network: nn.Module, batch: Batch, prefix: str) -> Tensor:
        answer: Tensor = network(batch["network"][f"{prefix}{column}"])
        return answer

    return ask


def ask_for(feed: Feed, kind: str, order: tuple[str, ...], of: str | None) -> Ask | None:
    """What to ask a network for a tensor that a file adds to its setting, by kind and axes; None where nothing fits."""
    if feed.network == "rows":
        fits = len(order) == 2 and order[0] == feed.axis and kind not in ("label", "mask")
        return outputs_of(of or feed.columns[0].name) if fits else None
    forms: dict[tuple[str, tuple[str, ...]], Ask] = {
        ("logits", (*feed.lead, "t", "v")): scores,
        ("logprob", (*feed.lead, "t")): token_logps,
        ("logprob", feed.lead): sequence_logps,
    }
    if kind in ("embedding", "real") and len(order) == len(feed.lead) + 2 and order[:-1] == (*feed.lead, "t"):
        return hidden_states
    return forms.get((kind, order))


_PROMPT = Column("prompt", "text", "what stands before, unscored")
_OPTIONAL_PROMPT = Column("prompt", "text", "what stands before, unscored", required=False)
_TEXT = Column("text", "text", "the text to learn")
_FEATURES = Column("features", "numbers", "the numbers that the network reads", rest=True)
_LOGITS = {"logits": Answer("model", scores)}
_REFERENCE = {"ref_logp": Answer("reference", sequence_logps)}

_TABLE = (
    Feed("tokens", "language", ("b",), (_TEXT, _OPTIONAL_PROMPT), _tokens, ("labels", "mask"), _LOGITS),
    Feed(
        "referenced", "language", ("b",), (_TEXT, _OPTIONAL_PROMPT), _tokens, ("labels", "mask"), _LOGITS | _REFERENCE,
    ),
    Feed(
        "pairs", "language", ("pair", "side"),
        (_PROMPT, Column("chosen", "text", "the preferred text"), Column("rejected", "text", "the other text")),
        _pairs, ("labels", "mask"), _LOGITS | _REFERENCE,
    ),
    Feed(
        "unpaired", "language", ("b",),
        (_PROMPT, Column("completion", "text", "the text that is judged"), Column("desirable", "flag", "the judgement")),
        _unpaired, ("labels", "mask", "desirable"),
        _LOGITS | _REFERENCE | {
            "kl_logp": Answer("model", mismatched_logps), "kl_ref_logp": Answer("reference", mismatched_logps),
        },
    ),
    Feed(
        "rollouts", "language", ("q", "sample"),
        (_PROMPT, Column("completions", "texts", "the samples, equally many in each row"),
         Column("rewards", "numbers", "one reward for each sample")),
        _rollouts, ("labels", "mask", "reward"),
        _LOGITS | {"old_logp": Answer("sampler", token_logps), "ref_logp": Answer("reference", token_logps)},
    ),
    Feed(
        "distill", "language", ("b",), (_TEXT, _OPTIONAL_PROMPT), _tokens, ("labels", "mask"),
        _LOGITS | {"teacher": Answer("teacher", scores)},
    ),
    Feed(
        "classes", "rows", ("b",), (_FEATURES, Column("labels", "label", "the class of each row")),
        _classes, ("labels",), {"logits": Answer("model", outputs_of("features"))},
    ),
    Feed(
        "regression", "rows", ("b",), (_FEATURES, Column("target", "numbers", "the values to predict")),
        _regression, ("target",), {"pred": Answer("model", outputs_of("features"))},
    ),
    Feed(
        "embeddings", "rows", ("b",),
        (Column("x", "numbers", "one view of each row"), Column("y", "numbers", "the other view, of equal width")),
        _embeddings, (), {name: Answer("model", outputs_of(name)) for name in ("x", "y")},
    ),
)  # fmt: skip

FEEDS: dict[str, Feed] = {feed.setting: feed for feed in _TABLE}

STREAMS: dict[str, dict[str, str]] = {"forget_retain": {"forget": "referenced", "retain": "referenced"}}
"""Settings of several streams: the setting of each."""


def drawn(feed: Feed) -> Feed:
    """The feed of rollouts where completions and rewards are made at each step: it reads prompts."""
    return replace(feed, columns=(_PROMPT,), example=_prompts)
