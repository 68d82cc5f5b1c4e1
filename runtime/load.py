"""`lossc.load` and `lossc.loads`: from the text of a spec to an `Objective`."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from fractions import Fraction
from os import PathLike
from typing import Any

from lossc.compiler.check import check_source
from lossc.compiler.program import Program
from lossc.compiler.prompt import prompt_file
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.printer import print_text
from lossc.grammar.source import Source
from lossc.grammar.syntax import SECTIONS
from lossc.runtime.arguments import an_instance, as_float
from lossc.runtime.constraints import Constraint
from lossc.runtime.files import read_source
from lossc.runtime.messages import fail
from lossc.runtime.objective import Objective


def load(
    path: str | PathLike[str], /, *, backend: str = "auto", sizes: Mapping[str, int] | None = None,
    check_labels: bool = True, total_steps: int | None = None, seed: int = 0,
    constraints: Mapping[str, Constraint] | None = None, formulation: str | None = None,
    multiplier_lr: float | None = None, allow: Collection[str] = (), **params: object,
) -> Objective:  # fmt: skip
    """Checks a `.loss` or `.yaml` file and returns its objective, a `torch.nn.Module`.

        objective = lossc.load("dpo_sft.loss", beta=0.2)

    Arguments:
        path: the file. Where there is no such file, `zoo/preference/dpo_shift` names a published objective
            (`lossc list --zoo`).
        backend: `auto` (the fastest for the size of each batch), `reference`, `torch`, `c` or `triton`.
        sizes: extents of axes that no tensor has, by name.
        check_labels: whether each call checks that labels are in range. The check waits for the device.
        total_steps: the length of the run in optimiser steps, which `progress` needs.
        seed: the seed of the spec's random draws.
        constraints: how single constraints (`subject to`) are enforced, by name.
        formulation, multiplier_lr: how all other constraints are enforced; see `lossc.Constraint`.
        allow: the modules from which an `extern` may be imported. None by default: a spec is untrusted.
        params: values for the parameters of the spec: a number, a list of numbers for a parameter with an axis, or a
            string, which is read as the language reads it (`"1 / 3"`, the name of a choice).

    Raises:
        LosscError: with every problem of the file and of the arguments.
    """
    name = os.fsdecode(an_instance("path", path, str | PathLike, "the path of a file"))
    source = read_source(name if name != "-" else "./-")
    return _objective(
        source, params, backend=backend, sizes=sizes, check_labels=check_labels, total_steps=total_steps, seed=seed,
        constraints=constraints, formulation=formulation, multiplier_lr=multiplier_lr, allow=allow,
    )  # fmt: skip


def loads(
    text: str, /, setting: str | None = None, *, backend: str = "auto", sizes: Mapping[str, int] | None = None,
    check_labels: bool = True, total_steps: int | None = None, seed: int = 0,
    constraints: Mapping[str, Constraint] | None = None, formulation: str | None = None,
    multiplier_lr: float | None = None, allow: Collection[str] = (), **params: object,
) -> Objective:  # fmt: skip
    """Returns the objective of a whole spec, or of an expression over the tensors of a setting.

        objective = lossc.loads("dpo + 0.2 * sft", setting="pairs")

    With a `setting` (`lossc list` shows them), `text` is a sum of terms, as at the prompt of `lossc train --minimize`: the
    terms of the library need no import, a bare name means its call, and each summand is reduced as the setting says. All
    other arguments, and what is raised, are those of `load`.
    """
    an_instance("text", text, str, "a text", help="`lossc.load` takes the path of a file")
    name = "<text>.yaml" if _is_yaml(text) else "<text>"
    if setting is not None:
        problems = Diagnostics()
        file = prompt_file(text, an_instance("setting", setting, str, "the name of a setting"), problems)
        problems.raise_errors()
        name, text = "<prompt>", print_text(file)
    return _objective(
        Source(name, text), params, backend=backend, sizes=sizes, check_labels=check_labels, total_steps=total_steps, seed=seed,
        constraints=constraints, formulation=formulation, multiplier_lr=multiplier_lr, allow=allow,
    )  # fmt: skip


def _is_yaml(text: str) -> bool:
    """Whether the first line that is neither empty nor a comment is a key of the YAML surface."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    key, colon, _ = first.partition(":")
    return bool(colon) and key.strip() in ("lossc", *SECTIONS)


def program_of_text(text: str) -> Program:
    """The program of a canonical text, one that was checked before it was saved."""
    return _program(Source("<objective>", text), {})


def _objective(source: Source, params: Mapping[str, object], **options: Any) -> Objective:
    written = {name: text for name, value in params.items() if (text := _written(value)) is not None}
    program = _program(source, written)
    objective = Objective(program, **options)
    objective.set(**{name: value for name, value in params.items() if name not in written})
    return objective


def _program(source: Source, overrides: Mapping[str, str]) -> Program:
    checked = check_source(source, overrides=overrides)
    checked.problems.raise_errors()
    if checked.program is None:
        help_ = "an objective has a block `minimize`; `lossc.loads(…, setting=…)` takes an expression"
        raise fail("E718", f"`{source.name}` has no objective", help=help_)
    return checked.program


def _written(value: object) -> str | None:
    """A scalar as an expression of the language; None for a value that it cannot write."""
    if isinstance(value, str):
        return value
    if isinstance(value, Fraction):
        return f"{value.numerator} / {value.denominator}"
    number = None if isinstance(value, bool) else as_float(value)
    if number is None or math.isnan(number):
        return None
    return "inf" if number == math.inf else repr(number)
