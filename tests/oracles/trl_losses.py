"""The trainers of TRL 1.16, called with a model that returns given log-probabilities in place of a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from tests.oracles.batches import Batch
from tests.oracles.settings import advantages
from torch import Tensor
from trl import DPOTrainer, GRPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.gkd import GKDTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.utils import FusedCausalLMOutput

Loss = Callable[[Batch], Tensor]


def _token_logp(batch: Batch) -> Tensor:
    """Log-probabilities of the labels, 0 outside the mask."""
    logp = batch["logits"].log_softmax(-1).gather(-1, batch["labels"].unsqueeze(-1)).squeeze(-1)
    return torch.where(batch["mask"], logp, 0.0)


def _stacked(x: Tensor) -> Tensor:
    """Chosen rows, then rejected rows."""
    return torch.cat([x[:, 0], x[:, 1]])


def _accelerator() -> SimpleNamespace:
    def same(x: Any, *_: Any, **__: Any) -> Any:
        return x

    return SimpleNamespace(
        device=torch.device("cpu"), gather=same, gather_for_metrics=same, reduce=same, num_processes=1
    )


def _model(*outputs: Tensor) -> Callable[..., FusedCausalLMOutput]:
    """A model whose n-th call returns the n-th log-probabilities."""
    calls = iter(outputs)

    def model(**_: Any) -> FusedCausalLMOutput:
        logp = next(calls)
        zeros = torch.zeros_like(logp.detach())
        return FusedCausalLMOutput(
            log_probs=logp, entropy=zeros, log_sum_sq_probs=zeros, mean_logits=zeros, is_top1=zeros.bool()
        )

    return model


def _shifted(mask: Tensor) -> Tensor:
    """A mask of labels as a mask of input positions: one more in front."""
    return torch.nn.functional.pad(mask.long(), (1, 0))


def dpo(kind: str, beta: float, label_smoothing: float = 0.0, tau: float = 0.05) -> Loss:
    def loss(batch: Batch) -> Tensor:
        mask = _shifted(_stacked(batch["mask"]))
        ref_chosen, ref_rejected = batch["ref_logp"].unbind(1)
        trainer = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=_accelerator(),
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=tau),
            f_divergence_type="reverse_kl",
            f_alpha_divergence_coef=0.5,
            loss_types=[kind],
            loss_weights=[1.0],
            beta=beta,
            label_smoothing=label_smoothing,
            use_weighting=False,
            _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
            _tp_size=1,
        )
        inputs = {
            "input_ids": torch.zeros_like(mask),
            "attention_mask": torch.ones_like(mask),
            "completion_mask": mask,
            "ref_chosen_logps": ref_chosen,
            "ref_rejected_logps": ref_rejected,
        }
        return DPOTrainer._compute_loss(trainer, _model(_stacked(_token_logp(batch))), inputs, False)

    return loss


def kto(kind: str = "kto") -> Loss:
    def loss(batch: Batch) -> Tensor:
        mask = _shifted(batch["mask"])
        trainer = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=_accelerator(),
            aux_loss_enabled=False,
            precompute_ref_logps=True,
            calculate_KL=True,
            _compute_kl_logps=lambda model, inputs: batch["kl_logp"],
            loss_type=kind,
            beta=0.1,
            desirable_weight=1.0,
            undesirable_weight=1.0,
            _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
            _tp_size=1,
        )
        inputs = {
            "label": batch["desirable"],
            "input_ids": torch.zeros_like(mask),
            "attention_mask": torch.ones_like(mask),
            "completion_mask": mask,
            "ref_logps": batch["ref_logp"],
            "ref_KL_logps": batch["kl_ref_logp"],
        }
        return KTOTrainer._compute_loss(trainer, _model(_token_logp(batch)), inputs, False)

    return loss


def grpo(kind: str, *, eps: tuple[float, float] = (0.2, 0.2), beta: float = 0.0) -> Loss:
    """The policy loss a token over all tokens (`bnpo`, `cispo`), the advantages as TRL scales rewards."""

    def flat(x: Tensor) -> Tensor:
        return x.flatten(0, 1)

    def loss(batch: Batch) -> Tensor:
        mask, logp = flat(batch["mask"]).long(), flat(_token_logp(batch))
        trainer = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=_accelerator(),
            _get_per_token_logps_and_entropies=lambda *_, **__: (logp, torch.zeros_like(logp.detach()), None),
            aux_loss_enabled=False,
            top_entropy_quantile=1.0,
            off_policy_mask_threshold=None,
            importance_sampling_level="token",
            beta=beta,
            loss_type=kind,
            epsilon_low=eps[0],
            epsilon_high=eps[1],
            args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
            use_vllm=False,
            current_gradient_accumulation_steps=1,
            _entropy_bonus_enabled=False,
            _metrics=defaultdict(lambda: defaultdict(list)),
        )
        inputs = {
            "prompt_ids": mask[:, :1],
            "prompt_mask": mask[:, :1],
            "completion_ids": mask,
            "completion_mask": mask,
            "advantages": flat(advantages(batch["reward"])),
            "old_per_token_logps": flat(batch["old_logp"]),
            "ref_per_token_logps": flat(batch["ref_logp"]),
            "num_items_in_batch": mask.sum(),
        }
        return GRPOTrainer._compute_loss(trainer, None, inputs)

    return loss


def _averages(batch: Batch) -> tuple[Tensor, Tensor]:
    averages = _token_logp(batch).sum(-1) / batch["mask"].sum(-1)
    return averages[:, 0], averages[:, 1]


def simpo(batch: Batch) -> Tensor:
    trainer = SimpleNamespace(
        alpha=0.0, beta=2.0, loss_type="simpo", simpo_gamma=0.5, label_smoothing=0.0, accelerator=_accelerator()
    )
    return CPOTrainer.cpo_loss(trainer, *_averages(batch))[0].mean()


def orpo(batch: Batch) -> Tensor:
    trainer = SimpleNamespace(beta=1.0, accelerator=_accelerator())
    return -ORPOTrainer.odds_ratio_loss(trainer, *_averages(batch))[0].mean()


def gkd(batch: Batch) -> Tensor:
    """TRL mixes beta of the teacher: here `p`; its student is `q`."""
    return GKDTrainer.generalized_jsd_loss(batch["q"], batch["p"], beta=0.3)


def trl_losses() -> dict[str, Loss]:
    """Losses of TRL by case."""
    return {
        "dpo()": dpo("sigmoid", 0.1),
        "dpo(margin, beta = 0.5)": dpo("sigmoid", 0.5),
        "hinge(margin, beta = 0.3)": dpo("hinge", 0.3),
        "robust_dpo(margin, eps = 0.2)": dpo("robust", 0.1, label_smoothing=0.2),
        "discopop()": dpo("discopop", 0.05),
        "apo_zero(logp - ref_logp)": dpo("apo_zero", 0.1),
        "ipo of averages": dpo("ipo", 0.1),
        "sft": dpo("sft", 0.1),
        "kto()": kto(),
        "simpo()": simpo,
        "orpo()": orpo,
        "ppo_clip()": grpo("bnpo"),
        "grpo(ratio, advantage, eps_low = 0.1, eps_high = 0.3)": grpo("bnpo", eps=(0.1, 0.3)),
        "grpo() + 0.04 * k3()": grpo("bnpo", beta=0.04),
        "cispo(cap = 1.1)": grpo("cispo", eps=(0.2, 1.1)),
        "gjs(p, q, beta = 0.3)": gkd,
    }
