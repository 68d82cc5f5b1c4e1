"""From a program to executables: one for each set of `let`s that a caller gives as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from lossc.compiler.core import ONE, ZERO, Call, Index, Input, Node, Reduce, Select, Size, Slice, StopGrad, apply, walk
from lossc.compiler.draws import NAME
from lossc.compiler.emission import Extent, Product, emit, made_by, made_extents
from lossc.compiler.given import with_given
from lossc.compiler.normalise import Normaliser
from lossc.compiler.program import LetInfo, Part, Program, TermInfo
from lossc.compiler.simplify import Simplifier, simplify
from lossc.runtime.backends import executable
from lossc.runtime.externs import EXTERN
from lossc.runtime.messages import fail

TRUE = apply("eq", ZERO, ZERO)

Form = Literal["ratio", "sum", "once", "coupled"]


class Entry(NamedTuple):
    """A term or monitor: its sign in the loss (0 for a monitor), and the form and axes of each of its parts."""

    name: str
    sign: int
    forms: tuple[Form, ...]
    axes: tuple[tuple[str, ...], ...]


class Variant:
    """Runs one kind of call. Its fields are plain values, through which `torch.compile` can trace."""

    def __init__(self, program: Program, roots: dict[str, Node], seen: dict[str, Node], backend: str) -> None:
        procedure = emit(roots, seen=seen, spans=program.spans)
        runnable = executable(program, roots, seen, procedure, backend)
        self.run = runnable.run
        self.native = runnable.native
        self.heads = runnable.heads
        tensors = procedure.names("tensor")
        models = (name for name in procedure.names("function") if not name.startswith(EXTERN))
        self.required = (*(n for n in tensors if not n.startswith(NAME)), *models)
        self.drawn = tuple(name for name in tensors if name.startswith(NAME))
        self.bound = tuple((bound.kind, bound.name, bound.axes) for bound in runnable.bound)
        self.minima = (*_largest(procedure.minima), *_positions(roots))
        self.squares = procedure.squares
        self.diagonals = tuple(_diagonals(roots))
        self.made = tuple(dict.fromkeys(_made(roots)))
        self.axes = {name: value.axes for name, value in procedure.outputs.items()}
        self.procedure = procedure
        signed = [*((term, int(term.sign)) for term in program.terms), *((entry, 0) for entry in program.monitors)]
        self.entries = tuple(
            Entry(
                term.name, sign, tuple(part.form for part in term.parts), tuple(part.over for part in term.parts)
            )
            for term, sign in signed
        )  # fmt: skip


def _largest(minima: Mapping[str, int]) -> Iterator[tuple[str, int, str]]:
    yield from ((axis, least, f"`topk` asks for {least} entries of `{axis}`") for axis, least in minima.items())


def _positions(roots: Mapping[str, Node]) -> Iterator[tuple[str, int, str]]:
    """Axes read at literal positions, each with the extent that this requires."""
    for node in walk(*roots.values()):
        if isinstance(node, Select) and isinstance(node.at, int):
            yield node.axis, node.at + 1, f"position {node.at} is read of `{node.axis}`"
        elif isinstance(node, Slice):
            yield node.axis, node.stop, f"the positions {node.start} to {node.stop - 1} are read of `{node.axis}`"


def _diagonals(roots: Mapping[str, Node]) -> Iterator[tuple[tuple[str, str | int], tuple[str, str | int]]]:
    """The row and column axes of each `s[j = index[b]]`, which reads one column for each row, with what tells their extents.

    Expressions that use the extent of the columns are left out: they may handle rows without a column.
    """
    nodes = list(walk(*roots.values()))
    made = made_extents(roots.values())
    sized = {node.axis for node in nodes if isinstance(node, Size)}
    found = {(node.at.axis, node.axis) for node in nodes if isinstance(node, Select) and isinstance(node.at, Index)}
    for row, column in sorted(found):
        if column not in sized:
            yield (row, _origin(row, made)), (column, _origin(column, made))


def _origin(axis: str, made: Mapping[str, Extent]) -> str | int:
    """What tells the extent of an axis in advance: the axis from which it was made, or a number."""
    told = made.get(axis)
    match told:
        case int():
            return told
        case str():
            return _origin(told, made)
    return axis


def _made(roots: Mapping[str, Node]) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """Axes that a `->` makes, each with the axes whose least extent it has, or with a number."""
    for node in walk(*roots.values()):
        match made_by(node):
            case (axis, str() | int() as source):
                yield axis, (source,)
            case (axis, tuple() as several) if not isinstance(several, Product):
                yield axis, several


def full(
    program: Program, given: frozenset[str], backend: str, *, values: bool, gathered: Mapping[str, Node] | None = None
) -> Variant:
    """Computes everything in a Result; `values` keeps the entries that each part sums, `gathered` adds further values."""
    ready = simplify(with_lets(program, given)).program
    roots: dict[str, Node] = {}
    seen: dict[str, Node] = {}
    for entry in (*ready.terms, *ready.monitors):
        for at, part in enumerate(entry.parts):
            roots |= {f"{entry.name}.{at}.{field}": node for field, node in _fields(part, values=values)}
            if values and part.body is not None and part.admitted is not None:
                seen[f"{entry.name}.{at}.body"] = part.admitted
    return Variant(ready, {**roots, **dict(beside(program, given, gathered or {}))}, seen, backend)


def beside(program: Program, given: frozenset[str], gathered: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
    """Computes further values, without gradient."""
    replacements = _replacements(program, given)
    simplifier = Simplifier()
    for name, node in gathered.items():
        value = simplifier(with_given(node, replacements))
        value = value if value.axes == node.axes else node
        yield name, value if value.is_mask else StopGrad(value)


def counted(program: Program, given: frozenset[str], backend: str) -> Variant:
    """Computes the denominators of all terms, and of those monitors whose denominators need only the given tensors."""
    ready = simplify(with_lets(program, given)).program
    monitors = tuple(entry for entry in ready.monitors if _tensors_of(_denominators(entry).values()) <= given)
    roots = {name: node for entry in (*ready.terms, *monitors) for name, node in _denominators(entry).items()}
    return Variant(replace(ready, monitors=monitors), roots, {}, backend)


def _denominators(entry: TermInfo) -> dict[str, Node]:
    parts = enumerate(entry.parts)
    return {f"{entry.name}.{at}.denominator": part.denominator for at, part in parts if part.denominator is not None}


def _tensors_of(nodes: object) -> frozenset[str]:
    roots = tuple(node for node in nodes if isinstance(node, Node))  # type: ignore[attr-defined]
    return frozenset(part.name for part in walk(*roots) if isinstance(part, Input))


def _fields(part: Part, *, values: bool) -> Iterator[tuple[str, Node]]:
    yield "coefficient", part.coefficient
    yield "numerator", part.numerator
    if part.denominator is not None:
        yield "denominator", part.denominator
    yield "count", Reduce("count", part.over, ONE, part.admitted) if part.over else ONE
    if values and part.body is not None:
        yield "body", part.body
        if part.admitted is not None:
            yield "mask", part.admitted


# ------------------------------------------------------------------------------------------------ given lets


def with_lets(program: Program, given: frozenset[str]) -> Program:
    """The program with some `let`s replaced by tensors that the caller gives.

    A given `let` is present everywhere, unless everything that decides where it is absent is given as well.
    """
    replacements = _replacements(program, given)
    if not replacements:
        return program
    _check_gradients(program, replacements)
    normaliser = Normaliser(program.batch_axes)
    return replace(
        program,
        terms=tuple(_replaced(term, replacements, normaliser) for term in program.terms),
        monitors=tuple(_replaced(term, replacements, normaliser) for term in program.monitors),
    )


def _replacements(program: Program, given: frozenset[str]) -> dict[Node, Node]:
    """The replacements of the given `let`s, and of the masks that say where they are absent."""
    lets = [let for name, let in program.lets.items() if name in given]
    found: dict[Node, Node] = {let.node: _as_input(let) for let in lets}
    for let in lets:
        if let.present is not None and not _tensors_of((let.present,)) <= given:
            found[let.present] = TRUE
    return found


def _check_gradients(program: Program, replacements: Mapping[Node, Node]) -> None:
    """Refuses a gradient inside the objective that a given `let` would cut off from its variable."""
    entries = (*program.terms, *program.monitors)
    for node in walk(*(entry.value for entry in entries)):
        if isinstance(node, Call) and node.function == "grad" and node not in replacements:
            body, variable = node.arguments[:2]
            if variable in walk(body) and variable not in walk(with_given(body, replacements)):
                name = getattr(variable, "name", "")
                message = f"a gradient by `{name}` needs the way from there to what is given"
                raise fail("E724", message, declared=program.spans.get(node))


def _as_input(let: LetInfo) -> Input:
    return Input(let.name, let.order, let.kind.name, let.kind.bounds)


def _replaced(term: TermInfo, replacements: Mapping[Node, Node], normaliser: Normaliser) -> TermInfo:
    """The term over the given values. A term split into parts is split again, since a `let` may have been split too."""
    value = with_given(term.value, replacements)
    if value is term.value:
        return term
    if term.additive:
        return replace(term, value=value, parts=normaliser.parts(value, None))
    parts = tuple(replace(part, numerator=with_given(part.numerator, replacements)) for part in term.parts)
    return replace(term, value=value, parts=parts)
