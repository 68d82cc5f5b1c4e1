"""Texts as aligned sequences, and what a language model says of them.

The host shifts, once: the network reads tokens 0 to n - 1, and `labels[t]` is the token that follows the one read at t.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossc.runtime.training.examples import Batch
from lossc.runtime.training.rows import BadValueError
from lossc.runtime.training.tokenizer import Tokenizer

Sequence = dict[str, Tensor]


def encode(tokenizer: Tokenizer, prompt: str, text: str, tokens: int, column: str = "text") -> Sequence:
    """`ids` to read, `attention`, `labels` to score and `mask`, true on the tokens of `text` and its end."""
    before = [*tokenizer.start, *tokenizer.encode(prompt)]
    after = [*tokenizer.encode(text), *tokenizer.end]
    whole = [*before, *after][: tokens + 1]
    start = max(len(before), 1)
    if len(whole) <= start:
        raise BadValueError(f"has nothing within the first {tokens} tokens (see `data.tokens`)", column=column)
    return sequence_of(torch.tensor(whole[:start]), torch.tensor(whole[start:]))


def sequence_of(before: Tensor, after: Tensor) -> Sequence:
    """The sequence of two runs of tokens, of which the second is scored."""
    whole = torch.cat((before, after))
    scored = torch.arange(len(whole)) >= len(before)
    return {"ids": whole[:-1], "attention": torch.ones(len(whole) - 1), "labels": whole[1:], "mask": scored[1:]}


def prompt_tokens(tokenizer: Tokenizer, text: str, tokens: int) -> Tensor:
    """The tokens to complete; BadValueError where there are none, or more than `tokens`."""
    ids = [*tokenizer.start, *tokenizer.encode(text)]
    if not 0 < len(ids) <= tokens:
        reason = f"has {len(ids)} tokens, and {tokens} fit before a completion (see `data.tokens`)"
        raise BadValueError(reason if ids else "is empty", column="prompt")
    return torch.tensor(ids)


def scores(network: nn.Module, batch: Batch, prefix: str = "") -> Tensor:
    """The logits `[..., t, v]` of the sequences under `prefix`, whatever axes stand before `t`."""
    ids, attention = batch["network"][f"{prefix}ids"], batch["network"][f"{prefix}attention"]
    width = ids.shape[-1]
    answer: Any = network(input_ids=ids.reshape(-1, width), attention_mask=attention.reshape(-1, width).long())
    logits: Tensor = getattr(answer, "logits", answer)
    return logits.reshape(*ids.shape, logits.shape[-1])


def hidden_states(network: nn.Module, batch: Batch, prefix: str = "") -> Tensor:
    """What the last layer of the network makes of each token, `[..., t, d]`."""
    ids, attention = batch["network"][f"{prefix}ids"], batch["network"][f"{prefix}attention"]
    width = ids.shape[-1]
    answer: Any = network(
        input_ids=ids.reshape(-1, width), attention_mask=attention.reshape(-1, width).long(), output_hidden_states=True
    )
    states: Tensor = answer.hidden_states[-1]
    return states.reshape(*ids.shape, states.shape[-1])


def token_logp(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The log-probability in nats of each label, 0 where it is not scored."""
    logp = logits.float().log_softmax(-1) if logits.dtype.itemsize < 8 else logits.log_softmax(-1)
    picked = logp.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return picked.masked_fill(~(mask & (labels >= 0)), 0)


def sequence_logp(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The log-probability in nats of each whole sequence."""
    return token_logp(logits, labels, mask).sum(-1)
