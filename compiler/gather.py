"""From a file to frames: every declaration and every import under the name by which it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lossc.compiler.library import Module, file_module, shipped_module, shipped_modules
from lossc.compiler.primitives import FUNCTIONS
from lossc.compiler.suggest import did_you_mean
from lossc.compiler.symbols import AxisSymbol, Frame, TermSymbol, ValueSymbol
from lossc.grammar.diagnostics import Diagnostics, Note, error
from lossc.grammar.source import Source, Span
from lossc.grammar.syntax import (
    Axis,
    Extern,
    File,
    Item,
    Let,
    Node,
    Param,
    Reduce,
    Selector,
    Setting,
    State,
    Tensor,
    Term,
    Type,
    Use,
)

REDUCTIONS = ("sum", "mean", "prod", "max", "min", "logsumexp", "std", "var", "any", "all", "argmax", "quantile", "median",
              "count")  # fmt: skip
ALONG = (
    "softmax",
    "log_softmax",
    "cumsum",
    "cumprod",
    "cummax",
    "cumlogsumexp",
    "rank",
    "shift",
    "scan",
    "sort",
    "topk",
)
LINEAR = ("dot", "norm", "cov", "svdvals", "logdet", "trace", "solve", "sinkhorn")
SEARCHES = ("grad", "worst", "root")
PLAIN = ("sg", "fill", "ramp", "normal", "uniform", "total", "limit")
POSITIONS = ("index", "size", "count")
RUN_VALUES = ("step", "progress")
CONSTANTS = ("pi", "inf")

BUILT_IN = frozenset((*FUNCTIONS, *REDUCTIONS, *ALONG, *LINEAR, *SEARCHES, *PLAIN))
"""The functions of the language; no term may take one of these names."""


@dataclass
class Gathered:
    """The frame of an objective with what else its file and its settings state."""

    frame: Frame
    reduces: list[tuple[Reduce, Frame]] = field(default_factory=list)
    imports: list[tuple[str, Span, TermSymbol]] = field(default_factory=list)
    """Terms imported by name in the objective's own file, for the lint on unused names."""


class Gatherer:
    """Reads the declarations of one objective and of all that it uses, and reports clashes of names."""

    def __init__(self, source: Source, problems: Diagnostics) -> None:
        self.source = source
        self.problems = problems
        self._modules: dict[str, Frame] = {}
        self._open: list[str] = [source.name]

    def objective(self, file: File) -> Gathered:
        top = Frame("objective", own=True)
        top.objective = top
        gathered = Gathered(top)
        self._declare_terms(file.items, top, own=True)
        for item in file.items:
            if isinstance(item, Use):
                self._use(item, top, gathered)
        self._declare_values(file.items, top, gathered)
        return gathered

    # -------------------------------------------------------------------------------------- modules

    def module_frame(self, module: Module) -> Frame:
        """The frame in which the terms and settings of a module are written."""
        if module.path not in self._modules:
            for problem in module.problems.found:
                self.problems.add(problem)
            frame = self._modules[module.path] = Frame("objective", own=False)
            self._declare_terms(module.file.items, frame, own=False)
            self._open.append(module.path)
            for item in module.file.items:
                if isinstance(item, Use):
                    self._use(item, frame, None)
            self._open.pop()
        return self._modules[module.path]

    def _use(self, use: Use, frame: Frame, gathered: Gathered | None) -> None:
        if "." not in use.path and not use.is_file and use.path in frame.settings:
            self._instantiate(use, *frame.settings[use.path], frame, gathered)
            return
        module, member = self._find(use)
        if module is None:
            return
        if module.path in self._open:
            self.problems.add(error("E105", f"`{use.path}` uses itself", use.span, help="remove one of the two lines"))
            return
        home = self.module_frame(module)
        names = (member,) if member else use.names
        for name in module.terms if names is None else names:
            self._import(name, use, home, frame, gathered, explicit=names is not None)

    def _find(self, use: Use) -> tuple[Module | None, str | None]:
        if use.is_file:
            found = file_module(use.path, use.span.source)
            if isinstance(found, str):
                self.problems.add(error("E104", f'"{use.path}" cannot be used: {found}', use.span))
                return None, None
            return found, None
        module = shipped_module(use.path)
        if module is not None:
            return module, None
        head, _, last = use.path.rpartition(".")
        module = shipped_module(head)
        if module is not None and (last in module.terms or last in module.settings):
            return module, last
        self._unknown_module(use, module, head, last)
        return None, None

    def _unknown_module(self, use: Use, module: Module | None, head: str, last: str) -> None:
        if module is not None:
            known = [f"{head}.{name}" for name in (*module.terms, *module.settings)]
            message = f"`{head}` has no term or setting `{last}`"
        else:
            known = [*shipped_modules(), *_setting_paths()]
            message = f"there is no module `{use.path}`"
        hint = did_you_mean(use.path, known) or ("`lossc list` shows the modules of the library",)
        self.problems.add(error("E104", message, use.span, help=hint))

    def _import(
        self, name: str, use: Use, home: Frame, frame: Frame, gathered: Gathered | None, *, explicit: bool
    ) -> None:
        if name in home.settings:
            self._instantiate(use, *home.settings[name], frame, gathered)
            return
        if name not in home.terms:
            known = (*home.terms, *home.settings)
            message = f"`{use.path}` has no term `{name}`"
            self.problems.add(error("E104", message, _inside(use.span, name), help=did_you_mean(name, known)))
            return
        term = home.terms[name]
        written = f"{use.alias}.{name}" if use.alias else name
        clash = frame.terms.get(written)
        if clash is not None and clash is not term:
            message = f"`{written}` is declared here and imported from `{use.path}` as well"
            notes = [Note("declared here", clash.span)]
            self.problems.add(
                error(
                    "E103", message, _inside(use.span, name), notes=notes, help=f"rename one, or `use {use.path} as …`"
                )
            )
            return
        frame.terms[written] = term
        if gathered is not None and explicit:
            gathered.imports.append((written, _inside(use.span, name), term))

    # -------------------------------------------------------------------------------------- settings

    def _instantiate(self, use: Use, setting: Setting, home: Frame, frame: Frame, gathered: Gathered | None) -> None:
        inner = Frame("setting", own=home.own, prefix=use.alias or "", terms=home.terms, settings=home.settings)
        inner.objective = frame.objective
        for shared in use.sharing:
            inner.axes[shared] = frame.axes.setdefault(shared, AxisSymbol(shared, use.span, declared=False))
        for item in setting.items:
            if isinstance(item, Use):
                self._use(item, inner, gathered)
        self._declare_values(setting.items, inner, gathered, imported=use)
        self._export(inner, frame, use)

    def _export(self, inner: Frame, frame: Frame, use: Use) -> None:
        for name, symbol in inner.values.items():
            written = name if "." in name and not inner.prefix else inner.full(name)
            clash = frame.values.get(written)
            if isinstance(clash, ValueSymbol) and clash is not symbol:
                help_ = f"give the second a prefix: `use {use.path} as other`"
                message = f"`{written}` comes from two settings"
                notes = [Note("first declared here", clash.span)]
                self.problems.add(error("E103", message, use.span, notes=notes, help=help_))
                return
            frame.values[written] = symbol
        for name, axis in inner.axes.items():
            frame.axes.setdefault(inner.full(name) if name not in use.sharing else name, axis)

    # -------------------------------------------------------------------------------------- declarations

    def _declare_terms(self, items: tuple[Item, ...], frame: Frame, *, own: bool) -> None:
        for item in items:
            if isinstance(item, Term | Extern):
                if item.name in BUILT_IN:
                    message = f"`{item.name}` is a function of the language"
                    self.problems.add(error("E103", message, _inside(item.span, item.name), help="choose another name"))
                elif item.name in frame.terms:
                    self._duplicate(item.name, item.span, frame.terms[item.name].span)
                else:
                    frame.terms[item.name] = TermSymbol(item.name, item, frame, own)
            elif isinstance(item, Setting):
                if item.name in frame.settings:
                    self._duplicate(item.name, item.span, frame.settings[item.name][0].span)
                frame.settings[item.name] = (item, frame)

    def _declare_values(
        self, items: tuple[Item, ...], frame: Frame, gathered: Gathered | None, imported: Use | None = None
    ) -> None:
        for item in items:
            match item:
                case Axis():
                    self._declare_axis(item, frame)
                case Tensor() | Param() | State() | Let():
                    self._declare_value(item, frame, imported)
                case Reduce() if gathered is not None:
                    gathered.reduces.append((item, frame))
        for item in items:
            if isinstance(item, Tensor | Param | State):
                self._axes_of_type(item.type, frame)
        for item in items:
            if isinstance(item, Let | Tensor | Param | State | Reduce) or hasattr(item, "entries"):
                _axes_made(item, frame)

    def _declare_axis(self, item: Axis, frame: Frame) -> None:
        known = frame.axes.get(item.name)
        if known is not None and known.declared:
            self._duplicate(item.name, item.span, known.span)
            return
        if known is None:
            frame.axes[item.name] = AxisSymbol(frame.full(item.name), item.span, item.batch, item.positions)

    def _declare_value(self, item: Tensor | Param | State | Let, frame: Frame, imported: Use | None) -> None:
        clash = frame.values.get(item.name)
        if isinstance(clash, ValueSymbol):
            if clash.frame is frame:
                self._duplicate(item.name, item.span, clash.span)
            else:
                notes = [Note("imported from here", clash.span)]
                message = f"`{item.name}` is imported, and declared again here"
                self.problems.add(
                    error("E103", message, _inside(item.span, item.name), notes=notes, help="choose another name")
                )
            return
        frame.values[item.name] = ValueSymbol(frame.full(item.name), item, frame, own=imported is None and frame.own)

    def _axes_of_type(self, type_: Type, frame: Frame) -> None:
        names = list(type_.axes or ())
        if type_.kind == "label" and isinstance(type_.within, str):
            names.append(type_.within)
        for inner in (*type_.parameters, *((type_.result,) if type_.result else ())):
            self._axes_of_type(inner, frame)
        for name in names:
            frame.axes.setdefault(name, AxisSymbol(frame.full(name), type_.span, declared=False))

    def _duplicate(self, name: str, span: Span, first: Span) -> None:
        notes = [Note("first declared here", first)]
        self.problems.add(error("E102", f"`{name}` is declared twice", _inside(span, name), notes=notes,
                                help="remove or rename one of the two"))  # fmt: skip


def _axes_made(item: Node, frame: Frame) -> None:
    """An axis made by `->` at the level of the file is one axis of the file."""
    for node in syntax_nodes(item):
        if isinstance(node, Selector) and node.form == "rename" and node.new:
            frame.axes.setdefault(node.new, AxisSymbol(frame.full(node.new), node.span, declared=False))


def syntax_nodes(root: object) -> Iterator[Node]:
    """Every syntax node below `root`, itself included."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack.extend(node)
        elif isinstance(node, Node):
            yield node
            stack.extend(getattr(node, name) for name in node.__dataclass_fields__ if name != "span")


def _inside(span: Span, name: str) -> Span:
    """The place of `name` inside a declaration, or the declaration where it is not written out."""
    at = span.text.find(name)
    return Span(span.source, span.start + at, span.start + at + len(name)) if at >= 0 else span


def _setting_paths() -> list[str]:
    settings = shipped_module("std.settings")
    return [f"std.settings.{name}" for name in settings.settings] if settings else []
