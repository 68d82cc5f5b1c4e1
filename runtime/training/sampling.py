"""Drawing completions from a language model, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lossc.runtime.training.examples import stack


@torch.no_grad()
def sample(
    network: nn.Module, prompts: Sequence[Tensor], tokens: int, temperature: float, end: int | None, never: Sequence[int],
    generator: torch.Generator,
) -> list[Tensor]:  # fmt: skip
    """One completion for each prompt, of at most `tokens` tokens, up to and with `end`; those in `never` are not drawn."""
    was_training = network.training
    network.eval()
    try:
        drawn = _draw(network, prompts, tokens, temperature, end, never, generator)
    finally:
        network.train(was_training)
    return [row[: _length(row, end)] for row in drawn.cpu()]


def _length(row: Tensor, end: int | None) -> int:
    found = torch.nonzero(row == end) if end is not None else torch.empty(0)
    return int(found[0]) + 1 if len(found) else len(row)


def _draw(
    network: nn.Module, prompts: Sequence[Tensor], tokens: int, temperature: float, end: int | None, never: Sequence[int],
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """All rows go on until each of them has ended; what stands behind an end means nothing."""
    reader = _CachedReader if isinstance(network, PreTrainedModel) else _Reader
    reading = reader(network, prompts)
    found: list[Tensor] = []
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=generator.device)
    while len(found) < tokens and not ended.all():
        logits = reading.logits().float() / temperature
        logits[:, list(never)] = -torch.inf
        token = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        found.append(token)
        if end is not None:
            ended |= token == end
        reading.add(token)
    return torch.stack(found, dim=1)


class _Reader:
    """Reads the whole sequences again for each token: for any network that reads `input_ids`."""

    def __init__(self, network: nn.Module, prompts: Sequence[Tensor]) -> None:
        self.network = network
        self.rows = list(prompts)

    def logits(self) -> Tensor:
        """The scores of the next token of each row."""
        lengths = torch.tensor([len(row) for row in self.rows], device=self.rows[0].device)
        ids = stack(self.rows)
        attention = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        answer: Any = self.network(input_ids=ids, attention_mask=attention)
        scores: Tensor = getattr(answer, "logits", answer)
        return scores[torch.arange(len(ids), device=ids.device), lengths - 1]

    def add(self, tokens: Tensor) -> None:
        self.rows = [torch.cat((row, token[None])) for row, token in zip(self.rows, tokens, strict=True)]


class _CachedReader:
    """Reads each token once: prompts end at one place, padded in front, and what was read is kept by the network."""

    def __init__(self, network: nn.Module, prompts: Sequence[Tensor]) -> None:
        self.network = network
        self.new = stack([prompt.flip(0) for prompt in prompts]).flip(1)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.new.device)
        places = torch.arange(self.new.shape[1], device=self.new.device)
        self.attention = (places >= self.new.shape[1] - lengths[:, None]).long()
        self.positions = (self.attention.cumsum(1) - 1).clamp(min=0)
        self.cache: Any = None

    def logits(self) -> Tensor:
        """The scores of the next token of each row."""
        answer: Any = self.network(
            input_ids=self.new, attention_mask=self.attention, position_ids=self.positions, past_key_values=self.cache,
            use_cache=True,
        )  # fmt: skip
        self.cache = answer.past_key_values
        scores: Tensor = answer.logits[:, -1]
        return scores

    def add(self, tokens: Tensor) -> None:
        self.new = tokens[:, None]
        self.attention = torch.cat((self.attention, torch.ones_like(self.new)), dim=1)
        self.positions = self.positions[:, -1:] + 1
