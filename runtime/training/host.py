"""Training an Objective with the Trainer of Transformers, exactly under accumulation and several processes.

The Trainer divides by whatever a model calls its number of items; an objective may have several denominators. So the
denominators of a whole window (micro-batches of a step, on all processes) are computed first, from the data alone, and
each micro-batch contributes `sum_k c_k N_k / D_k` with the D of the window: `loss_is_scaled_for_ga`. Processes average
gradients, hence the factor of their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from lossc.compiler.lagrangian import with_constraints
from lossc.compiler.program import Program
from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.files import path_span
from lossc.runtime.training.checkpoints import kept_checkpoints, saving
from lossc.runtime.training.examples import Batch, Example, collate
from lossc.runtime.training.feed_sections import Previous
from lossc.runtime.training.folder import RunFolder
from lossc.runtime.training.fresh import Fresh
from lossc.runtime.training.journal import Reading
from lossc.runtime.training.networks import Networks
from lossc.runtime.training.objective import inputs_of, tensors_used
from lossc.runtime.training.questions import Assigned, Question
from lossc.runtime.training.rollouts import Drawn


class Trainee(nn.Module):
    """Network and objective as one module: a batch in, the Result of the objective out."""

    def __init__(
        self, network: nn.Module, objective: nn.Module, assigned: Assigned, program: Program, networks: Networks
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.questions = assigned.questions
        self.program = program
        self.networks = networks
        self.names = tensors_used(program) | {question.tensor for question in assigned.questions}
        formed = with_constraints(program)
        entries = (*formed.terms, *formed.monitors)
        self.counted = inputs_of(*(part.denominator for entry in entries for part in entry.parts))

    def tensors(self, batch: Batch) -> dict[str, Any]:
        """What the objective reads of a batch."""
        given = {name: tensor for name, tensor in batch["data"].items() if name in self.names}
        return given | {question.tensor: self._answer(question, batch) for question in self.questions
                        if question.tensor not in given}  # fmt: skip

    def _answer(self, question: Question, batch: Batch) -> Any:
        network = self.networks.of(question.feed)
        if question.ask is None:
            return network
        with torch.set_grad_enabled(torch.is_grad_enabled() and question.gradient):
            return question.ask(network, batch, question.prefix)

    def sampler(self) -> nn.Module:
        """The network that draws: the one whose probabilities are the old ones."""
        old = (question.feed for question in self.questions if question.tensor == "old_logp")
        return next((self.networks.of(feed) for feed in old if isinstance(feed, Previous)), self.network)

    def constraints(self) -> dict[str, float]:
        """Of each constraint, its violation over the last step and its multiplier (the means, where it has several)."""
        objective: Any = self.objective
        found: dict[str, float] = {}
        for name, violation in objective.violations.items():
            found |= {name: float(violation.mean()), f"{name}.multiplier": float(objective.multipliers[name].mean())}
        return found

    def forward(self, batch: Batch, denominators: Any = None) -> Any:
        given = {} if denominators is None else {"denominators": denominators}
        return self.objective(**self.tensors(batch), **given)

    def denominators(self, batch: Batch) -> Any:
        """The denominators of a batch: from the data alone, or through the network where they depend on it."""
        known = {name: tensor for name, tensor in batch["data"].items() if name in self.names}
        if self.counted <= set(known):
            try:
                return self.objective.denominators(**known)  # type: ignore[operator]
            except LosscError as failure:
                if {problem.code for problem in failure.diagnostics} != {"E714"}:  # an extent that only the network tells
                    raise
        with torch.no_grad():
            return self.objective.denominators(**self.tensors(batch))  # type: ignore[operator]


class Totals:
    """The sums of loss, terms and monitors over the micro-batches of a window."""

    def __init__(self, program: Program, device: torch.device) -> None:
        self.terms = [entry.name for entry in program.terms]
        self.monitors = [entry.name for entry in program.monitors]
        self.values = torch.zeros(1 + len(self.terms) + len(self.monitors), dtype=torch.float64, device=device)

    def add(self, result: Any) -> None:
        parts = [result.loss, *(result.terms[n] for n in self.terms), *(result.monitors[n] for n in self.monitors)]
        self.values += torch.stack([part.detach().double().reshape(()) for part in parts]).to(self.values.device)

    def reading(self, reduce: Callable[[Tensor], Tensor], **place: Any) -> Reading:
        """The sums as numbers; `reduce` adds those of other processes."""
        loss, *values = reduce(self.values).tolist()
        terms = dict(zip(self.terms, values, strict=False))
        monitors = dict(zip(self.monitors, values[len(terms) :], strict=True))
        return Reading(loss=loss, terms=terms, monitors=monitors, **place)


class _Steps(TrainerCallback):
    """Ends each step of the objective behind that of the optimiser, before anything is saved."""

    def __init__(self, objective: nn.Module) -> None:
        self.objective = objective

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.objective.advance()  # type: ignore[operator]


class ObjectiveTrainer(Trainer):
    """The Trainer with an Objective for its loss; `window` is the step that is being made."""

    loss_is_scaled_for_ga = True

    def __init__(
        self, trainee: Trainee, arguments: TrainingArguments, folder: RunFolder, keep: int, *, callbacks: list[Any],
        train: list[Example], held_out: list[Example], fresh: Fresh, on_reading: Callable[[Reading], None],
        on_drawn: Callable[[int, list[Drawn]], None],
    ) -> None:  # fmt: skip
        super().__init__(
            model=trainee, args=arguments, data_collator=collate, train_dataset=train, eval_dataset=held_out,  # type: ignore[arg-type]
            callbacks=[_Steps(trainee.objective), *callbacks],
        )  # fmt: skip
        self.remove_callback(PrinterCallback)
        self.trainee = trainee
        self.folder = folder
        self.keep = keep
        self.fresh = fresh
        self.on_reading = on_reading
        self.on_drawn = on_drawn
        self.held_out = held_out
        self.window = self._totals()
        self._denominators: Any = None

    # A step

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of a step; their denominators, over all processes, are kept for `compute_loss`."""
        taken, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        batches = [self._completed(batch, self.state.global_step, at)[0] for at, batch in enumerate(taken)]
        alone = len(batches) < 2 and self.accelerator.num_processes == 1
        self.window = self._totals()
        self._denominators = None if alone else self._over_processes([self.trainee.denominators(b) for b in batches])
        return batches, None

    def _completed(self, batch: Any, *place: Any) -> tuple[Any, list[Drawn]]:
        """A batch with what is drawn for it at this place of the run."""
        with self.compute_loss_context_manager():
            ready = self._prepare_inputs(batch)
            return self.fresh(ready, self.trainee.sampler(), *place, self.accelerator.process_index)  # type: ignore[arg-type]

    def _over_processes(self, parts: list[Any]) -> Any:
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            parts = gather_object(parts)
        return sum(parts)

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        result = model(inputs, denominators=self._denominators)
        self.window.add(result)
        loss = result.loss * self.accelerator.num_processes
        return (loss, result) if return_outputs else loss

    def read_window(self) -> Reading:
        """The objective at the step in hand; E836 where it is not a finite number."""
        step = self.state.global_step + 1
        reading = self.window.reading(self._sum, step=step, split="train", rate=self._get_learning_rate())
        return self._finite(reading, "; the step was not taken")

    def _finite(self, reading: Reading, remark: str) -> Reading:
        values = {"loss": reading.loss, **reading.terms}
        wrong = [f"`{name}`" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise self._not_finite(reading.step, " and ".join(wrong), remark)
        return reading

    def _sum(self, values: Tensor) -> Tensor:
        summed: Tensor = self.accelerator.reduce(values, reduction="sum")
        return summed

    def on_any_process(self, flag: bool) -> bool:
        """Whether the flag is set on some process; all of them get one answer."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self._sum(torch.tensor(float(flag), device=self.args.device)) > 0)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        if norm is not None and not self.args.fp16 and not math.isfinite(float(norm)):
            raise self._not_finite(self.state.global_step + 1, "the gradient", "; the step was not taken")
        return norm

    def _not_finite(self, step: int, what: str, remark: str) -> LosscError:
        return LosscError([
            error(
                "E836", f"at step {step} {what} left the finite numbers{remark}", path_span(self.folder.path),
                help=(kept_checkpoints(self.folder), "often a lower `optimiser.rate` or a smaller `optimiser.clip` helps",
                      "`lossc check` lists the places of the objective that can leave their domain"),
            )
        ])  # fmt: skip

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Weight decay is for the network; parameters that the objective learns are left alone."""
        return [name for name in super().get_decay_parameter_names(model) if not name.startswith("objective.")]

    # Held-out rows

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The objective over all held-out rows, as if they were one batch."""
        batches = self._held_out_batches()
        was_training = self.trainee.training
        self.trainee.eval()
        totals = self._totals()
        with torch.no_grad(), self.compute_loss_context_manager():
            denominators = self._over_processes([self.trainee.denominators(batch) for batch in batches])
            for batch in batches:
                totals.add(self.trainee(batch, denominators=denominators))
        self.trainee.train(was_training)
        reading = totals.reading(self._sum, step=self.state.global_step, split="held_out", epoch=self.state.epoch or 0.0)
        self.on_reading(self._finite(reading, " on the held-out rows"))
        self.control.should_evaluate = False  # at the end of an epoch the Trainer looks a second time
        return {"eval_loss": reading.loss}

    def _held_out_batches(self) -> list[Any]:
        """The share of this process; unlike the Trainer's loader it repeats no row to make shares equal.

        What is drawn for them is drawn from the same numbers each time.
        """
        size, world = self.args.per_device_eval_batch_size, self.accelerator.num_processes
        starts = range(self.accelerator.process_index * size, len(self.held_out), size * world)
        made = [self._completed(dict(collate(self.held_out[at : at + size])), "held out", at) for at in starts]
        self.on_drawn(self.state.global_step, [each for _, drawn in made for each in drawn])
        return [batch for batch, _ in made]

    def _totals(self) -> Totals:
        return Totals(self.trainee.program, self.args.device)

    # Checkpoints

    def restore(self, step: int) -> None:
        """The weights of a checkpoint, for a run that has nothing left to do."""
        from safetensors.torch import load_model

        load_model(self.trainee, self.folder.checkpoint(step) / "model.safetensors")
        self.state.global_step = step

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Written aside by the Trainer, then moved into place as a whole."""
        step = self.state.global_step
        with saving(self.folder, self.folder.checkpoint(step)):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self.folder.keep_checkpoint(self.folder.staging / f"checkpoint-{step}", step, self.keep)
        self.control.should_save = False

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        from safetensors.torch import save_model

        target = Path(output_dir or str(self.args.output_dir))
        target.mkdir(parents=True, exist_ok=True)
        save_model(self.trainee, str(target / "model.safetensors"))
