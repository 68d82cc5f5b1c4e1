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
from lossc.grammar.syntax import Argument, Block, Call, Constraint, Expr, File, Item, Let, Name, Setting, State, Term

_PLAIN = {"=": "=", ":": ":", "then": "←"}
_ORDER = {"subject to": 1, "monitor": 2}
"""What stands behind the terms."""

_LATEX = {"=": "=", ":": r"\colon", "then": r"\leftarrow"}


@dataclass(frozen=True)
class Line:
    """`left = right`; `role` is `minimize`, `maximize`, `subject to`, `monitor`, `state` or `with`.

    A constraint is named, `left : right`, and holds for `each` entry of an axis; a state is renewed, `left then right`.
    """

    role: str
    left: Expr
    right: Expr
    sign: str = "="
    each: str = ""


def plain_equation(program: Program, *, expand: bool = False) -> str:
    """The equation in lines of Unicode mathematics; `expand` writes each term out instead of naming definitions."""
    lines = list(expanded_lines(program) if expand else equation_lines(program))
    text = Walker(Plain()).text
    lefts = [text(line.left) for line in lines]
    width = max((len(left) for left in lefts), default=0)
    indent = max((len(line.role) + 1 for line in lines), default=0)
    shown = []
    for before, line, left in zip([None, *lines], lines, lefts, strict=False):
        role = line.role if before is None or before.role != line.role else ""
        each = f" for each {line.each}" if line.each else ""
        shown.append(f"{role:<{max(indent, 10)}}{left:<{width}} {_PLAIN[line.sign]} {text(line.right)}{each}")
    return "\n".join(shown)


def latex_equation(program: Program, *, expand: bool = False) -> str:
    """The equation as an `aligned` block of LaTeX; `expand` writes each term out instead of naming definitions."""
    text = Walker(Latex()).text
    rows = []
    role = ""
    for line in expanded_lines(program) if expand else equation_lines(program):
        words = rf"\text{{{line.role}}}\quad & " if line.role != role else "& "
        role = line.role
        each = rf" \quad \forall\, {text(Name(line.each))}" if line.each else ""
        rows.append(rf"{words}{text(line.left)} &&{_LATEX[line.sign]} {text(line.right)}{each}")
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def equation_lines(program: Program) -> Iterator[Line]:
    """The entries as they were written, then each definition that is reached from them, in the order of use."""
    file = parse_text(Source("<canonical>", program.canonical), Diagnostics())
    blocks = [item for item in file.items if isinstance(item, Block)]
    lines = [Line(block.role, Name(entry.name), entry.value) for block in blocks for entry in block.entries]
    constraints = [item for item in file.items if isinstance(item, Constraint)]
    lines += [Line("subject to", Name(item.name), item.value, ":", item.per or "") for item in constraints]
    yield from sorted(lines, key=lambda line: _ORDER.get(line.role, 0))
    definitions = _definitions(file)
    reached: dict[str, None] = {}
    for line in lines:
        _reach(line.right, definitions, reached)
    found = [line for name in reached for line in _definition(name, definitions[name])]
    yield from sorted(found, key=lambda line: line.role == "with")


def expanded_lines(program: Program) -> Iterator[Line]:
    """The core graph of each term and monitor, nothing left to be looked up."""
    positions = {name: axis.positions for name, axis in program.axes.items() if axis.positions is not None}
    for term in program.terms:
        role = "minimize" if term.sign > 0 else "maximize"
        yield Line(role, Name(term.name), core_expression(term.value, positions))
    for monitor in program.monitors:
        yield Line("monitor", Name(monitor.name), core_expression(monitor.value, positions))


def _definitions(file: File) -> dict[str, Let | Term | State]:
    """Every named quantity and term of a self-contained file by the name that is written."""
    found: dict[str, Let | Term | State] = {}
    items: list[Item] = list(file.items)
    for item in items:
        if isinstance(item, Setting):
            items += [inner for inner in item.items if isinstance(inner, Let | State)]
        elif isinstance(item, Let | Term | State):
            found[item.name] = item
    return found


def _reach(root: object, definitions: dict[str, Let | Term | State], reached: dict[str, None]) -> None:
    names = sorted((node for node in syntax_nodes(root) if isinstance(node, Name)), key=lambda node: node.span.start)
    for name in names:
        short = name.id if name.id in definitions else name.id.rpartition(".")[2]
        if short in definitions and short not in reached:
            reached[short] = None
            _reach(definitions[short], definitions, reached)


def _definition(name: str, item: Let | Term | State) -> Iterator[Line]:
    if isinstance(item, State):
        yield Line("state", Name(name), item.initial)
        yield Line("state", Name(name), item.renewal, "then")
        return
    if isinstance(item, Let):
        yield Line("with", Name(name), item.value)
        return
    left = Call(Name(name), tuple(Argument(Name(formal.name)) for formal in item.formals))
    yield Line("with", left, item.body)
    for let in item.lets:
        yield Line("with", Name(let.name), let.value)
