"""From text to an Objective."""

from __future__ import annotations

import math
import os
import re
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

_YAML = re.compile(r"^lossc\s*:", re.MULTILINE)
"""The first key of the YAML surface."""


def load(
    path: str | PathLike[str], /, *, backend: str = "auto", sizes: Mapping[str, int] | None = None,
    check_labels: bool = True, total_steps: int | None = None, seed: int = 0,
    constraints: Mapping[str, Constraint] | None = None, formulation: str | None = None,
    multiplier_lr: float | None = None, allow: Collection[str] = (), **params: object,
) -> Objective:  # fmt: skip
    """The objective of a `.loss` or `.yaml` file, some of its parameters given other values.

    `zoo/preference/dpo_shift` means that work of the zoo (`lossc list --zoo`) where there is no such file here.
    `sizes` gives extents of axes that no tensor has; `check_labels = False` leaves out the check that labels are in range,
    which waits for the device. `total_steps` is the length of the run, for `progress`; `seed` is that of what is
    drawn. `constraints` says how each is enforced, `formulation` and `multiplier_lr` how all others are. `allow` names the
    modules from which an `extern` may be imported. LosscError holds every problem of the file.
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
    """The objective of a whole text, or of an expression in a setting: `loads("dpo + 0.2*sft", setting="pairs")`."""
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
    """Whether the first line that says something is a key of the YAML surface."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    key, colon, _ = first.partition(":")
    return bool(colon) and key.strip() in ("lossc", *SECTIONS)


def program_of_text(text: str) -> Program:
    """The program of a canonical text, which was checked before."""
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
    """A scalar as the language writes it; None for what it cannot write."""
    if isinstance(value, str):
        return value
    if isinstance(value, Fraction):
        return f"{value.numerator} / {value.denominator}"
    number = None if isinstance(value, bool) else as_float(value)
    if number is None or math.isnan(number):
        return None
    return "inf" if number == math.inf else repr(number)
