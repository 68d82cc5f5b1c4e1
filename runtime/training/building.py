"""Before the first step: rows, networks and the objective of a run, and what a fixed network says of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import set_seed

from lossc.compiler.elaborate.groups import WEIGHTS_AXIS
from lossc.compiler.program import Program
from lossc.runtime.constraints import Constraint
from lossc.runtime.layouts import leaves_of
from lossc.runtime.objective import Objective
from lossc.runtime.training.checkpoints import saving
from lossc.runtime.training.earlier import (
    Earlier,
    default_model,
    load_teacher,
    plan_start,
    plan_teachers,
)
from lossc.runtime.training.examples import Batch
from lossc.runtime.training.feed_sections import Importance, Model, Reference, Teacher, identity
from lossc.runtime.training.feeds import SMALL
from lossc.runtime.training.folder import RunFolder
from lossc.runtime.training.frozen import add_frozen
from lossc.runtime.training.host import Trainee
from lossc.runtime.training.importance import importance, plan_importance
from lossc.runtime.training.models import (
    build_network,
    precision_of,
    restore_network,
)
from lossc.runtime.training.networks import Networks
from lossc.runtime.training.preparation import Prepared, prepare
from lossc.runtime.training.questions import Question, assign
from lossc.runtime.training.tokenizer import Tokenizer
from lossc.runtime.training.work import Session, device_of, total_steps

_MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Work:
    """The rows of a run, and the trainings that come before it."""

    prepared: Prepared
    start: Earlier | None
    teachers: dict[tuple[Any, ...], Earlier]
    loaded: dict[tuple[Any, ...], nn.Module]
    importances: list[tuple[Importance, Prepared, Objective]]


def prepare_work(session: Session) -> Work:
    """Everything that can be found wrong before anything is trained or written is found here."""
    run = session.run
    assigned = assign(run, session.spec)
    start = plan_start(session, assigned.streams[0].feed)
    tokenizer = start.prepared.sizes.tokenizer if start else session.tokenizer
    prepared = prepare(run, session.spec, session.base, tokenizer, allow_python=session.allow_python)
    teachers = plan_teachers(session, prepared.assigned, prepared.sizes.tokenizer)
    sections = {q.feed: None for q in prepared.assigned.questions if isinstance(q.feed, Importance)}
    importances = [(section, *plan_importance(session, section, prepared)) for section in sections]
    return Work(prepared, start, teachers, _loaded(session, prepared), importances)


def _loaded(session: Session, prepared: Prepared) -> dict[tuple[Any, ...], nn.Module]:
    """The teachers that exist already."""
    found: dict[tuple[Any, ...], nn.Module] = {}
    for question in prepared.assigned.questions:
        feed = question.feed
        if isinstance(feed, Teacher) and feed.path is not None and identity(feed) not in found:
            found[identity(feed)] = load_teacher(session.base / feed.path, prepared.feed, prepared.sizes)
    return found


def first_network(session: Session, prepared: Prepared) -> nn.Module:
    run = session.run
    set_seed(run.seed)
    section = default_model(run, prepared.feed)
    network = build_network(section, prepared.sizes, session.base, allow_python=session.allow_python)
    return network.to(precision_of(run.precision))


def make_objective(session: Session, prepared: Prepared, network: nn.Module) -> Objective:
    run, program = session.run, session.spec.program
    numbered = {
        axis: prepared.rows for stream in prepared.assigned.streams for name in stream.numbers
        if (axis := program.tensors[name].kind.codomain)
    }  # fmt: skip
    return Objective(
        program, sizes=numbered | _outputs(program, prepared, network) | _leaves(program, network),
        total_steps=total_steps(run, len(prepared.train)), seed=run.seed,
        constraints={name: Constraint(**section.model_dump()) for name, section in run.constraints.items()},
        allow=session.allow,
    )  # fmt: skip


def make_trainee(session: Session, work: Work, network: nn.Module, objective: Objective) -> Trainee:
    run, program, prepared = session.run, session.spec.program, work.prepared
    device = device_of(run)
    if work.start is not None:
        network = restore_network(network, RunFolder(session.folder.path / "first" / "start").model)
    network = network.to(device, precision_of(run.precision))
    feeds = [question.feed for question in prepared.assigned.questions if not _is_kept(question, prepared)]
    networks = Networks(network, feeds, _teachers(session, work) | _importances(session, work, network))
    return Trainee(network, objective, prepared.assigned, program, networks)


def _importances(session: Session, work: Work, network: nn.Module) -> dict[tuple[Any, ...], dict[str, torch.Tensor]]:
    return {
        identity(section): importance(session, network, rows, objective, section.rows)
        for section, rows, objective in work.importances
    }


def _outputs(program: Program, prepared: Prepared, network: nn.Module) -> dict[str, int]:
    """The extents of the axes that the network's answers end in: of the vocabulary, the classes, an embedding."""
    tokenizer = prepared.sizes.tokenizer
    count = prepared.sizes.outputs if tokenizer is None else _vocabulary(network, tokenizer)
    asked = [question.tensor for question in prepared.assigned.questions if isinstance(question.feed, Model) and question.ask]
    ends = (program.tensors[name] for name in asked)
    return {tensor.order[-1]: count for tensor in ends if tensor.kind.name != "logprob" and len(tensor.order) > 1}


def _leaves(program: Program, network: nn.Module) -> dict[str, int]:
    """The numbers of parameters in groups of weights whose leaves have an axis."""
    groups = [tensor for tensor in program.tensors.values() if tensor.kind.name == "weights" and tensor.kind.leaves]
    patterns = {str(group.kind.leaves): group.order[0].removeprefix(WEIGHTS_AXIS) for group in groups}
    return {axis: len(leaves_of(axis, network, pattern)) for axis, pattern in patterns.items()}


def _vocabulary(network: nn.Module, tokenizer: Tokenizer) -> int:
    """Of a network that may have more tokens than its tokenizer."""
    found: int = getattr(getattr(network, "config", None), "vocab_size", tokenizer.vocabulary)
    return found


def _teachers(session: Session, work: Work) -> dict[tuple[Any, ...], nn.Module]:
    """Every teacher, loaded or trained here, on the device of the run."""
    found = dict(work.loaded)
    for key, earlier in work.teachers.items():
        folder = session.folder.path / "first" / earlier.name
        found[key] = earlier.network(session.base, folder, allow_python=session.allow_python)
    place = device_of(session.run), precision_of(session.run.precision)
    return {key: teacher.to(*place).eval().requires_grad_(False) for key, teacher in found.items()}


def _is_kept(question: Question, prepared: Prepared) -> bool:
    """Whether its answers are worked out once: small ones, of a network that does not change, to batches that do not."""
    drawn = prepared.fresh.views or prepared.fresh.rollouts
    return isinstance(question.feed, Reference) and question.ask in SMALL and not drawn


def freeze(session: Session, prepared: Prepared, trainee: Trainee) -> None:
    wanted = {
        question.tensor: partial(_ask, question) for question in prepared.assigned.questions if _is_kept(question, prepared)
    }
    with saving(session.folder, session.folder.frozen):
        add_frozen(
            [*prepared.train, *prepared.held_out], wanted, trainee.network, session.folder.frozen,
            batch_size=session.run.batch.size, autocast=_MIXED.get(session.run.precision),
        )  # fmt: skip


def _ask(question: Question, network: nn.Module, batch: Batch) -> torch.Tensor:
    assert question.ask is not None
    return question.ask(network, batch, question.prefix)
