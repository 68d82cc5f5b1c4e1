"""Completions that the network draws, and their rewards."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.training.examples import collate
from lossc.runtime.training.planning import plan_run
from lossc.runtime.training.preparation import prepare
from lossc.runtime.training.rewards import equals_rule, overlap_rule, words_rule
from lossc.runtime.training.sampling import sample

from .test_training_failures import at_step, lines
from .training_runs import assert_equal_weights, start

RUN = """\
objective: |
  objective policy
  use std.settings.rollouts
  use std.policy (grpo, k3)
  minimize
    policy : mean[q, sample, t where mask](grpo(ratio, advantage))
    kl     : 0.1 * mean[q, sample, t where mask](k3(logp, ref_logp))
  monitor
    reward : mean[q, sample](reward)
    moved  : mean[q, sample, t where mask](abs(ratio - 1))
data: {source: prompts.jsonl, held_out: 0.25, tokens: 24}
feeds:
  completions: {kind: samples, count: 3, tokens: 5}
  rewards: {kind: reward, rule: python, function: 'reward.py:score'}
start: {length: {steps: 2}, columns: {text: answer}}
model: {kind: llama, hidden: 16, layers: 1, heads: 2}
optimiser: {rate: 1e-2}
batch: {size: 2, accumulate: 2}
length: {steps: 4}
evaluate: {every: 2}
save: {every: 1}
"""
REWARD = "def score(row, completion):\n    return sum(letter in row['answer'] for letter in completion) / 8\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{n}?" * (1 + n % 3), "answer": "abc"[n % 3] * 3} for n in range(16)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("reward.py").write_text(REWARD, encoding="utf-8")


# Drawing


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=11, max_position_embeddings=32, initializer_range=0.5, **sizes)).double()


class Plain(nn.Module):
    """A network that keeps nothing of what it has read."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask).logits


PROMPTS = [torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([5, 6, 7, 8, 9])]


def draws(network: nn.Module, temperature: float = 1.0, prompts: list[torch.Tensor] = PROMPTS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [row.tolist() for row in sample(network, prompts, 8, temperature, 0, [10], generator)]


def test_reading_once_and_reading_again_draw_the_same() -> None:
    network = llama().train()
    drawn = draws(network)
    assert drawn == draws(Plain(network))
    assert network.training
    assert all(0 not in row[:-1] and 10 not in row and 1 <= len(row) <= 8 for row in drawn)


def test_draws_follow_the_probabilities_of_the_network() -> None:
    network = llama()
    with torch.no_grad():
        logits = network(input_ids=PROMPTS[0][None]).logits[0, -1] / 0.7
    expected = logits[:10].softmax(-1)
    first = torch.tensor([row[0] for row in draws(network, 0.7, [PROMPTS[0]] * 4000)])
    assert (torch.bincount(first, minlength=10)[:10] / 4000 - expected).abs().max() < 0.03
    greedy = draws(network, 1e-6, [PROMPTS[0]] * 2)
    assert greedy[0][0] == greedy[1][0] == logits[:10].argmax()


# Rewards


def test_rewards_by_rule() -> None:
    words = words_rule(["The quick fox", "a file"], at_least=2)
    texts = {"the fox": 1, "the the": 0.5, "file": 0.5, "fog file": 0.5, "": 0, "fox is 12 a.": 0.5}
    assert {text: words({}, text) for text in texts} == texts
    equals = equals_rule("answer")
    assert [equals({"answer": 12}, text) for text in (" 12 ", "1 2")] == [1, 0]
    overlap = overlap_rule("answer")
    assert overlap({"answer": "a b b"}, "b c") == pytest.approx(2 * 1 / 5)
    assert overlap({"answer": ""}, "") == 0


# Runs


def test_a_policy_is_resumed_to_the_same_numbers_and_its_samples_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = start(RUN, "whole", allow_python=True)
    assert all(reading.monitors["moved"] < 1e-5 for reading in whole.journal.readings)
    kept = [json.loads(line) for line in Path("whole/samples.jsonl").read_text().splitlines()]
    assert (len(kept), {record["step"] for record in kept}) == (4 * 3, {4})
    mean = sum(record["reward"] for record in kept) / len(kept)
    assert mean == pytest.approx(whole.journal.of("held_out")[-1].monitors["reward"], abs=1e-6)
    assert whole.journal.of("held_out")[0].terms["kl"] == pytest.approx(0, abs=1e-6)
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert start(RUN, "broken", allow_python=True).interrupted
    resumed = start(RUN, "broken", allow_python=True, resume=True)
    assert lines("broken") == lines("whole")
    assert_equal_weights(whole, resumed)


def test_a_sampler_that_is_renewed_now_and_then_lags_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    every_one_differs = "def score(row, completion):\n    return sum(map(ord, completion)) % 8 / 8\n"
    Path("reward.py").write_text(every_one_differs, encoding="utf-8")
    text = RUN.replace("count: 3", "every: 2, count: 3").replace("accumulate: 2", "accumulate: 1")
    outcome = start(text, "one", allow_python=True)
    moved = [reading.monitors["moved"] for reading in outcome.journal.of("train")]
    assert [value < 1e-5 for value in moved] == [True, False, True, False]


def test_what_is_drawn_is_what_is_scored() -> None:
    Path("run.yaml").write_text(RUN.replace("rule: python, function: 'reward.py:score'", "rule: words"), encoding="utf-8")
    plan = plan_run("run.yaml", {}, resume=False)
    ready = prepare(plan.run, plan.spec, plan.base)
    assert ready.sizes.tokenizer is not None
    torch.manual_seed(0)
    network = LlamaForCausalLM(LlamaConfig(
        vocab_size=ready.sizes.tokenizer.vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2,
    ))  # fmt: skip
    batch, drawn = ready.fresh(collate(ready.train[:2]), network, 0)
    data, read = batch["data"], batch["network"]
    assert data["labels"].shape[:2] == (2, 3)
    decode = ready.sizes.tokenizer.inner.decode
    for at, each in enumerate(drawn):
        scored = data["labels"][at // 3, at % 3][data["mask"][at // 3, at % 3]]
        before = read["ids"][at // 3, at % 3][: int((~data["mask"][at // 3, at % 3]).long().cumprod(0).sum()) + 1]
        assert decode(scored.tolist(), skip_special_tokens=True) == each.completion
        assert decode(before.tolist(), skip_special_tokens=True) == each.prompt
    assert ready.fresh(collate(ready.train[:2]), network, 1)[1] != drawn


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("tokens: 24", "tokens: 8"), "E822"),
        (("rule: python, function: 'reward.py:score'", "rule: equals, column: solution"), "E821"),
        (("rule: python, function: 'reward.py:score'", "rule: equals"), "E812"),
        (("reward.py:score", "nowhere.py:score"), "E842"),
        (("columns: {text: answer}", "columns: {text: solution}"), "E821"),
    ],
    ids=str,
)
def test_rollouts_that_cannot_be_are_refused(change: tuple[str, str], expected: str) -> None:
    with pytest.raises(LosscError, match=expected):
        start(RUN.replace(*change), "one", allow_python=True)
    assert not Path("one").exists()


def test_a_reward_of_python_only_where_it_is_allowed() -> None:
    with pytest.raises(LosscError, match="E841"):
        start(RUN, "one")
    Path("reward.py").write_text("def score(row, completion):\n    return row['nothing']\n", encoding="utf-8")
    with pytest.raises(LosscError, match="E842"):
        start(RUN, "one", allow_python=True)
