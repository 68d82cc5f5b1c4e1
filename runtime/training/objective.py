"""The objective of a run: read, checked, and written out in full before anything else happens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from lossc.compiler import core
from lossc.compiler.check import Checked, check_source
from lossc.compiler.lagrangian import with_constraints
from lossc.compiler.program import Program
from lossc.compiler.prompt import prompt_file
from lossc.compiler.zoo import located
from lossc.grammar import print_file
from lossc.grammar.diagnostics import Diagnostic, Diagnostics, LosscError, Note, error
from lossc.grammar.source import Source, Span
from lossc.grammar.syntax import Use
from lossc.grammar.tokens import Fragment
from lossc.runtime.files import read_source
from lossc.runtime.training.runfile import Run

_SETTINGS = "std.settings."


@dataclass(frozen=True)
class Spec:
    """A checked objective: its program, the rendered text that is its identity, the settings of its data."""

    source: Source
    program: Program
    streams: dict[str, str]
    """The setting of each stream, by the prefix of its names; one stream without a prefix, as a rule."""
    warnings: tuple[Diagnostic, ...]

    @property
    def text(self) -> str:
        return self.program.canonical

    @property
    def digest(self) -> str:
        """SHA-256 of the rendered text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_objective(run: Run, folder: Path, inline: Fragment | None = None) -> Spec:
    """The objective of a run whose relative paths count from `folder`; every problem is raised.

    `inline` says where the text stands in the run file, so that problems point there.
    """
    source = _source(run, folder)
    checked = check_source(source, overrides=run.set)
    problems = checked.problems.sorted()
    if inline is not None and run.objective.text is not None:
        problems = [_placed(problem, source, inline) for problem in problems]
    if checked.problems.errors:
        raise LosscError(problems)
    if checked.program is None:
        span = Span(source, 0, min(1, len(source.text)))
        raise LosscError([error("E803", f"`{source.name}` has no objective", span, help="add `minimize` with a term")])
    if checked.program.uncompiled:
        raise LosscError(checked.program.uncompiled)
    streams = {"": run.data.feed} if run.data.feed else _streams(checked)
    return Spec(source, checked.program, streams, tuple(problems))


def _source(run: Run, folder: Path) -> Source:
    section = run.objective
    if section.file is not None:
        return read_source(str(located(section.file, folder)))
    if section.text is not None:
        return Source("<objective>", section.text)
    problems = Diagnostics()
    file = prompt_file(section.minimize or "", section.setting, problems, section.monitor)
    problems.raise_errors()
    return Source("<objective>", print_file(file, "text"))


def _streams(checked: Checked) -> dict[str, str]:
    """The settings of the library that a file uses, by their prefix; empty where it uses none."""
    uses = [item for item in checked.file.items if isinstance(item, Use) and item.path.startswith(_SETTINGS)]
    plain = [use for use in uses if use.alias is None]
    return {use.alias or "": use.path.removeprefix(_SETTINGS) for use in plain[:1] or uses}


def _placed(problem: Diagnostic, source: Source, inline: Fragment) -> Diagnostic:
    """A problem of an inline text, moved to where the text stands in the run file."""

    def moved(span: Span) -> Span:
        return inline.span(span.start, span.end) if span.source is source else span

    notes = tuple(Note(note.text, moved(note.span)) for note in problem.notes)
    return replace(problem, span=moved(problem.span), notes=notes)


def inputs_of(*nodes: core.Node | None) -> set[str]:
    """The names of the tensors that an expression reads."""
    present = [node for node in nodes if node is not None]
    return {leaf.name for node in present for leaf in core.walk(node) if isinstance(leaf, core.Input)}


def tensors_used(program: Program) -> set[str]:
    """The tensors that terms, constraints, monitors and the renewals of states read."""
    formed = with_constraints(program)
    entries = (*formed.terms, *formed.monitors)
    parts = [part for entry in entries for part in entry.parts]
    renewals = (node for state in program.states.values() for node in (state.renewal, state.renewal_present))
    values = (*(entry.value for entry in entries), *renewals)
    return inputs_of(*values, *(node for part in parts for node in (part.numerator, part.denominator)))
