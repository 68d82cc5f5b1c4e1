"""The syntax tree: what was written, before any name has a meaning.

Both surfaces, text and YAML, are read into these records and printed from them. Every node keeps the span that it
came from; spans and comments take no part in equality, so two spellings of one program are equal trees.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from lossc.grammar.source import NOWHERE, Span


@dataclass(frozen=True, kw_only=True)
class Node:
    """Anything that was written somewhere."""

    span: Span = field(default=NOWHERE, compare=False, repr=False)


# ---------------------------------------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Number(Node):
    """A decimal literal, kept as the digits that were written: `0.1`, `1e-4`, `20`."""

    text: str


@dataclass(frozen=True)
class Name(Node):
    """A name, dotted under a prefix (`forget.logits`), with derivative marks (`f'` has one prime)."""

    id: str
    primes: int = 0


@dataclass(frozen=True)
class Unary(Node):
    op: Literal["-", "+", "not"]
    operand: Expr


@dataclass(frozen=True)
class Binary(Node):
    op: Literal["+", "-", "*", "/", "^", "and", "or"]
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Compare(Node):
    """A chain `a < b <= c`: one more operand than operators."""

    ops: tuple[Literal["<", "<=", ">", ">=", "==", "!="], ...]
    operands: tuple[Expr, ...]


@dataclass(frozen=True)
class IfElse(Node):
    """`then if condition else otherwise`."""

    then: Expr
    condition: Expr
    otherwise: Expr


@dataclass(frozen=True)
class Argument(Node):
    """`value`, `name = value`, or `value -> to` (as in `ramp(0 -> 1)` and `limit(tau -> inf, …)`)."""

    value: Expr
    name: str | None = None
    to: Expr | None = None


@dataclass(frozen=True)
class Call(Node):
    """`function(arguments)`; the function is a `Name`, or a `Bracket` of one (`mean[b](x)`, `ce[v = k](z, y)`)."""

    function: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Selector(Node):
    """One entry of a bracket; what it means depends on the head, and is decided after parsing.

    | form     | written                     | fields used                          |
    |----------|-----------------------------|--------------------------------------|
    | `axis`   | `NAME`                      | name                                 |
    | `at`     | `NAME = e`                  | name, value                          |
    | `slice`  | `NAME = e..e`               | name, value, upper                   |
    | `rename` | `NAME -> NAME [= e..e]`     | name, new, (value, upper)            |
    | `by`     | `NAME by e`                 | name, value                          |
    | `typed`  | `NAME : type`               | name, type                           |
    | `range`  | `NAME in e..e`              | name, value, upper                   |
    """

    form: Literal["axis", "at", "slice", "rename", "by", "typed", "range"]
    name: str
    value: Expr | None = None
    upper: Expr | None = None
    new: str | None = None
    type: Type | None = None


@dataclass(frozen=True)
class Bracket(Node):
    """`head[selectors where condition]`: a reduction's axes, a selection, a binding of formal axes."""

    head: Expr
    selectors: tuple[Selector, ...]
    where: Expr | None = None


@dataclass(frozen=True)
class AxisConstant(Node):
    """`side{chosen: 1, rejected: -1}`: one value for each named position of an axis."""

    axis: str
    entries: tuple[tuple[str, Expr], ...]


Expr: TypeAlias = Number | Name | Unary | Binary | Compare | IfElse | Call | Bracket | AxisConstant


# ---------------------------------------------------------------------------------------------- types


@dataclass(frozen=True)
class Type(Node):
    """`kind[axes] in within`, `{a, b}` (kind `choice`), or `model(parameters) -> result`.

    `within` is a name (`label[b] in v`), a pair of bounds (`real in [0, 1]`), a call (`real[b, d] in ball(inf, eps)`)
    or a quoted pattern of parameter names (`weights in "encoder.*"`). `axes` is None where no bracket was written.
    """

    kind: str
    axes: tuple[str, ...] | None = None
    within: str | tuple[Expr, Expr] | Call | Pattern | None = None
    choices: tuple[str, ...] = ()
    parameters: tuple[Type, ...] = ()
    result: Type | None = None


@dataclass(frozen=True)
class Pattern(Node):
    """A quoted pattern over the names of a model's parameters."""

    text: str


# ---------------------------------------------------------------------------------------------- declarations


BLANK = "\n"
"""In a list of comment lines: an empty line of the file."""


@dataclass(frozen=True, kw_only=True)
class Declaration(Node):
    """A declaration with the lines above it (comments without `#`, `BLANK`) and the comment behind it.

    `name_span` is the declared name alone, for messages that point to it.
    """

    comments: tuple[str, ...] = field(default=(), compare=False, repr=False)
    trailing: str | None = field(default=None, compare=False, repr=False)
    name_span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class Meta(Declaration):
    """`objective NAME`, `title "…"`, `about` (the docstring), `cite "…"`, `certainty …`, `id …`."""

    key: Literal["objective", "title", "about", "cite", "certainty", "id"]
    value: str


@dataclass(frozen=True)
class Use(Declaration):
    """`use std.divergence (kl, js)`, `use "my.loss" as mine`, `use std.settings.tokens as forget sharing (v)`."""

    path: str
    is_file: bool = False
    names: tuple[str, ...] | None = None
    alias: str | None = None
    sharing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Axis(Declaration):
    """`axis b : batch`, `axis side = {chosen, rejected}`, `axis t`."""

    name: str
    batch: bool = False
    positions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Tensor(Declaration):
    """`input logits : logits[b, v]` or `data labels : label[b] in v`."""

    role: Literal["input", "data"]
    name: str
    type: Type


@dataclass(frozen=True)
class Param(Declaration):
    """`param beta : positive = 0.1`; `role` is `param` (fixed for a run) or `learn` (trained with the model)."""

    role: Literal["param", "learn"]
    name: str
    type: Type
    default: Expr | None = None


@dataclass(frozen=True)
class State(Declaration):
    """`state centre : real[k] = initial then renewal`."""

    name: str
    type: Type
    initial: Expr
    renewal: Expr


@dataclass(frozen=True)
class Let(Declaration):
    """`let name = value`."""

    name: str
    value: Expr


@dataclass(frozen=True)
class From(Node):
    """The default `from name`: the value of that name where the term is called at objective level."""

    name: str


@dataclass(frozen=True)
class Formal(Node):
    """A formal argument `name : type = default`; the kind may be left out in laws only."""

    name: str
    type: Type | None = None
    default: Expr | From | None = None


@dataclass(frozen=True)
class Term(Declaration):
    """`term name(formals) -> result = body`, with `lets` where the body is a block."""

    name: str
    formals: tuple[Formal, ...]
    body: Expr
    lets: tuple[Let, ...] = ()
    result: Type | None = None


@dataclass(frozen=True)
class Reduce(Declaration):
    """`reduce mean[b, t where mask]`: how a summand with axes left is reduced at a prompt."""

    value: Expr


@dataclass(frozen=True)
class Setting(Declaration):
    """`setting name` with axes, tensors, lets, uses and a `reduce` indented below it."""

    name: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Entry(Declaration):
    """`name : value` under `minimize`, `maximize` or `monitor`."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Block(Declaration):
    """`minimize`, `maximize` or `monitor` with its entries."""

    role: Literal["minimize", "maximize", "monitor"]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Constraint(Declaration):
    """`subject to name [per axis [by id]] : value`, the value a comparison."""

    name: str
    value: Expr
    per: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class Law(Declaration):
    """`law "title" : claim for formals with lets`; a formal without a type takes its kind from the signature."""

    title: str
    claim: Expr
    formals: tuple[Formal, ...] = ()
    lets: tuple[Let, ...] = ()


@dataclass(frozen=True)
class Extern(Declaration):
    """`extern name(formals) -> result from "package.module:function"`."""

    name: str
    formals: tuple[Formal, ...]
    result: Type
    target: str


Item: TypeAlias = (
    Meta | Use | Axis | Tensor | Param | State | Let | Term | Reduce | Setting | Block | Constraint | Law | Extern
)

SECTIONS: tuple[str, ...] = (
    "objective", "title", "about", "cite", "certainty", "id", "use", "axes", "inputs", "data", "params", "learn",
    "state", "let", "terms", "settings", "reduce", "minimize", "maximize", "subject_to", "monitor", "laws", "extern",
)  # fmt: skip
"""The keys of the YAML surface (with `lossc`, the version, before them); also the canonical order of a file."""


def section(item: Item) -> str:
    """The YAML key under which a declaration stands."""
    match item:
        case Meta(key=key):
            return key
        case Tensor(role=role):
            return "inputs" if role == "input" else "data"
        case Param(role=role):
            return "params" if role == "param" else "learn"
        case Block(role=role):
            return role
        case _:
            return _SECTION_OF[type(item)]


_SECTION_OF: dict[type[Declaration], str] = {
    Use: "use", Axis: "axes", State: "state", Let: "let", Term: "terms", Setting: "settings", Reduce: "reduce",
    Constraint: "subject_to", Law: "laws", Extern: "extern",
}  # fmt: skip


@dataclass(frozen=True)
class File(Node):
    """A whole file. The order of declarations carries no meaning; two files are equal when their sections are."""

    items: tuple[Item, ...]
    version: int = 1
    comments: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Comment lines after the last declaration."""

    def canonical(self) -> tuple[Item, ...]:
        """The declarations by section, in the order of each section; blocks of one role are joined."""
        return _by_section(self.items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        return self.version == other.version and self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash((self.version, self.canonical()))


def _by_section(items: tuple[Item, ...]) -> tuple[Item, ...]:
    joined: list[Item] = []
    blocks: dict[str, int] = {}
    for item in sorted(items, key=lambda item: SECTIONS.index(section(item))):
        if isinstance(item, Setting):
            joined.append(replace(item, items=_by_section(item.items)))
        elif isinstance(item, Block) and item.role in blocks:
            first = joined[blocks[item.role]]
            assert isinstance(first, Block)
            joined[blocks[item.role]] = replace(first, entries=first.entries + _with_comments_of(item))
        else:
            if isinstance(item, Block):
                blocks[item.role] = len(joined)
            joined.append(item)
    return tuple(joined)


def _with_comments_of(block: Block) -> tuple[Entry, ...]:
    """The entries of a block that is joined to an earlier one; its first entry takes the comments of the block."""
    behind = () if block.trailing is None else (block.trailing,)
    first, *others = block.entries
    return replace(first, comments=(*block.comments, *behind, *first.comments)), *others
