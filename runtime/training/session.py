"""One run from start to end: prepare, evaluate, train, evaluate, save; or continue where it stopped."""

from __future__ import annotations

import platform
from typing import Any

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

import lossc
from lossc.runtime.training.building import first_network, freeze, make_objective, make_trainee, prepare_work
from lossc.runtime.training.earlier import train_earlier
from lossc.runtime.training.host import Trainee
from lossc.runtime.training.journal import Journal
from lossc.runtime.training.models import count_parameters
from lossc.runtime.training.preparation import Prepared
from lossc.runtime.training.processes import is_main
from lossc.runtime.training.running import Running
from lossc.runtime.training.work import Outcome, Session, total_steps

__all__ = ["Outcome", "Session", "train"]


def train(session: Session) -> Outcome:
    """Trains; every failure is a LosscError, and nothing that was saved before it is touched."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = session.folder
    manifest = _manifest(session)
    if session.resume and is_main():
        folder.continue_with(manifest)
    work = prepare_work(session)
    network = first_network(session, work.prepared)
    objective = make_objective(session, work.prepared, network)
    if not session.resume and is_main():
        folder.begin(manifest, {"run.yaml": session.text, "objective.loss": session.spec.text})
    for earlier in (*([work.start] if work.start else []), *work.teachers.values()):
        if train_earlier(session, earlier, train).interrupted:
            total = total_steps(session.run, len(work.prepared.train))
            return Outcome(folder, 0, total, Journal(folder.metrics), interrupted=True)
    trainee = make_trainee(session, work, network, objective)
    _describe(session.console, work.prepared, trainee)
    freeze(session, work.prepared, trainee)
    return Running(session, work.prepared, trainee).go()


def _describe(console: Console, prepared: Prepared, trainee: Trainee) -> None:
    rows = f"{len(prepared.train):,} rows to train on, {len(prepared.held_out):,} held out"
    console.print(f"{rows}, {count_parameters(trainee.network):,} weights", highlight=False, soft_wrap=True)


def _manifest(session: Session) -> dict[str, Any]:
    """What a run is (`identity`, which a resumed run must share) and where it was made."""
    import transformers

    run = session.run
    fixed = run.model_dump(mode="json", exclude={"output", "device", "objective", "tensorboard"})
    return {
        "identity": {"objective": session.spec.digest, **fixed},
        "base": str(session.base.resolve()),
        "versions": {
            "lossc": lossc.__version__, "torch": torch.__version__, "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }  # fmt: skip
