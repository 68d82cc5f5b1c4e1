"""How much each weight matters: the mean over rows of its squared gradient, at the network before the first step.

With the negative log-likelihood it is the diagonal of the empirical Fisher information (Kirkpatrick et al. 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossc.runtime.objective import Objective
from lossc.runtime.training.earlier import setting_of
from lossc.runtime.training.examples import Batch, collate
from lossc.runtime.training.feed_sections import Importance
from lossc.runtime.training.host import Trainee
from lossc.runtime.training.networks import Networks
from lossc.runtime.training.objective import read_objective
from lossc.runtime.training.preparation import Prepared, prepare
from lossc.runtime.training.runfile import ObjectiveSection, Run
from lossc.runtime.training.tokenizer import Tokenizer
from lossc.runtime.training.work import Session, device_of


def plan_importance(session: Session, section: Importance, prepared: Prepared) -> tuple[Prepared, Objective]:
    """The rows and the expression of which gradients are taken; everything wrong with them is raised here."""
    objective = ObjectiveSection(setting=setting_of(session, section.setting, prepared.feed), minimize=section.minimize)
    data = session.run.data.model_copy(
        update={"source": section.source or session.run.data.source, "held_out": 0.0, "held_out_source": None, "feed": None}
    )
    run = Run(objective=objective, data=data, precision=session.run.precision, seed=session.run.seed)
    spec = read_objective(run, session.base)
    tokenizer: Tokenizer | None = prepared.sizes.tokenizer
    return prepare(run, spec, session.base, tokenizer, allow_python=session.allow_python), Objective(spec.program)


def importance(session: Session, network: nn.Module, rows: Prepared, objective: Objective, count: int) -> dict[str, Tensor]:
    """By the name of each parameter, over the first `count` rows."""
    trainee = Trainee(network, objective, rows.assigned, objective.program, Networks(network, (), {})).eval()
    found = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
    examples = rows.train[:count]
    for example in examples:
        batch: Batch = _moved(collate([example]), device_of(session.run))
        weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        gradients = torch.autograd.grad(trainee(batch).loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                found[name] += gradient.detach() ** 2 / len(examples)
    return found


def _moved(batch: Batch, device: str) -> Batch:
    network, data = ({name: tensor.to(device) for name, tensor in part.items()} for part in (batch["network"], batch["data"]))
    return {"network": network, "data": data}
