"""One run from start to end: prepare, evaluate, train, evaluate, save; or continue where it stopped."""

from __future__ import annotations

import json
import math
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from transformers import TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

import lossc
from lossc.compiler.program import Program
from lossc.runtime.constraints import Constraint
from lossc.runtime.files import write_text
from lossc.runtime.objective import Objective
from lossc.runtime.training.board import Board, opened_board
from lossc.runtime.training.checkpoints import saving
from lossc.runtime.training.curves import draw_curves
from lossc.runtime.training.earlier import (
    Earlier,
    default_model,
    load_teacher,
    plan_start,
    plan_teachers,
    train_earlier,
)
from lossc.runtime.training.examples import Batch
from lossc.runtime.training.feed_sections import Model, Reference, Teacher, identity
from lossc.runtime.training.feeds import SMALL
from lossc.runtime.training.folder import RunFolder
from lossc.runtime.training.frozen import add_frozen
from lossc.runtime.training.host import ObjectiveTrainer, Trainee
from lossc.runtime.training.journal import Journal, Reading
from lossc.runtime.training.models import (
    build_network,
    count_parameters,
    precision_of,
    restore_network,
    save_network,
)
from lossc.runtime.training.networks import Networks
from lossc.runtime.training.objective import Spec
from lossc.runtime.training.preparation import Prepared, prepare
from lossc.runtime.training.processes import is_main, local_rank, world_size
from lossc.runtime.training.progress import ProgressView
from lossc.runtime.training.questions import Question, assign
from lossc.runtime.training.rollouts import Drawn
from lossc.runtime.training.runfile import Run
from lossc.runtime.training.tokenizer import Tokenizer

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_OPTIMISERS = {"adamw": "adamw_torch", "adam": "adamw_torch", "sgd": "sgd", "adafactor": "adafactor", "rmsprop": "rmsprop"}
_DRAWING_PAUSE = 20.0
"""Seconds between two pictures of a run that goes on; the last one is drawn in any case."""
_SHOWN = 200
"""Completions of held-out rows that are kept to be read."""
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
    allow: tuple[str, ...] = ()
    """The modules from which the objective may import functions."""
    tokenizer: Tokenizer | None = None
    """The tokenizer of the run that this one belongs to."""


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
    folder = session.folder
    manifest = _manifest(session)
    if session.resume and is_main():
        folder.continue_with(manifest)
    work = _prepared(session)
    network = _network(session, work.prepared)
    objective = _objective(session, work.prepared, network)
    if not session.resume and is_main():
        folder.begin(manifest, {"run.yaml": session.text, "objective.loss": session.spec.text})
    for earlier in (*([work.start] if work.start else []), *work.teachers.values()):
        if train_earlier(session, earlier, train).interrupted:
            total = total_steps(session.run, len(work.prepared.train))
            return Outcome(folder, 0, total, Journal(folder.metrics), interrupted=True)
    trainee = _trainee(session, work, network, objective)
    _describe(session.console, work.prepared, trainee)
    _freeze(session, work.prepared, trainee)
    return _Running(session, work.prepared, trainee).go()


@dataclass(frozen=True)
class _Work:
    """The rows of a run, and the trainings that come before it."""

    prepared: Prepared
    start: Earlier | None
    teachers: dict[tuple[Any, ...], Earlier]
    loaded: dict[tuple[Any, ...], nn.Module]


def _prepared(session: Session) -> _Work:
    """Everything that can be found wrong before anything is trained or written is found here."""
    run = session.run
    assigned = assign(run, session.spec)
    start = plan_start(session, assigned.streams[0].feed)
    tokenizer = start.prepared.sizes.tokenizer if start else session.tokenizer
    prepared = prepare(run, session.spec, session.base, tokenizer, allow_python=session.allow_python)
    teachers = plan_teachers(session, prepared.assigned, prepared.sizes.tokenizer)
    return _Work(prepared, start, teachers, _loaded(session, prepared))


def _loaded(session: Session, prepared: Prepared) -> dict[tuple[Any, ...], nn.Module]:
    """The teachers that exist already."""
    found: dict[tuple[Any, ...], nn.Module] = {}
    for question in prepared.assigned.questions:
        feed = question.feed
        if isinstance(feed, Teacher) and feed.path is not None and identity(feed) not in found:
            found[identity(feed)] = load_teacher(session.base / feed.path, prepared.feed, prepared.sizes)
    return found


def _network(session: Session, prepared: Prepared) -> nn.Module:
    run = session.run
    set_seed(run.seed)
    section = default_model(run, prepared.feed)
    network = build_network(section, prepared.sizes, session.base, allow_python=session.allow_python)
    return network.to(precision_of(run.precision))


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


def _objective(session: Session, prepared: Prepared, network: nn.Module) -> Objective:
    run, program = session.run, session.spec.program
    numbered = {
        axis: prepared.rows for stream in prepared.assigned.streams for name in stream.numbers
        if (axis := program.tensors[name].kind.codomain)
    }  # fmt: skip
    return Objective(
        program, sizes=numbered | _outputs(program, prepared, network), total_steps=total_steps(run, len(prepared.train)),
        seed=run.seed, constraints={name: Constraint(**section.model_dump()) for name, section in run.constraints.items()},
        allow=session.allow,
    )  # fmt: skip


def _trainee(session: Session, work: _Work, network: nn.Module, objective: Objective) -> Trainee:
    run, program, prepared = session.run, session.spec.program, work.prepared
    device = _device(run)
    if work.start is not None:
        network = restore_network(network, RunFolder(session.folder.path / "first" / "start").model)
    network = network.to(device, precision_of(run.precision))
    feeds = [question.feed for question in prepared.assigned.questions if not _is_kept(question, prepared)]
    networks = Networks(network, feeds, _teachers(session, work))
    return Trainee(network, objective, prepared.assigned, program, networks)


def _outputs(program: Program, prepared: Prepared, network: nn.Module) -> dict[str, int]:
    """The extents of the axes that the network's answers end in: of the vocabulary, the classes, an embedding."""
    tokenizer = prepared.sizes.tokenizer
    count = prepared.sizes.outputs if tokenizer is None else _vocabulary(network, tokenizer)
    asked = [question.tensor for question in prepared.assigned.questions if isinstance(question.feed, Model) and question.ask]
    ends = (program.tensors[name] for name in asked)
    return {tensor.order[-1]: count for tensor in ends if tensor.kind.name != "logprob" and len(tensor.order) > 1}


def _vocabulary(network: nn.Module, tokenizer: Tokenizer) -> int:
    """Of a network that may have more tokens than its tokenizer."""
    found: int = getattr(getattr(network, "config", None), "vocab_size", tokenizer.vocabulary)
    return found


def _teachers(session: Session, work: _Work) -> dict[tuple[Any, ...], nn.Module]:
    """Every teacher, loaded or trained here, on the device of the run."""
    found = dict(work.loaded)
    for key, earlier in work.teachers.items():
        folder = session.folder.path / "first" / earlier.name
        found[key] = earlier.network(session.base, folder, allow_python=session.allow_python)
    place = _device(session.run), precision_of(session.run.precision)
    return {key: teacher.to(*place).eval().requires_grad_(False) for key, teacher in found.items()}


def _is_kept(question: Question, prepared: Prepared) -> bool:
    """Whether its answers are worked out once: small ones, of a network that does not change, to batches that do not."""
    drawn = prepared.fresh.views or prepared.fresh.rollouts
    return isinstance(question.feed, Reference) and question.ask in SMALL and not drawn


def _freeze(session: Session, prepared: Prepared, trainee: Trainee) -> None:
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
        self.board: Board
        self.interrupted = False
        self.drawn = time.monotonic()
        self.total = total_steps(session.run, len(prepared.train))

    def go(self) -> Outcome:
        start = self._start()
        trainer = self.host = self._trainer()
        with _interruptions(self), self._watching(start):
            if start == 0 and self.prepared.held_out:
                trainer.evaluate()
            if start < self.total:
                trainer.train(resume_from_checkpoint=str(self.session.folder.checkpoint(start)) if start else None)
            else:
                trainer.restore(start)
        return self._finish(trainer)

    @contextmanager
    def _watching(self, start: int) -> Iterator[None]:
        """With what shows the run while it goes on."""
        folder = self.session.run.tensorboard
        where = Path(folder) if folder and is_main() else None
        with ProgressView(self.session.console, self.total, start) as self.view, opened_board(where, start) as self.board:
            yield

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
            self._save()
        self.draw()
        return outcome

    def _save(self) -> None:
        folder = self.session.folder
        written = folder.staging / "model"
        networks = {folder.model: self.trainee.network, folder.average: self.trainee.networks.average()}
        for target, network in networks.items():
            if network is not None:
                with saving(folder, target):
                    save_network(network, self.prepared.sizes, written)
                    folder.keep_model(written, target)

    def _trainer(self) -> ObjectiveTrainer:
        run = self.session.run
        return ObjectiveTrainer(
            self.trainee, _arguments(run, self.session.folder, self.total, bool(self.prepared.held_out)),
            self.session.folder, run.save.keep, callbacks=[self], train=self.prepared.train,
            held_out=self.prepared.held_out, fresh=self.prepared.fresh, on_reading=self.on_reading, on_drawn=self.on_drawn,
        )  # fmt: skip

    def draw(self) -> None:
        if not is_main():
            return
        title = f"{self.session.spec.program.name}, step {self.journal.readings[-1].step}" if self.journal.readings else ""
        draw_curves(self.journal.readings, title, self.session.folder.curves)
        self.drawn = time.monotonic()

    def on_reading(self, reading: Reading) -> None:
        """A reading of the held-out rows."""
        self._keep(reading)
        if time.monotonic() - self.drawn > _DRAWING_PAUSE:
            self.draw()

    def _keep(self, reading: Reading) -> None:
        self.journal.write(reading)
        self.board.add(reading)

    def on_drawn(self, step: int, drawn: list[Drawn]) -> None:
        """What was drawn for the held-out rows: the last of it is kept, to be read."""
        if drawn and is_main():
            lines = (json.dumps({"step": step, **asdict(each)}, ensure_ascii=False) + "\n" for each in drawn[:_SHOWN])
            write_text(self.session.folder.samples, "".join(lines))

    # Calls of the Trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.reading = self.host.read_window()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        assert self.reading is not None and self.view is not None
        self.trainee.networks.follow(state.global_step)
        self.reading = replace(self.reading, monitors=self.reading.monitors | self.trainee.constraints())
        self._keep(self.reading)
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
        per_device_eval_batch_size=run.evaluate.batch or run.batch.size,
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
