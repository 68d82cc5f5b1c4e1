"""One run from start to end: prepare, evaluate, train, evaluate, save; or continue where it stopped."""

from __future__ import annotations

import math
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

import lossc
from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.files import value_span
from lossc.runtime.objective import Objective
from lossc.runtime.training import runfile
from lossc.runtime.training.curves import draw_curves
from lossc.runtime.training.folder import RunFolder
from lossc.runtime.training.frozen import add_frozen
from lossc.runtime.training.host import ObjectiveTrainer, Trainee
from lossc.runtime.training.journal import Journal, Reading
from lossc.runtime.training.models import (
    build_network,
    count_parameters,
    load_language_model,
    precision_of,
    save_network,
)
from lossc.runtime.training.objective import Spec, tensors_used
from lossc.runtime.training.preparation import Prepared, prepare
from lossc.runtime.training.processes import is_main, local_rank, world_size
from lossc.runtime.training.progress import ProgressView
from lossc.runtime.training.runfile import Run

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_OPTIMISERS = {"adamw": "adamw_torch", "adam": "adamw_torch", "sgd": "sgd", "adafactor": "adafactor", "rmsprop": "rmsprop"}
_DRAWING_PAUSE = 20.0
"""Seconds between two pictures of a run that goes on; the last one is drawn in any case."""
_MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Session:
    """Everything that a run needs besides its run file."""

    run: Run
    spec: Spec
    base: Path
    """The folder from which relative paths of the run count."""
    folder: RunFolder
    text: str
    """The run file as it was written."""
    console: Console
    resume: bool = False
    allow_python: bool = False


@dataclass
class Outcome:
    """What became of a run."""

    folder: RunFolder
    steps: int
    total: int
    journal: Journal
    interrupted: bool = False


def train(session: Session) -> Outcome:
    """Trains; every failure is a LosscError, and nothing that was saved before it is touched."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    run, folder = session.run, session.folder
    manifest = _manifest(session)
    if session.resume and is_main():
        folder.continue_with(manifest)
    prepared = prepare(run, session.spec, session.base)
    set_seed(run.seed)
    trainee = _trainee(session, prepared)
    if not session.resume and is_main():
        folder.begin(manifest, {"run.yaml": session.text, "objective.loss": session.spec.text})
    _describe(session.console, prepared, trainee)
    _freeze(session, prepared, trainee)
    return _Running(session, prepared, trainee).go()


def _describe(console: Console, prepared: Prepared, trainee: Trainee) -> None:
    rows = f"{len(prepared.train):,} rows to train on, {len(prepared.held_out):,} held out"
    console.print(f"{rows}, {count_parameters(trainee.network):,} weights", highlight=False, soft_wrap=True)


def _manifest(session: Session) -> dict[str, Any]:
    """What a run is (`identity`, which a resumed run must share) and where it was made."""
    import transformers

    run = session.run
    identity = run.model_dump(mode="json", exclude={"output", "device", "objective"})
    return {
        "identity": {"objective": session.spec.digest, **identity},
        "base": str(session.base.resolve()),
        "versions": {
            "lossc": lossc.__version__, "torch": torch.__version__, "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }  # fmt: skip


def _trainee(session: Session, prepared: Prepared) -> Trainee:
    run = session.run
    default: Any = runfile.Llama(kind="llama") if prepared.feed.network == "language" else runfile.Mlp(kind="mlp")
    network = build_network(run.model or default, prepared.sizes, session.base, allow_python=session.allow_python)
    network.to(precision_of(run.precision))
    return Trainee(network, Objective(session.spec.program), prepared.feed, session.spec.program, _teacher(session, prepared))


def _teacher(session: Session, prepared: Prepared) -> nn.Module | None:
    """The frozen teacher, where the objective reads one; E843 where it is missing or speaks another vocabulary."""
    if "teacher" not in prepared.feed.tensors or "teacher" not in tensors_used(session.spec.program):
        return None
    if session.run.teacher is None:
        raise LosscError([
            error(
                "E843", "this objective needs a teacher", value_span("teacher"),
                help="name the folder of a language model: `teacher: runs/large/model`",
            )
        ])  # fmt: skip
    teacher = load_language_model(session.base / session.run.teacher)
    assert prepared.sizes.tokenizer is not None
    theirs, ours = teacher.config.vocab_size, prepared.sizes.tokenizer.vocabulary  # type: ignore[union-attr]
    if theirs != ours:
        message = f"the teacher has {theirs} tokens, the tokenizer of this run {ours}"
        raise LosscError([error("E843", message, value_span(session.run.teacher), help="leave out `data: {tokenizer: …}`")])
    return teacher.to(_device(session.run), precision_of(session.run.precision)).eval().requires_grad_(False)


def _freeze(session: Session, prepared: Prepared, trainee: Trainee) -> None:
    used = tensors_used(session.spec.program)
    wanted = {name: compute for name, compute in prepared.feed.frozen.items() if name in used}
    device = _device(session.run)
    add_frozen(
        [*prepared.train, *prepared.held_out], wanted, trainee.network.to(device), session.folder.frozen,
        batch_size=session.run.batch.size, autocast=_MIXED.get(session.run.precision),
    )  # fmt: skip


def _device(run: Run) -> str:
    return f"cuda:{local_rank()}" if run.device == "auto" and torch.cuda.is_available() else "cpu"


class _Running(TrainerCallback):
    """Follows the Trainer: readings, picture, bar, interruption."""

    def __init__(self, session: Session, prepared: Prepared, trainee: Trainee) -> None:
        self.session = session
        self.prepared = prepared
        self.trainee = trainee
        self.journal = Journal(session.folder.metrics, kept=is_main())
        self.reading: Reading | None = None
        self.view: ProgressView | None = None
        self.host: ObjectiveTrainer
        self.interrupted = False
        self.drawn = time.monotonic()
        self.total = total_steps(session.run, len(prepared.train))

    def go(self) -> Outcome:
        start = self._start()
        trainer = self.host = self._trainer()
        with _interruptions(self), ProgressView(self.session.console, self.total, start) as self.view:
            if start == 0 and self.prepared.held_out:
                trainer.evaluate()
            if start < self.total:
                trainer.train(resume_from_checkpoint=str(self.session.folder.checkpoint(start)) if start else None)
            else:
                trainer.restore(start)
        return self._finish(trainer)

    def _start(self) -> int:
        """The step to continue after; 0 for a run from its beginning."""
        steps = self.session.folder.steps() if self.session.resume else []
        start = steps[-1] if steps else 0
        if is_main():
            self.session.folder.clear_staging()
        self.journal.go_back_to(start if start else -1)
        return start

    def _finish(self, trainer: ObjectiveTrainer) -> Outcome:
        done = trainer.state.global_step
        outcome = Outcome(self.session.folder, done, self.total, self.journal, interrupted=self.interrupted)
        if not self.interrupted and is_main():
            save_network(self.trainee.network, self.prepared.sizes, self.session.folder.model)
        self.draw()
        return outcome

    def _trainer(self) -> ObjectiveTrainer:
        run = self.session.run
        return ObjectiveTrainer(
            self.trainee, _arguments(run, self.session.folder, self.total, bool(self.prepared.held_out)),
            self.session.folder, run.save.keep, callbacks=[self], train=self.prepared.train,
            held_out=self.prepared.held_out, on_reading=self.on_reading,
        )  # fmt: skip

    def draw(self) -> None:
        if not is_main():
            return
        title = f"{self.session.spec.program.name}, step {self.journal.readings[-1].step}" if self.journal.readings else ""
        draw_curves(self.journal.readings, title, self.session.folder.curves)
        self.drawn = time.monotonic()

    def on_reading(self, reading: Reading) -> None:
        """A reading of the held-out rows."""
        self.journal.write(reading)
        if time.monotonic() - self.drawn > _DRAWING_PAUSE:
            self.draw()

    # Calls of the Trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.reading = self.host.read_window()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        assert self.reading is not None and self.view is not None
        self.journal.write(self.reading)
        self.view.step(self.reading)
        self.interrupted = self.host.on_any_process(self.interrupted)
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True
        return control


@contextmanager
def _interruptions(running: _Running) -> Iterator[None]:
    """The first Ctrl-C or TERM ends the run behind the step in hand, with a checkpoint; the second ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _: object) -> None:
        if running.interrupted:
            raise KeyboardInterrupt
        running.interrupted = True
        running.session.console.print("ending after this step; once more to end at once", highlight=False)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def total_steps(run: Run, rows: int) -> int:
    """The optimiser steps of a whole run."""
    if run.length.steps is not None:
        return run.length.steps
    batches = math.ceil(rows / (run.batch.size * world_size()))
    return max(1, math.ceil(float(run.length.epochs or 1) * math.ceil(batches / run.batch.accumulate)))


def _arguments(run: Run, folder: RunFolder, total: int, evaluate: bool) -> TrainingArguments:
    """The run in the words of the Trainer; whatever is not in the run file is switched off."""
    return TrainingArguments(
        output_dir=str(folder.staging),
        max_steps=total,
        per_device_train_batch_size=run.batch.size,
        per_device_eval_batch_size=run.batch.size,
        gradient_accumulation_steps=run.batch.accumulate,
        optim=_OPTIMISERS[run.optimiser.name],
        learning_rate=run.optimiser.rate,
        weight_decay=run.optimiser.weight_decay,
        max_grad_norm=run.optimiser.clip,
        lr_scheduler_type=_SCHEDULES[run.schedule.name],
        warmup_steps=round(run.schedule.warmup * total),
        bf16=run.precision == "bf16",
        fp16=run.precision == "fp16",
        seed=run.seed,
        use_cpu=_device(run) == "cpu",
        eval_strategy="steps" if evaluate else "no",
        eval_steps=run.evaluate.every or max(1, total // 10),
        save_strategy="steps",
        save_steps=run.save.every or max(1, total // 4),
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
