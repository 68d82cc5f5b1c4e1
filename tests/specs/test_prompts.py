"""Terms typed at a prompt: a bare name is a call, and what still has axes is reduced as its setting says."""

from __future__ import annotations

import pytest
from tests.oracles.batches import SETTINGS
from tests.specs.cases import CASES
from tests.specs.compare import assert_equal, evaluate

import lossc

PROMPTS = {
    ("tokens", "label_smoothing"): "label_smoothing(logits, labels)",
    ("pairs", "dpo(beta=0.1) + 0.2*sft"): "dpo + 0.2 sft",
    ("pairs", "simpo"): "simpo()",
    ("unpaired", "kto"): "kto()",
    ("rollouts", "grpo + 0.04*k3"): "grpo() + 0.04 * k3()",
    ("distill", "0.5*distill + 0.5*nll"): "distillation and cross-entropy",
    ("classes", "focal + 0.5*label_smoothing"): "focal and smoothing",
    ("regression", "pinball(tau=0.9)"): "pinball(error, tau = 0.9)",
    ("embeddings", "info_nce"): "info_nce()",
}
"""A prompt in a setting, and the case that it spells."""


@pytest.mark.parametrize(("setting", "prompt"), PROMPTS, ids=str)
def test_prompt_is_the_case(setting: str, prompt: str) -> None:
    case = CASES[PROMPTS[setting, prompt]]
    objective = lossc.loads(prompt, setting=setting)
    batch = case.batch(seed=3)
    found = evaluate(lambda tensors: objective(**tensors).loss, batch, case.differentiable & batch.keys())
    assert_equal(found, evaluate(case.oracle, batch, case.differentiable & batch.keys()))


def test_every_setting_has_a_batch() -> None:
    from lossc.compiler.library import shipped_module

    module = shipped_module("std.settings")
    assert module is not None
    assert set(module.settings) - {"referenced"} == set(SETTINGS)
