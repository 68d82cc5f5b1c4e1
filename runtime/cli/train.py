"""`lossc train`: from a run file, or from an expression at the prompt, to a trained model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossc.grammar.diagnostics import LosscError, error
from lossc.grammar.diagnostics.render import visible
from lossc.runtime.cli.options import AllowOption, SetOption, command_span, overrides

if TYPE_CHECKING:
    from lossc.runtime.training.planning import Plan

_EPILOG = """Examples: `lossc train classes` (a run that lossc carries), `lossc train run.yaml --set beta=0.2 --resume`,
`lossc train --setting pairs --minimize "dpo(beta=0.1) + 0.2*sft" --data pairs.jsonl --steps 200`"""


def register(application: typer.Typer) -> None:
    application.command("train", epilog=_EPILOG)(train)


def train(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run file, the folder of a run, or the name of a run of the library.")
    ] = None,
    setting: Annotated[str | None, typer.Option("--setting", help="A setting of the library, with `--minimize`.")] = None,
    minimize: Annotated[str | None, typer.Option("--minimize", metavar="EXPR", help="What to minimise.")] = None,
    monitor: Annotated[str | None, typer.Option("--monitor", metavar="EXPR", help="What to follow as well.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="A file, a folder of Datasets, sklearn:NAME, python-docs.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="linear, mlp, llama, or a folder of Transformers.")] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="The folder of a teacher.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Learning rate.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Rows of a micro-batch.")] = None,
    accumulate: Annotated[int | None, typer.Option("--accumulate", min=1, help="Micro-batches of a step.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of weights, split and order.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="The folder of the run.")] = None,
    tensorboard: Annotated[str | None, typer.Option("--tensorboard", metavar="DIR", help="Readings for TensorBoard.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run where it stopped.")] = False,
    allow_python: Annotated[bool, typer.Option("--allow-python", help="Let the run call a Python function you trust.")] = False,
    allow: AllowOption = None,
    set: SetOption = None,
) -> None:
    """Train a model under an objective; everything about the run is kept in one folder."""
    changes: dict[str, Any] = {
        "objective": {"setting": setting, "minimize": minimize, "monitor": monitor} if minimize else None,
        "data.source": data, "model": _model(model),
        "feeds.teacher": {"kind": "teacher", "path": teacher} if teacher else None,
        "length": {"steps": steps} if steps else None, "optimiser.rate": rate, "batch.size": batch,
        "batch.accumulate": accumulate, "seed": seed, "output": output, "tensorboard": tensorboard, "set": overrides(set),
    }  # fmt: skip
    if run is None and (minimize is None or data is None):
        raise LosscError([
            error(
                "E806", "there is nothing to train: no run, and no `--minimize` with `--data`", command_span("lossc train"),
                help=("`lossc train classes` trains a run of the library", "`lossc new classes` writes a run file"),
            )
        ])  # fmt: skip
    _require_training()
    from lossc.runtime.training.planning import plan_run

    given = {name: value for name, value in changes.items() if value not in (None, {})}
    _start(plan_run(run, given, resume), allow_python, allow or ())


def _model(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    return {"kind": text} if text in ("linear", "mlp", "llama") else {"kind": "transformers", "path": text}


def _require_training() -> None:
    """E850 where the packages of the training extra are not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("transformers", "accelerate", "sklearn", "matplotlib") if find_spec(name) is None]
    if missing:
        raise LosscError([
            error(
                "E850", f"training needs {', '.join(missing)}", command_span("lossc train"),
                help='install the training extra: `pip install "lossc[train]"`',
            )
        ])  # fmt: skip


def _start(plan: Plan, allow_python: bool, allow: Sequence[str]) -> None:
    from rich.console import Console

    from lossc.runtime.cli.report import print_problems
    from lossc.runtime.training.processes import is_main, leave_group
    from lossc.runtime.training.session import Session, train
    from lossc.runtime.training.summary import print_heading, print_summary

    console = Console(quiet=not is_main(), markup=False)
    print_problems(plan.spec.warnings)
    if plan.run.objective.minimize is not None:
        typer.echo(visible(plan.spec.source.text))
    print_heading(console, plan)
    session = Session(
        plan.run, plan.spec, plan.base, plan.folder, plan.text, console, resume=plan.resume, allow_python=allow_python,
        allow=tuple(allow),
    )
    try:
        with _plain_warnings():
            outcome = train(session)
        leave_group()
    except LosscError as failure:
        raise LosscError(plan.places.locate(problem) for problem in failure.diagnostics) from failure
    print_summary(console, outcome)
    if outcome.interrupted:
        typer.echo(f"interrupted after step {outcome.steps} of {outcome.total}; the checkpoint is saved. To continue:\n"
                   f"  lossc train {outcome.folder.path} --resume", err=True)  # fmt: skip
        raise typer.Exit(130)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings of lossc as one line, without the place in its own code."""
    from lossc.runtime.messages import LosscWarning

    with warnings.catch_warnings():
        show = warnings.showwarning

        def shown(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, LosscWarning):
                typer.echo(f"warning: {message}", err=True)
            else:
                show(message, category, *place, **options)

        warnings.showwarning = shown
        yield
