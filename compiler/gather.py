"""From a file to frames: every declaration and every import under the name by which it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from lossc.compiler.builtins import BUILT_IN
from lossc.compiler.library import Module, file_module, home_of, shipped_module, shipped_modules
from lossc.compiler.mentions import axes_made
from lossc.compiler.symbols import AxisSymbol, Frame, TermSymbol, ValueSymbol
from lossc.compiler.unread import Unread
from lossc.grammar.diagnostics import Diagnostics, Note, error
from lossc.grammar.source import Source, Span
from lossc.grammar.suggest import did_you_mean, nearest
from lossc.grammar.syntax import (
    Axis,
    Declaration,
    Extern,
    File,
    Item,
    Law,
    Let,
    Param,
    Reduce,
    Setting,
    State,
    Tensor,
    Term,
    Type,
    Use,
)


@dataclass
class Gathered:
    """The frame of an objective with what else its file and its settings state."""

    frame: Frame
    reduces: list[tuple[Reduce, Frame]] = field(default_factory=list)
    imports: list[tuple[str, Span, TermSymbol]] = field(default_factory=list)
    """Terms imported by name in the objective's own file, for the lint on unused names."""
    of_settings: dict[str, None] = field(default_factory=dict)
    """The axes of the settings that the file uses, those that it shares with them among them."""


class Gatherer:
    """Reads the declarations of one objective and of all that it uses, and reports clashes of names."""

    def __init__(self, source: Source, problems: Diagnostics, unread: Unread | None = None) -> None:
        self.source = source
        self.problems = problems
        self.unread = unread if unread is not None else Unread()
        self._modules: dict[str, Frame] = {}
        self._open: list[str] = [source.name]
        self._open_settings: list[Setting] = []

    def objective(self, file: File) -> Gathered:
        top = Frame("objective", own=True)
        top.objective = top
        gathered = Gathered(top)
        self._declare_terms(file.items, top, own=True)
        self._declare_axes(file.items, top)
        for item in file.items:
            if isinstance(item, Use):
                self._use(item, top, gathered)
        self._declare_values(file.items, top, gathered)
        return gathered

    def setting(self, file: File, setting: Setting) -> Gathered:
        """The frame of a setting of the file that nothing uses, as if a file had it alone."""
        home = self.objective(file).frame
        top = Frame("objective", own=True, terms=home.terms, settings=home.settings)
        top.objective = top
        gathered = Gathered(top)
        use = Use(setting.name, span=setting.span, name_span=setting.name_span)
        self._instantiate(use, setting, top, top, gathered)
        return gathered

    # -------------------------------------------------------------------------------------- modules

    def module_frame(self, module: Module) -> Frame:
        """The frame in which the terms and settings of a module are written."""
        place = module.source.name
        if place not in self._modules:
            for problem in module.problems.found:
                self.problems.add(problem)
            frame = self._modules[place] = Frame("objective", own=False)
            self._declare_terms(module.file.items, frame, own=False)
            self._open.append(place)
            for item in module.file.items:
                if isinstance(item, Use):
                    self._use(item, frame, None)
            self._open.pop()
        return self._modules[place]

    def _use(self, use: Use, frame: Frame, gathered: Gathered | None) -> None:
        if "." not in use.path and not use.is_file and use.path in frame.settings:
            self._instantiate(use, *frame.settings[use.path], frame, gathered)
            return
        module, member = self._find(use)
        if module is None:
            return
        if module.source.name in self._open:
            self._uses_itself(use)
            return
        home = self.module_frame(module)
        names = (member,) if member else use.names
        if member and use.names:
            message = f"`{use.path}` is one thing, and nothing in it can be chosen"
            self.problems.add(error("E104", message, _imported(use, use.names[0]), help=f"write `use {use.path}`"))
        if use.sharing and not any(name in home.settings for name in names or ()):
            message = f"`{use.path}` is not a setting, and has no axes to share"
            self.problems.add(error("E104", message, use.span, help="remove `sharing (…)`"))
        for name in module.terms if names is None else names:
            self._import(name, use, home, frame, gathered, explicit=names is not None)

    def _uses_itself(self, use: Use) -> None:
        self.problems.add(error("E105", f"`{use.path}` uses itself", use.span, help="remove one of the two lines"))

    def _find(self, use: Use) -> tuple[Module | None, str | None]:
        if use.is_file:
            found = file_module(use.path, use.span.source)
            if isinstance(found, str):
                self._missing(use)
                self.problems.add(error("E104", f'"{use.path}" cannot be used: {found}', use.name_span))
                return None, None
            return found, None
        module = shipped_module(use.path)
        if module is not None:
            return module, None
        head, _, last = use.path.rpartition(".")
        module = shipped_module(head)
        if module is not None and (last in module.terms or last in module.settings):
            return module, last
        meant = self._unknown_module(use, module, head, last)
        if meant is None:
            self._missing(use)
            return None, None
        return self._find(replace(use, path=meant))

    def _missing(self, use: Use) -> None:
        """What an import that fails would have brought is missing for that reason, wherever it is used."""
        self.unread.names.update(use.names or (), [use.alias] if use.alias else ())
        self.unread.anything = self.unread.anything or (use.names is None and use.alias is None)

    def _unknown_module(self, use: Use, module: Module | None, head: str, last: str) -> str | None:
        """Reports a module that there is none of, and returns what was probably meant: the check goes on with that."""
        if module is not None:
            known = [f"{head}.{name}" for name in (*module.terms, *module.settings)]
            message = f"`{head}` has no term or setting `{last}`"
        else:
            known = [*shipped_modules(), *_setting_paths()]
            message = f"there is no module `{use.path}`"
        meant = nearest(use.path, known) or next((path for path in known if path.rsplit(".", 1)[-1] == last), None)
        help_ = f"did you mean `{meant}`?" if meant else "`lossc list` shows the modules of the library"
        self.problems.add(error("E104", message, use.name_span, help=help_))
        return meant

    def _import(
        self, name: str, use: Use, home: Frame, frame: Frame, gathered: Gathered | None, *, explicit: bool
    ) -> None:
        if name in home.settings:
            self._instantiate(use, *home.settings[name], frame, gathered)
            return
        if name not in home.terms:
            known = (*home.terms, *home.settings)
            meant = nearest(name, known)
            self.unread.names.update((name, meant or name))
            message = f"`{use.path}` has no term `{name}`"
            self.problems.add(error("E104", message, _imported(use, name), help=self._elsewhere(name, known)))
            return
        term = home.terms[name]
        written = f"{use.alias}.{name}" if use.alias else name
        clash = frame.terms.get(written)
        if clash is not None and clash is not term:
            self._clash(use, name, written, clash, frame)
            return
        frame.terms[written] = term
        if gathered is not None and explicit:
            gathered.imports.append((written, _imported(use, name), term))

    @staticmethod
    def _elsewhere(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
        """The help for a name that a module does not have: a near one there, or the module that has it."""
        home = home_of(name)
        return (f"it is in another module: `use {home} ({name})`",) if home else did_you_mean(name, known)

    def _clash(self, use: Use, name: str, written: str, clash: TermSymbol, frame: Frame) -> None:
        if clash.frame is frame:
            message = f"`{written}` is declared in this file and imported from `{use.path}` as well"
        else:
            message = f"`{written}` is imported twice, the second time from `{use.path}`"
        notes = [Note("the other is declared here", clash.span)]
        help_ = f"import one under a prefix: `use {use.path} as other`, then `other.{name}(…)`"
        self.problems.add(error("E103", message, _imported(use, name), notes=notes, help=help_))

    # -------------------------------------------------------------------------------------- settings

    def _instantiate(self, use: Use, setting: Setting, home: Frame, frame: Frame, gathered: Gathered | None) -> None:
        if setting in self._open_settings:
            self._uses_itself(use)
            return
        inner = Frame("setting", own=home.own, prefix=use.alias or "", terms=home.terms, settings=home.settings)
        inner.objective = frame.objective
        self._share(use, setting, inner, frame)
        self._declare_axes(setting.items, inner, shared=use.sharing)
        self._open_settings.append(setting)
        for item in setting.items:
            if isinstance(item, Use):
                self._use(item, inner, gathered)
        self._open_settings.pop()
        self._declare_values(setting.items, inner, gathered, imported=use)
        self._export(inner, frame, use)
        if gathered is not None and frame is gathered.frame:
            gathered.of_settings.update(dict.fromkeys(axis.name for axis in inner.axes.values()))

    def _share(self, use: Use, setting: Setting, inner: Frame, frame: Frame) -> None:
        """Axes under `sharing` are those of the file that uses the setting; new ones there where it has none yet."""
        axes = {item.name: item for item in setting.items if isinstance(item, Axis)}
        for name in use.sharing:
            if name not in axes:
                message = f"`{use.path}` has no axis `{name}` to share"
                hint = did_you_mean(name, axes) or (f"its axes are {', '.join(axes)}" if axes else "it declares none",)
                self.problems.add(error("E301", message, _imported(use, name), help=hint))
                continue
            known = frame.axes.get(name)
            if known is None or not known.declared:
                frame.axes[name] = _axis_symbol(axes[name], frame)
            inner.axes[name] = frame.axes[name]

    def _export(self, inner: Frame, frame: Frame, use: Use) -> None:
        for name, symbol in inner.values.items():
            written = name if "." in name and not inner.prefix else inner.full(name)
            clash = frame.values.get(written)
            if isinstance(clash, ValueSymbol) and clash is not symbol:
                help_ = f"give the second a prefix: `use {use.path} as other`"
                message = f"`{written}` comes from two settings"
                notes = [Note("first declared here", clash.span)]
                self.problems.add(error("E103", message, use.name_span, notes=notes, help=help_))
                return
            frame.values[written] = symbol
        for name, axis in inner.axes.items():
            written = inner.full(name) if name not in use.sharing else name
            known = frame.axes.setdefault(written, axis)
            if known is not axis and known.declared and known.span.source is use.span.source is not axis.span.source:
                message = f"axis `{written}` comes with `{use.path}`, and is declared again here"
                notes = [Note("imported from here", axis.span)]
                self.problems.add(error("E103", message, known.span, notes=notes, help="remove this line"))

    # -------------------------------------------------------------------------------------- declarations

    def _declare_terms(self, items: tuple[Item, ...], frame: Frame, *, own: bool) -> None:
        for item in items:
            if isinstance(item, Term | Extern):
                if item.name in BUILT_IN:
                    self.unread.functions.add(item.name)
                    message = f"`{item.name}` is a function of the language"
                    self.problems.add(error("E103", message, item.name_span, help="choose another name"))
                elif item.name in frame.terms:
                    self._duplicate(item, item.name, frame.terms[item.name].span)
                else:
                    frame.terms[item.name] = TermSymbol(item.name, item, frame, own)
            elif isinstance(item, Setting):
                if item.name in frame.settings:
                    self._duplicate(item, item.name, frame.settings[item.name][0].name_span)
                frame.settings[item.name] = (item, frame)

    def _declare_values(
        self, items: tuple[Item, ...], frame: Frame, gathered: Gathered | None, imported: Use | None = None
    ) -> None:
        for item in items:
            match item:
                case Tensor() | Param() | State() | Let():
                    self._declare_value(item, frame, imported)
                case Reduce() if gathered is not None:
                    gathered.reduces.append((item, frame))
        for item in items:
            if isinstance(item, Tensor | Param | State):
                self._axes_of_type(item.type, frame)
        for item in items:
            if not isinstance(item, Term | Extern | Law | Setting):
                for name, span in axes_made(item, frame.terms):
                    frame.axes.setdefault(name, AxisSymbol(frame.full(name), span, declared=False))

    def _declare_axes(self, items: tuple[Item, ...], frame: Frame, shared: tuple[str, ...] = ()) -> None:
        """Axes come before what uses them, so that a setting can share one of this file."""
        for item in items:
            if not isinstance(item, Axis) or item.name in shared:
                continue
            self._distinct(item, "position", item.positions or ())
            if item.name in frame.axes:
                self._duplicate(item, item.name, frame.axes[item.name].span)
            else:
                frame.axes[item.name] = _axis_symbol(item, frame)

    def _declare_value(self, item: Tensor | Param | State | Let, frame: Frame, imported: Use | None) -> None:
        if not isinstance(item, Let):
            self._distinct(item, "choice", item.type.choices)
        clash = frame.values.get(item.name)
        if isinstance(clash, ValueSymbol):
            if clash.frame is frame:
                self._duplicate(item, item.name, clash.span)
            else:
                self._redeclared(item, item.name, clash.span)
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

    def _distinct(self, item: Declaration, what: str, names: tuple[str, ...]) -> None:
        for at, name in enumerate(names):
            if name in names[:at]:
                message = f"the {what} `{name}` is named twice"
                self.problems.add(error("E102", message, item.span, help="remove or rename one of the two"))
                return

    def _duplicate(self, item: Declaration, name: str, first: Span) -> None:
        notes = [Note("first declared here", first)]
        self.problems.add(error("E102", f"`{name}` is declared twice", item.name_span, notes=notes,
                                help="remove or rename one of the two"))  # fmt: skip

    def _redeclared(self, item: Declaration, name: str, first: Span) -> None:
        notes = [Note("imported from here", first)]
        message = f"`{name}` is imported, and declared again here"
        self.problems.add(error("E103", message, item.name_span, notes=notes, help="choose another name"))


def _axis_symbol(item: Axis, frame: Frame) -> AxisSymbol:
    return AxisSymbol(frame.full(item.name), item.name_span, item.batch, item.positions)


def _imported(use: Use, name: str) -> Span:
    """The place of `name` behind the path of a `use` line, or the path where it is not written out."""
    source, start = use.span.source, use.name_span.end
    found = re.search(rf"\b{re.escape(name)}\b", source.text[start : use.span.end])
    return Span(source, start + found.start(), start + found.end()) if found else use.name_span


def _setting_paths() -> list[str]:
    settings = shipped_module("std.settings")
    return [f"std.settings.{name}" for name in settings.settings] if settings else []
