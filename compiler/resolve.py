"""An objective as one self-contained file, with every term and setting that it uses written out.

`lossc render` prints it. It is the identity of an `Objective`: its meaning does not depend on later versions of the
library.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from lossc.compiler.gather import Gatherer
from lossc.compiler.library import Module, file_module, shipped_module
from lossc.compiler.mentions import syntax_nodes
from lossc.compiler.symbols import Frame, TermSymbol
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.source import Source
from lossc.grammar.syntax import Extern, File, Item, Let, Meta, Name, Setting, State, Term, Use

T = TypeVar("T")


def resolve(file: File, source: Source) -> File:
    """The file with its imports written out; the file must have been checked without errors."""
    gatherer = Gatherer(source, Diagnostics())
    return _Resolver(gatherer, source).resolve(file, gatherer.objective(file).frame)


class _Resolver:
    """Collects what a file reaches, each term and setting under a name of its own."""

    def __init__(self, gatherer: Gatherer, source: Source) -> None:
        self.gatherer = gatherer
        self.source = source
        self.names: dict[TermSymbol, str] = {}
        self.terms: list[Term | Extern] = []
        self.settings: dict[str, Setting] = {}

    def resolve(self, file: File, frame: Frame) -> File:
        own = [item for item in file.items if not isinstance(item, Use)]
        for term in frame.terms.values():
            if term.own:
                self.names[term] = term.name
        uses = [use for item in file.items if isinstance(item, Use) for use in self._use(item, frame)]
        items = [self._renamed(item, frame) for item in own]
        kept = tuple(replace(item, comments=(), trailing=None) for item in (*self.terms, *self.settings.values()))
        head = [item for item in items if isinstance(item, Meta)]
        rest = [item for item in items if not isinstance(item, Meta)]
        return replace(file, items=(*head, *uses, *rest, *kept))

    def _use(self, use: Use, frame: Frame) -> list[Use]:
        """The `use` lines that remain: of settings, which are now in the file."""
        if use.path in frame.settings and not use.is_file and "." not in use.path:
            return [use]
        module, member = self._module(use)
        names = (member,) if member else use.names or ()
        found = []
        for name in names:
            if name in module.settings:
                self._keep_setting(module, name)
                found.append(replace(use, path=name, names=None, is_file=False))
        return found

    def _module(self, use: Use) -> tuple[Module, str | None]:
        module = file_module(use.path, use.span.source) if use.is_file else shipped_module(use.path)
        if isinstance(module, Module):
            return module, None
        head, _, last = use.path.rpartition(".")
        module = shipped_module(head)
        assert module is not None, "a file that was checked uses only modules that exist"
        return module, last

    def _keep_setting(self, module: Module, name: str) -> None:
        if name not in self.settings:
            frame = self.gatherer.module_frame(module)
            setting = module.settings[name]
            inner: list[Item] = []
            for item in setting.items:
                inner.extend(self._use(item, frame) if isinstance(item, Use) else [self._renamed(item, frame)])
            self.settings[name] = replace(setting, items=tuple(inner))

    def _renamed(self, item: Item, frame: Frame) -> Item:
        """The item with every term that it names, under the term's new name."""
        names = {node.id for node in syntax_nodes(item) if isinstance(node, Name)}
        hidden = _local_names(item)
        changed: dict[str, str] = {}
        for name in sorted(names & frame.terms.keys() - hidden):
            kept = self._keep_term(frame.terms[name])
            if kept != name:
                changed[name] = kept
        return with_names(item, changed) if changed else item

    def _keep_term(self, term: TermSymbol) -> str:
        if term not in self.names:
            taken = set(self.names.values())
            name, number = term.name, 2
            while name in taken:
                name, number = f"{term.name}{number}", number + 1
            self.names[term] = name
            declaration = self._renamed(term.declaration, term.frame)
            assert isinstance(declaration, Term | Extern)
            self.terms.append(replace(declaration, name=name))
        return self.names[term]


def _local_names(item: Item) -> set[str]:
    """Names with a meaning of their own inside a term: its arguments and its lets."""
    if isinstance(item, Term):
        return {formal.name for formal in item.formals} | {let.name for let in item.lets}
    return {item.name} if isinstance(item, Let | State) else set()


def with_names(node: T, changed: dict[str, str]) -> T:
    """The tree with some names replaced."""
    if isinstance(node, Name) and node.id in changed:
        return replace(node, id=changed[node.id])
    if isinstance(node, tuple):
        return tuple(with_names(part, changed) for part in node)  # type: ignore[return-value]
    if is_dataclass(node) and not isinstance(node, type) and hasattr(node, "span"):
        parts = {f.name: getattr(node, f.name) for f in fields(node) if f.name != "span"}
        new = {name: with_names(part, changed) for name, part in parts.items()}
        if new != parts:
            return replace(node, **new)
    return node


