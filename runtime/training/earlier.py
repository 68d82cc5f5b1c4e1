"""Trainings that come first, in the same command: what a run starts from, and teachers.

Each is a run of its own below the folder of the run (`first/start`, `first/TENSOR`), with the same rows, split and seed, its
own checkpoints and curves; it is interrupted and resumed with the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from pydantic import TypeAdapter
from torch import nn

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.files import value_span
from lossc.runtime.training import sections
from lossc.runtime.training.feed_sections import Teacher, Training, identity
from lossc.runtime.training.feeds import Feed
from lossc.runtime.training.folder import RunFolder
from lossc.runtime.training.models import (
    Sizes,
    build_network,
    load_language_model,
    model_folder,
    precision_of,
    restore_network,
)
from lossc.runtime.training.objective import Spec, read_objective
from lossc.runtime.training.preparation import Prepared, prepare
from lossc.runtime.training.questions import Assigned
from lossc.runtime.training.runfile import ObjectiveSection, Run
from lossc.runtime.training.tokenizer import Tokenizer
from lossc.runtime.training.work import Outcome, Session


@dataclass(frozen=True)
class Earlier:
    """A training that comes first: what it is for, its run, and its rows, which were found to be sound."""

    name: str
    run: Run
    spec: Spec
    prepared: Prepared

    def network(self, base: Path, folder: Path, *, allow_python: bool) -> nn.Module:
        """The network that it trained."""
        section = default_model(self.run, self.prepared.feed)
        network = build_network(section, self.prepared.sizes, base, allow_python=allow_python)
        return restore_network(network.to(precision_of(self.run.precision)), RunFolder(folder).model)


def default_model(run: Run, feed: Feed) -> Any:
    return run.model or (sections.Llama(kind="llama") if feed.network == "language" else sections.Mlp(kind="mlp"))


def plan_start(session: Session, feed: Feed) -> Earlier | None:
    """What the run starts from, where it says so."""
    training = session.run.start
    return None if training is None else _plan(session, "start", training, session.run.model, feed, session.tokenizer)


def plan_teachers(session: Session, assigned: Assigned, tokenizer: Tokenizer | None) -> dict[tuple[Any, ...], Earlier]:
    """The teachers that this command trains, by what identifies them."""
    found: dict[tuple[Any, ...], Earlier] = {}
    for question in assigned.questions:
        feed = question.feed
        if isinstance(feed, Teacher) and feed.model is not None and identity(feed) not in found:
            first = assigned.streams[0].feed
            found[identity(feed)] = _plan(session, question.tensor, feed, feed.model, first, tokenizer)
    return found


def _plan(
    session: Session, name: str, training: Training, model: Any, feed: Feed, tokenizer: Tokenizer | None
) -> Earlier:
    setting = setting_of(session, training.setting, feed)
    given = session.run.data
    data = given.model_copy(
        update={
            "feed": None, "columns": given.columns if training.columns is None else training.columns,
            "source": training.source or given.source,
            "held_out_source": None if training.source else given.held_out_source,
        }
    )  # fmt: skip
    run = Run(
        objective=ObjectiveSection(setting=setting, minimize=training.minimize), data=data, model=model,
        optimiser=training.optimiser, schedule=training.schedule, batch=training.batch, length=training.length,
        precision=session.run.precision, seed=session.run.seed, device=session.run.device,
    )  # fmt: skip
    spec = read_objective(run, session.base)
    return Earlier(name, run, spec, prepare(run, spec, session.base, tokenizer, allow_python=session.allow_python))


def setting_of(session: Session, named: str | None, feed: Feed) -> str:
    """The setting of a training that comes first."""
    return named or ("tokens" if feed.network == "language" else next(iter(session.spec.streams.values())))


def train_earlier(session: Session, earlier: Earlier, train: Callable[[Session], Outcome]) -> Outcome:
    """Trains it, or what is left of it, below the folder of the run."""
    folder = RunFolder(session.folder.path / "first" / earlier.name)
    session.console.print(f"first, `{earlier.name}`: {earlier.run.objective.minimize}", highlight=False)
    inner = replace(
        session, run=earlier.run, spec=earlier.spec, folder=folder, text=as_yaml(earlier.run),
        resume=session.resume and folder.manifest.exists(), tokenizer=earlier.prepared.sizes.tokenizer,
    )  # fmt: skip
    outcome = train(inner)
    PartialState().wait_for_everyone()  # the process that writes has written
    return outcome


def load_teacher(path: Path, feed: Feed, sizes: Sizes) -> nn.Module:
    """The teacher in a folder; E840 where there is none, E843 where it speaks another vocabulary."""
    if feed.network == "rows":
        return _of_run(path, sizes)
    teacher = load_language_model(model_folder(path))
    assert sizes.tokenizer is not None
    theirs, ours = teacher.config.vocab_size, sizes.tokenizer.vocabulary  # type: ignore[union-attr]
    if theirs != ours:
        message = f"the teacher has {theirs} tokens, the tokenizer of this run {ours}"
        raise LosscError([error("E843", message, value_span(str(path)), help="leave out `data: {tokenizer: …}`")])
    return teacher


def _of_run(path: Path, sizes: Sizes) -> nn.Module:
    """The network of rows that a run of lossc trained, which its manifest describes."""
    if not (path / "manifest.json").is_file():
        message = f"cannot load a network from `{path}`: it is not the folder of a run"
        raise LosscError([error("E840", message, value_span(str(path)), help="a network of numbers is named by its run")])
    described = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["identity"]["model"] or {"kind": "mlp"}
    section: Any = TypeAdapter(sections.ModelSection).validate_python(described)
    return restore_network(build_network(section, sizes, path), RunFolder(path).model)


def as_yaml(run: Run) -> str:
    """A run file that says the same as the run; what has its default is left out."""
    import yaml

    values = run.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text
