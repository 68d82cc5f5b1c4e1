"""Checks a whole file: finds every problem in one run, and makes the `Program` if there is no error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from lossc.compiler import core, lints, statements
from lossc.compiler.elaborate.context import Context, Session, axes_text, describe
from lossc.compiler.elaborate.declarations import in_order, value_of
from lossc.compiler.elaborate.groups import WEIGHTS_AXIS
from lossc.compiler.elaborate.laws import check_law
from lossc.compiler.elaborate.terms import sound
from lossc.compiler.elaborate.types import bounds_text, domain_text, in_bounds, read_type
from lossc.compiler.elaborate.variables import differentiated, settled, settled_record, settled_value
from lossc.compiler.gather import Gathered, Gatherer
from lossc.compiler.kinds import Kind
from lossc.compiler.normalise import Normaliser
from lossc.compiler.program import (
    AxisInfo,
    ConstraintInfo,
    LetInfo,
    ParamInfo,
    Program,
    StateInfo,
    TensorInfo,
    TermInfo,
)
from lossc.compiler.resolve import resolve
from lossc.compiler.symbols import AxisSymbol, Frame, ValueSymbol
from lossc.compiler.unread import unread_names
from lossc.compiler.usual import usual_reduction
from lossc.compiler.values import Value
from lossc.grammar import parse, syntax
from lossc.grammar.diagnostics import Diagnostic, Diagnostics, Note, error
from lossc.grammar.parser import parse_expression
from lossc.grammar.printer import print_expr, print_text
from lossc.grammar.source import Source, Span
from lossc.grammar.suggest import did_you_mean

MOST_AXES = 64
"""The most dimensions that a tensor of PyTorch can have."""


@dataclass(frozen=True)
class Checked:
    """The syntax tree, every problem found, and the program.

    `program` is None if there are errors, or if the file has no objective but only terms and settings.
    """

    file: syntax.File
    problems: Diagnostics
    program: Program | None = None


def check_source(source: Source, *, overrides: Mapping[str, str] | None = None) -> Checked:
    """Parses and checks a file. `overrides` replaces defaults of parameters by expressions, written as in the language."""
    problems = Diagnostics()
    return check_file(parse(source, problems), source, problems, overrides=overrides)


def check_file(
    file: syntax.File, source: Source, problems: Diagnostics, *, overrides: Mapping[str, str] | None = None
) -> Checked:
    """Checks a syntax tree. `problems` holds those that parsing has found, and receives the others."""
    try:
        file = override(file, source, overrides or {}, problems)
        return _Check(file, source, problems).run()
    except RecursionError:
        start = Span(source, 0, min(1, len(source.text)))
        message = "this program is nested too deeply to be checked"
        problems.add(error("E008", message, start, help="split the longest chain of terms that call each other"))
        return Checked(file, problems)


def override(file: syntax.File, source: Source, values: Mapping[str, str], problems: Diagnostics) -> syntax.File:
    """The file with the defaults of some parameters replaced; E406 for a name that is no parameter."""
    items = list(file.items)
    for name, text in values.items():
        found = [i for i, item in enumerate(items) if isinstance(item, syntax.Param) and item.name == name]
        given = Source(f"<set {name}>", text)
        expression = parse_expression(given, problems)
        if not found:
            known = [item.name for item in items if isinstance(item, syntax.Param)]
            hint = did_you_mean(name, known) or (f"its parameters are {', '.join(known)}" if known else "it has none",)
            problems.add(
                error("E406", f"this objective has no parameter `{name}`", Span(given, 0, len(text)), help=hint)
            )
        elif expression is not None:
            items[found[0]] = replace(items[found[0]], default=expression)
    return replace(file, items=tuple(items))


class _Check:
    """The check of one file."""

    def __init__(self, file: syntax.File, source: Source, problems: Diagnostics) -> None:
        self.file = file
        self.source = source
        self.problems = problems
        self.unread = unread_names(problems.errors)
        self.gathered: Gathered = Gatherer(source, problems, self.unread).objective(file)
        self.frame: Frame = self.gathered.frame
        self.session = Session(problems, self.frame, unread=self.unread)
        self.session.class_axes |= set(_class_axes(self.frame))
        self.session.differentiated |= differentiated(self.frame, file.items)
        self.context = Context(self.session, self.frame)

    def run(self) -> Checked:
        blocks = [item for item in self.file.items if isinstance(item, syntax.Block)]
        objective = any(block.role != "monitor" for block in blocks)
        self._own_terms()
        self._own_settings()
        values = self._values()
        params = self._params(values)
        states = self._states(values)
        entries = self._entries(blocks)
        written = [item for item in self.file.items if isinstance(item, syntax.Constraint)]
        self._names_taken(blocks, written)
        constraints = [statements.constraint(self.context, item) for item in written]
        for item in self.file.items:
            if isinstance(item, syntax.Law):
                check_law(self.context, item)
            elif isinstance(item, syntax.Reduce):
                statements.usual_reduction(self.context, item)
        self._whole_file(objective)
        values = {name: settled_value(self.session, value) for name, value in values.items()}
        entries = [(block, entry, settled_value(self.session, value)) for block, entry, value in entries]
        states = {name: settled_record(self.session, state) for name, state in states.items()}
        if not self.problems.errors:
            lints.lint(self.context, self.file, self.gathered, objective=objective or bool(blocks))
        if self.problems.errors or not objective:
            return Checked(self.file, self.problems)
        kept = tuple(settled_record(self.session, each) for each in constraints if each is not None)
        program = self._program(values, params, states, entries, kept)
        for problem in lints.still(program):
            self.problems.add(problem)
        return Checked(self.file, self.problems, program)

    def _own_terms(self) -> None:
        for term in list(self.frame.terms.values()):
            if term.own:
                sound(self.context, term)

    def _own_settings(self) -> None:
        """Checks the settings of this file that nothing in it uses, each as if it were used alone."""
        for item in self.file.items:
            if isinstance(item, syntax.Setting) and not any(
                isinstance(symbol, ValueSymbol) and symbol.declaration in item.items
                for symbol in self.frame.values.values()
            ):
                _SettingCheck(self, item).run()

    def _values(self) -> dict[str, Value]:
        """The value of every name that the file or its settings declare; those with errors are left out."""
        named = {name: one for name, one in self.frame.values.items() if isinstance(one, ValueSymbol)}
        for symbol in in_order(named.values()):
            value_of(self.context, symbol)
        values = {name: self.session.values[symbol] for name, symbol in named.items()}
        return {name: value for name, value in values.items() if not value.wrong}

    def _params(self, values: dict[str, Value]) -> dict[str, ParamInfo]:
        found: dict[str, ParamInfo] = {}
        for name, value in values.items():
            declaration = self._declaration(name)
            if isinstance(declaration, syntax.Param) and isinstance(value.node, core.Param):
                read = read_type(self._context_of(name), declaration.type)
                assert read is not None
                default = self._default(name, declaration, read[0])
                found[name] = ParamInfo(name, declaration.role, read[0], read[1], value.node, default, declaration.span)
        self._cyclic_defaults(found)
        return found

    def _cyclic_defaults(self, params: dict[str, ParamInfo]) -> None:
        """Reports a parameter whose default depends on the parameter itself."""
        for name in params:
            seen: set[str] = set()
            ahead = [name]
            while ahead:
                default = params[ahead.pop()].default if ahead[-1] in params else None
                leaves = [leaf for leaf in core.walk(default) if isinstance(leaf, core.Param)] if default else []
                ahead += [leaf.name for leaf in leaves if leaf.name not in seen]
                seen |= {leaf.name for leaf in leaves}
            if name in seen:
                self.context.wrong("E106", f"the default of `{name}` is computed from `{name}` itself",
                                   self._declaration(name).name_span, help="write a number")  # fmt: skip
                return

    def _default(self, name: str, declaration: syntax.Param, kind: Kind) -> core.Node | None:
        written = declaration.default
        if written is None:
            return None
        if kind.name == "choice":
            if not isinstance(written, syntax.Name) or written.id not in kind.choices:
                hint = did_you_mean(written.id, kind.choices) if isinstance(written, syntax.Name) else ()
                self.context.wrong("E401", f"`{name}` must be one of {', '.join(kind.choices)}", written.span,
                                   notes=[Note("declared here", declaration.name_span)], help=hint)  # fmt: skip
                return None
            return core.const(kind.choices.index(written.id))
        value = self._context_of(name).value(written)
        if value.wrong:
            return None
        allowed = all(isinstance(leaf, core.Const | core.Param | core.Map) for leaf in core.walk(value.node))
        if not allowed or value.axes:
            self.context.wrong("E402", f"the value of `{name}` must be a constant", written.span,
                               help="a value that depends on the batch is a `let`")  # fmt: skip
            return None
        if not in_bounds(kind, value):
            self.context.wrong("E401", f"`{name}` must be {bounds_text(kind)}, and this {domain_text(value)}", written.span,
                               notes=[Note("declared here", declaration.type.span)])  # fmt: skip
        return value.node

    def _states(self, values: dict[str, Value]) -> dict[str, StateInfo]:
        found = {}
        for name, value in values.items():
            declaration = self._declaration(name)
            if isinstance(declaration, syntax.State) and isinstance(value.node, core.Param):
                found[name] = statements.state(self._context_of(name), name, declaration, value.node)
        return {name: state for name, state in found.items() if state is not None}

    def _entries(self, blocks: Iterable[syntax.Block]) -> list[tuple[syntax.Block, syntax.Entry, Value]]:
        found: list[tuple[syntax.Block, syntax.Entry, Value]] = []
        seen: dict[str, Span] = {}
        for block in blocks:
            for entry in block.entries:
                if entry.name in seen:
                    self.context.wrong("E102", f"two terms or monitors are called `{entry.name}`", entry.name_span,
                                       notes=[Note("first declared here", seen[entry.name])])  # fmt: skip
                seen.setdefault(entry.name, entry.name_span)
                value = self.context.value(entry.value)
                if not value.wrong and self._is_scalar(entry, value):
                    self._note_axes(entry, value)
                    found.append((block, entry, value))
        return found

    def _names_taken(self, blocks: list[syntax.Block], constraints: list[syntax.Constraint]) -> None:
        """Reports a constraint that has the name of a term or of another constraint."""
        seen = {entry.name: entry.name_span for block in blocks for entry in block.entries}
        for item in constraints:
            if item.name in seen:
                self.context.wrong("E102", f"`{item.name}` is the name of two terms or constraints", item.name_span,
                                   notes=[Note("first declared here", seen[item.name])])  # fmt: skip
            seen.setdefault(item.name, item.name_span)

    def _note_axes(self, entry: syntax.Entry, value: Value) -> None:
        """Notes a value with more axes than a tensor can have, which no later stage compiles."""
        most = max((len(node.axes) for node in core.walk(value.node)), default=0)
        if most > MOST_AXES:
            self.context.uncompiled(f"a value of {most} axes, as `{entry.name}` has one,", entry.value.span)

    def _is_scalar(self, entry: syntax.Entry, value: Value) -> bool:
        if value.term is not None or value.kind.name in ("model", "choice"):
            self.context.wrong(
                "E207", f"`{entry.name}` is not a number", entry.value.span, label=describe(self.context, value)
            )
            return False
        if not value.axes:
            return True
        inner = print_expr(entry.value)
        if any(axis.startswith(WEIGHTS_AXIS) for axis in value.axes):
            help_ = f"write `total({inner})`"
        else:
            help_ = f"write `{self._reduction_of(value)}({inner})`"
        self.context.wrong("E312", f"`{entry.name}` still has {axes_text(self.context, value.axes)}: it is not one number",
                           entry.value.span, label=describe(self.context, value), help=help_)  # fmt: skip
        return False

    def _reduction_of(self, value: Value) -> str:
        """The reduction that the setting suggests for a value; without a setting, the mean over all its axes."""
        usual = usual_reduction(value, self.gathered.reduces, self.frame)
        return print_expr(usual) if usual is not None else f"mean[{axes_text(self.context, value.axes)}]"

    def _whole_file(self, objective: bool) -> None:
        named = next(
            (item for item in self.file.items if isinstance(item, syntax.Meta) and item.key == "objective"), None
        )
        unread = any(problem.code.startswith("E0") for problem in self.problems.errors)
        if named is not None and not objective and not unread:
            help_ = "add `minimize` with at least one term below it"
            message = f"the objective `{named.value}` minimises nothing"
            self.problems.add(error("E501", message, named.name_span, help=help_))
        if self.session.exhausted is not None:
            self.context.wrong("E505", "the terms called here call each other too often: written out, they have no end",
                               self.session.exhausted, help="call a term once and name its value with `let`")  # fmt: skip

    def _program(
        self, values: dict[str, Value], params: dict[str, ParamInfo], states: dict[str, StateInfo],
        entries: list[tuple[syntax.Block, syntax.Entry, Value]], constraints: tuple[ConstraintInfo, ...],
    ) -> Program:  # fmt: skip
        symbols = {symbol.name: symbol for symbol in self.frame.axes.values()}
        normaliser = Normaliser(name for name, symbol in symbols.items() if symbol.batch)
        terms = [_term(normaliser, block, entry, value) for block, entry, value in entries]
        metas: dict[str, str] = {item.key: item.value for item in self.file.items if isinstance(item, syntax.Meta)}
        return Program(
            name=metas.get("objective", "objective"),
            meta=metas,
            axes={name: _axis(symbol) for name, symbol in symbols.items()},
            tensors={name: self._tensor(name, value) for name, value in values.items()
                     if isinstance(self._declaration(name), syntax.Tensor)},
            params=params,
            states=states,
            lets={name: self._let(name, value) for name, value in values.items()
                  if isinstance(self._declaration(name), syntax.Let) and value.term is None},
            terms=tuple(term for term, (block, _, _) in zip(terms, entries, strict=True) if block.role != "monitor"),
            monitors=tuple(term for term, (block, _, _) in zip(terms, entries, strict=True) if block.role == "monitor"),
            constraints=constraints,
            bindings=tuple(dict.fromkeys(self.session.bindings)),
            spans=self._spans(),
            uncompiled=self._uncompiled(terms),
            canonical=print_text(resolve(self.file, self.source)),
        )  # fmt: skip

    def _spans(self) -> dict[core.Node, Span]:
        """Where each node was first written. Quantities that a `grad` differentiates by are replaced by their definitions."""
        if not self.session.pending:
            return self.session.spans
        found: dict[core.Node, Span] = {}
        for node, span in self.session.spans.items():
            found.setdefault(settled(self.session, node), span)
        return found

    def _uncompiled(self, terms: list[TermInfo]) -> tuple[Diagnostic, ...]:
        """The forms that later stages do not compile, if a term or monitor depends on one of them."""
        reached = any(_not_compiled(node) or len(node.axes) > MOST_AXES for node in core.walk(*(term.value for term in terms)))
        return tuple(dict.fromkeys(self.session.uncompiled)) if reached else ()

    def _declaration(self, name: str) -> syntax.Declaration:
        symbol = self.frame.values[name]
        assert isinstance(symbol, ValueSymbol)
        return symbol.declaration

    def _context_of(self, name: str) -> Context:
        """The context in which a name was declared."""
        symbol = self.frame.values[name]
        assert isinstance(symbol, ValueSymbol)
        return Context(self.session, symbol.frame)

    def _tensor(self, name: str, value: Value) -> TensorInfo:
        declaration = self._declaration(name)
        assert isinstance(declaration, syntax.Tensor) and isinstance(value.node, core.Input)
        read = read_type(self._context_of(name), declaration.type)
        assert read is not None
        return TensorInfo(name, declaration.role, read[0], read[1], value.node, declaration.span)

    def _let(self, name: str, value: Value) -> LetInfo:
        axes = dict.fromkeys((*self.gathered.of_settings, *(symbol.name for symbol in self.frame.axes.values())))
        positions = {axis: at for at, axis in enumerate(axes)}
        order = tuple(sorted(value.axes, key=lambda axis: (positions.get(axis, len(positions)), axis)))
        return LetInfo(
            name, value.kind, order, value.node, value.present, value.declared or self._declaration(name).span
        )


class _SettingCheck:
    """The check of a setting that nothing uses: its lets are evaluated in a frame of its own."""

    def __init__(self, check: _Check, setting: syntax.Setting) -> None:
        self.problems = check.problems
        self.gathered = Gatherer(check.source, check.problems).setting(check.file, setting)
        self.frame = self.gathered.frame

    def run(self) -> None:
        session = Session(self.problems, self.frame, class_axes=set(_class_axes(self.frame)))
        session.differentiated |= differentiated(self.frame, ())
        for symbol in list(self.frame.values.values()):
            if isinstance(symbol, ValueSymbol):
                value_of(Context(session, self.frame), symbol)
        for item, frame in self.gathered.reduces:
            if frame.own:
                statements.usual_reduction(Context(session, frame), item)


def _class_axes(frame: Frame) -> Iterable[str]:
    """The last axes of logits and distributions, and the codomains of labels."""
    for symbol in frame.values.values():
        if isinstance(symbol, ValueSymbol) and isinstance(symbol.declaration, syntax.Tensor):
            type_ = symbol.declaration.type
            named = type_.axes[-1:] if type_.kind in ("logits", "prob") and type_.axes else ()
            within = (type_.within,) if type_.kind == "label" and isinstance(type_.within, str) else ()
            for name in (*named, *within):
                if name in symbol.frame.axes:
                    yield symbol.frame.axes[name].name


def _not_compiled(node: core.Node) -> bool:
    """Whether no later stage compiles a node: `shift` or `topk` by an amount that is no literal, options that differ by row."""
    match node:
        case core.Along(op="shift" | "topk", option=core.Node() as amount):
            return not (isinstance(amount, core.Const) and float(amount).is_integer())
        case core.Reduce(option=core.Node() as option):
            return bool(option.axes)
    return isinstance(node, core.Call) and node.function == "abstract"


def _axis(symbol: AxisSymbol) -> AxisInfo:
    return AxisInfo(symbol.name, symbol.span, symbol.batch, symbol.positions)


def _term(normaliser: Normaliser, block: syntax.Block, entry: syntax.Entry, value: Value) -> TermInfo:
    sign: Literal[1, -1] = -1 if block.role == "maximize" else 1
    parts = normaliser.parts(value.node, value.present)
    return TermInfo(entry.name, sign, parts, value.node, entry.span, print_expr(entry.value), value.present)


__all__ = ["Checked", "check_file", "check_source", "override"]
