"""Rollouts: completions that the network draws for the prompts of a batch, and their rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.files import value_span
from lossc.runtime.training.encoding import Encoding
from lossc.runtime.training.examples import Batch, Example, collate
from lossc.runtime.training.feed_sections import Reward, Samples
from lossc.runtime.training.models import load_function
from lossc.runtime.training.questions import Assigned
from lossc.runtime.training.rewards import Score, equals_rule, overlap_rule, words_rule
from lossc.runtime.training.rows import Column, Row, Rows, column_sources
from lossc.runtime.training.runfile import Run
from lossc.runtime.training.sampling import sample
from lossc.runtime.training.sequences import sequence_of
from lossc.runtime.training.tokenizer import Tokenizer


@dataclass(frozen=True)
class Drawn:
    """A completion as it was drawn and scored."""

    prompt: str
    completion: str
    reward: float


@dataclass(frozen=True)
class Rollouts:
    """Completes the prompts of a batch: makes `ids` to read, and `labels`, `mask` and `reward` of the objective."""

    samples: Samples
    score: Score
    rows: Sequence[Mapping[str, Any]]
    """The values of each row, by its number; rewards may read any of them."""
    tokenizer: Tokenizer
    dtype: torch.dtype

    def __call__(self, batch: Batch, network: nn.Module, generator: torch.Generator) -> tuple[Batch, list[Drawn]]:
        prompts, lengths = batch["network"]["prompt"], batch["network"]["prompt_length"].tolist()
        repeated = [row[:length] for row, length in zip(prompts, lengths, strict=True) for _ in range(self.samples.count)]
        inner = self.tokenizer.inner
        never = [token for token in (inner.pad_token_id, inner.bos_token_id) if token not in (None, inner.eos_token_id)]
        completions = sample(
            network, repeated, self.samples.tokens, self.samples.temperature, inner.eos_token_id, never, generator
        )
        numbers = [row for row in batch["network"]["row"].tolist() for _ in range(self.samples.count)]
        texts = [inner.decode(tokens.tolist(), skip_special_tokens=True) for tokens in completions]
        rewards = [self.score(self.rows[row], text) for row, text in zip(numbers, texts, strict=True)]
        sequences = [sequence_of(start.cpu(), tokens) for start, tokens in zip(repeated, completions, strict=True)]
        drawn = [Drawn(str(self.rows[n].get("prompt", "")), *each) for n, *each in zip(numbers, texts, rewards, strict=True)]
        return self._batch(sequences, rewards, batch, prompts.device), drawn

    def _batch(self, sequences: list[dict[str, Tensor]], rewards: list[float], batch: Batch, device: torch.device) -> Batch:
        flat = collate([
            Example({name: s[name] for name in ("ids", "attention")}, {name: s[name] for name in ("labels", "mask")})
            for s in sequences
        ])  # fmt: skip
        network = {name: self._grouped(tensor).to(device) for name, tensor in flat["network"].items()}
        data = {name: self._grouped(tensor).to(device) for name, tensor in flat["data"].items()}
        data["reward"] = self._grouped(torch.tensor(rewards, dtype=self.dtype, device=device))
        return {"network": batch["network"] | network, "data": batch["data"] | data}

    def _grouped(self, tensor: Tensor) -> Tensor:
        return tensor.reshape(-1, self.samples.count, *tensor.shape[1:])


def make_rollouts(
    run: Run, assigned: Assigned, rows: Sequence[Row], encoding: Encoding, folder: Path, *, allow_python: bool
) -> Rollouts | None:
    """What completes prompts, where `feeds` asks for it; E821 where a rule compares with a column that is not there."""
    if assigned.samples is None:
        return None
    assert encoding.tokenizer is not None
    score = _score(assigned.reward, rows, folder, allow_python)
    prompt = run.data.columns.get("prompt", "prompt")
    values = [{**row.values, "prompt": row.values[str(prompt)]} for row in rows]
    return Rollouts(assigned.samples, score, values, encoding.tokenizer, encoding.dtype)


def _score(reward: Reward, rows: Sequence[Row], folder: Path, allow_python: bool) -> Score:
    if reward.column is not None:
        names = tuple(dict.fromkeys(name for row in rows for name in row.values))
        column_sources(Rows("the data", names, rows), [Column(reward.column, "text", "the reward")], {})
        return equals_rule(reward.column) if reward.rule == "equals" else overlap_rule(reward.column)
    if reward.function is not None:
        return _checked(load_function(reward.function, folder, allowed=allow_python), reward.function)
    texts = (value for row in rows for value in row.values.values() if isinstance(value, str))
    return words_rule(texts, reward.at_least)


def _checked(function: Any, reference: str) -> Score:
    """A function of somebody's own; E842 where it fails or returns what is no number."""

    def score(row: Mapping[str, Any], completion: str) -> float:
        try:
            return float(function(row, completion))
        except Exception as failure:
            reason = f"{type(failure).__name__}: {failure}"
            raise LosscError([error("E842", f"`{reference}` failed: {reason}", value_span(reference))]) from failure

    return score
