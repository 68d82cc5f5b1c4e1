"""A whole objective as mathematics: what is minimised, each term, and the definitions that they lean on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lossc.compiler.display.expression import core_expression
from lossc.compiler.display.latex import Latex
from lossc.compiler.display.plain import Plain
from lossc.compiler.display.walker import Walker
from lossc.compiler.mentions import syntax_nodes
from lossc.compiler.program import Program
from lossc.grammar.diagnostics import Diagnostics
from lossc.grammar.parser import parse_text
from lossc.grammar.source import Source
from lossc.grammar.syntax import Argument, Block, Call, Expr, File, Item, Let, Name, Setting, Term


@dataclass(frozen=True)
class Line:
    """`left = right`; `role` is `minimize`, `maximize`, `monitor` or `with`."""

    role: str
    left: Expr
    right: Expr


def plain_equation(program: Program, *, expand: bool = False) -> str:
    """The equation in lines of Unicode mathematics; `expand` writes each term out instead of naming definitions."""
    lines = list(expanded_lines(program) if expand else equation_lines(program))
    text = Walker(Plain()).text
    lefts = [text(line.left) for line in lines]
    width = max((len(left) for left in lefts), default=0)
    shown = []
    for before, line, left in zip([None, *lines], lines, lefts, strict=False):
        role = line.role if before is None or before.role != line.role else ""
        shown.append(f"{role:<10}{left:<{width}} = {text(line.right)}")
    return "\n".join(shown)


def latex_equation(program: Program, *, expand: bool = False) -> str:
    """The equation as an `aligned` block of LaTeX; `expand` writes each term out instead of naming definitions."""
    text = Walker(Latex()).text
    rows = []
    role = ""
    for line in expanded_lines(program) if expand else equation_lines(program):
        words = rf"\text{{{line.role}}}\quad & " if line.role != role else "& "
        role = line.role
        rows.append(rf"{words}{text(line.left)} &&= {text(line.right)}")
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def equation_lines(program: Program) -> Iterator[Line]:
    """The entries as they were written, then each definition that is reached from them, in the order of use."""
    file = parse_text(Source("<canonical>", program.canonical), Diagnostics())
    entries = [(block.role, entry) for block in file.items if isinstance(block, Block) for entry in block.entries]
    for role, entry in sorted(entries, key=lambda pair: pair[0] == "monitor"):
        yield Line(role, Name(entry.name), entry.value)
    definitions = _definitions(file)
    reached: dict[str, None] = {}
    for _, entry in entries:
        _reach(entry.value, definitions, reached)
    for name in reached:
        yield from _definition(name, definitions[name])


def expanded_lines(program: Program) -> Iterator[Line]:
    """The core graph of each term and monitor, nothing left to be looked up."""
    positions = {name: axis.positions for name, axis in program.axes.items() if axis.positions is not None}
    for term in program.terms:
        role = "minimize" if term.sign > 0 else "maximize"
        yield Line(role, Name(term.name), core_expression(term.value, positions))
    for monitor in program.monitors:
        yield Line("monitor", Name(monitor.name), core_expression(monitor.value, positions))


def _definitions(file: File) -> dict[str, Let | Term]:
    """Every named quantity and term of a self-contained file by the name that is written."""
    found: dict[str, Let | Term] = {}
    items: list[Item] = list(file.items)
    for item in items:
        if isinstance(item, Setting):
            items += [inner for inner in item.items if isinstance(inner, Let)]
        elif isinstance(item, Let | Term):
            found[item.name] = item
    return found


def _reach(root: object, definitions: dict[str, Let | Term], reached: dict[str, None]) -> None:
    names = sorted((node for node in syntax_nodes(root) if isinstance(node, Name)), key=lambda node: node.span.start)
    for name in names:
        short = name.id if name.id in definitions else name.id.rpartition(".")[2]
        if short in definitions and short not in reached:
            reached[short] = None
            _reach(definitions[short], definitions, reached)


def _definition(name: str, item: Let | Term) -> Iterator[Line]:
    if isinstance(item, Let):
        yield Line("with", Name(name), item.value)
        return
    left = Call(Name(name), tuple(Argument(Name(formal.name)) for formal in item.formals))
    yield Line("with", left, item.body)
    for let in item.lets:
        yield Line("with", Name(let.name), let.value)
