"""A run while it goes on: readings, picture, bar, checkpoints, interruptions."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from lossc.runtime.files import write_text
from lossc.runtime.training.board import Board, opened_board
from lossc.runtime.training.checkpoints import saving
from lossc.runtime.training.curves import draw_curves
from lossc.runtime.training.damage import check_checkpoint
from lossc.runtime.training.folder import RunFolder
from lossc.runtime.training.host import ObjectiveTrainer, Trainee
from lossc.runtime.training.journal import Journal, Reading
from lossc.runtime.training.models import save_network
from lossc.runtime.training.preparation import Prepared
from lossc.runtime.training.processes import is_main
from lossc.runtime.training.progress import ProgressView
from lossc.runtime.training.rollouts import Drawn
from lossc.runtime.training.runfile import Run
from lossc.runtime.training.work import Outcome, Session, device_of, total_steps

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
_OPTIMISERS = {"adamw": "adamw_torch", "adam": "adamw_torch", "sgd": "sgd", "adafactor": "adafactor", "rmsprop": "rmsprop"}
_DRAWING_PAUSE = 20.0
"""Seconds between two pictures of a run that goes on; the last one is drawn in any case."""
_SHOWN = 200
"""Completions of held-out rows that are kept to be read."""


class Running(TrainerCallback):
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
        if start:
            check_checkpoint(self.session.folder.checkpoint(start))
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
def _interruptions(running: Running) -> Iterator[None]:
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
        use_cpu=device_of(run) == "cpu",
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
