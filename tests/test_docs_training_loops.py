"""The page on training loops: its scripts run, and accumulate exactly, in a plain loop and in the Trainer of Transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import lossc

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "training_loops.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the scripts of the page define, run in order."""
    found: dict[str, Any] = {}
    for script in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(script, "training_loops.md", "exec"), found)
    return found


def test_micro_batches_add_up(names: dict[str, Any]) -> None:
    objective, batches = names["objective"], names["batches"]
    head = torch.nn.Linear(16, 50)
    for hidden, data in batches:
        denominators = sum(objective.denominators(**each) for _, each in batches)
        objective(logits=head(hidden), **data, denominators=denominators).loss.backward()
    logits = torch.cat([head(hidden).flatten(0, 1) for hidden, _ in batches])
    labels = torch.cat([data["labels"][data["mask"]] for _, data in batches])
    mask = torch.cat([data["mask"].flatten() for _, data in batches])
    whole = torch.autograd.grad(torch.nn.functional.cross_entropy(logits[mask], labels), head.weight)
    torch.testing.assert_close(head.weight.grad, whole[0])


@pytest.mark.parametrize(("size", "accumulate"), [(4, 1), (1, 4)])
def test_the_trainer_takes_the_same_step(
    names: dict[str, Any], size: int, accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

    monkeypatch.setenv("WANDB_DISABLED", "true")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    rows = [{"input_ids": torch.randint(30, (8,)), "labels": torch.randint(30, (8,))} for _ in range(4)]
    for left_out, row in enumerate(rows):
        row["labels"][: 2 * left_out] = -100
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=size, gradient_accumulation_steps=accumulate, max_steps=1,
        learning_rate=0.1, optim="sgd", max_grad_norm=0.0, lr_scheduler_type="constant", report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    before = model.lm_head.weight.detach().clone()
    stacked = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    logits = model(input_ids=stacked["input_ids"]).logits[:, :-1].flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(logits, stacked["labels"][:, 1:].flatten())
    (expected,) = torch.autograd.grad(loss, model.lm_head.weight)
    trainer = names["ObjectiveTrainer"](
        model, arguments, train_dataset=rows, objective=lossc.loads("nll", setting="tokens")
    )  # fmt: skip
    trainer.train()
    moved = (before - model.lm_head.weight.detach()) / 0.1
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-5)
