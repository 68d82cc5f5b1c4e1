"""The formatter: a file as text, in one style without options.

One hundred columns; the names and values of adjoining lines of a kind are aligned, and so are the comments behind
them; single empty lines stay where they were written and stand around blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lossc.grammar import syntax
from lossc.grammar.expressions import (
    expr_doc,
    formals_doc,
    print_expr,
    print_type,
    signature_doc,
    type_doc,
)
from lossc.grammar.pretty import LINE, Doc, Group, Nest, enclosed, join, render
from lossc.grammar.syntax import BLANK, Declaration, Expr, File
from lossc.grammar.tokens import RESERVED, quoted, quoted_block

__all__ = ["print_expr", "print_text", "print_type"]

WIDTH: Final = 100


def print_text(file: File) -> str:
    """A file as text; reading the text gives an equal file."""
    return joined_lines([*_items(file.items, 0), *comment_lines(file.comments, 0)])


def joined_lines(lines: list[str]) -> str:
    """Lines as a text that neither begins nor ends with an empty one."""
    text = "\n".join(lines).strip("\n")
    return text + "\n" if text else ""


def comment_lines(comments: Sequence[str], indent: int) -> list[str]:
    """Comments as lines, with at most one empty line between two of them."""
    lines = ["" if text == BLANK else " " * indent + comment(text) for text in comments]
    return [line for index, line in enumerate(lines) if line or index == 0 or lines[index - 1]]


def comment(text: str) -> str:
    return "#" + (" " if text and text[0] not in "#!" else "") + text


def _starts_blank(comments: Sequence[str]) -> bool:
    return comments[:1] == (BLANK,)


# Lines of a block or file


def _items(items: Sequence[Declaration], indent: int) -> list[str]:
    """All lines of some declarations."""
    heads = [_head(item, columns, indent) for item, columns in zip(items, _columns(items), strict=True)]
    _append_comments(items, heads)
    lines: list[str] = []
    for index, (item, head) in enumerate(zip(items, heads, strict=True)):
        if index and _blank_between(items[index - 1], item):
            lines.append("")
        lines += comment_lines(item.comments, indent)[_starts_blank(item.comments) :]
        lines += head + _body(item, indent + 2)
    return lines


def _blank_between(before: Declaration, item: Declaration) -> bool:
    if _starts_blank(item.comments) or _is_block(before) or _is_block(item):
        return True
    return not item.span.source.text and _family(before) != _family(item)


def _family(item: Declaration) -> object:
    """What a tree that was not read from a file is grouped by."""
    if isinstance(item, (syntax.Meta, syntax.Entry)):
        return type(item)
    return type(item) if isinstance(item, syntax.Tensor) else syntax.section(item)  # type: ignore[arg-type]


def _is_block(item: Declaration) -> bool:
    return isinstance(item, (syntax.Block, syntax.Setting)) or (isinstance(item, syntax.Term) and bool(item.lets))


def _append_comments(items: Sequence[Declaration], heads: list[list[str]]) -> None:
    """Puts the comments behind adjoining single lines at one column."""
    run: list[int] = []
    for index, item in enumerate(items):
        before = items[index - 1]
        if run and (_is_parted(before, item) or len(heads[index]) > 1 or before.trailing is None):
            _append_aligned(items, heads, run)
            run = []
        run.append(index)
    _append_aligned(items, heads, run)


def _is_parted(before: Declaration, item: Declaration) -> bool:
    """Whether a comment or an empty line stands between two declarations."""
    return bool(item.comments) or _blank_between(before, item)


def _append_aligned(items: Sequence[Declaration], heads: list[list[str]], run: list[int]) -> None:
    commented = [index for index in run if items[index].trailing is not None]
    column = max((len(heads[index][-1]) for index in commented), default=0)
    for index in commented:
        heads[index][-1] = heads[index][-1].ljust(column) + "  " + comment(items[index].trailing or "")


# Alignment of names and values


@dataclass(frozen=True)
class _Columns:
    """The widths that the keyword, the name and the kind of a declaration are padded to."""

    word: int = 0
    name: int = 0
    kind: int = 0


def _columns(items: Sequence[Declaration]) -> list[_Columns]:
    """For each declaration the widths of the run of like declarations that it stands in."""
    columns: list[_Columns] = []
    run: list[Declaration] = []
    for item in items:
        if run and (_alignment(item) != _alignment(run[-1]) or _is_parted(run[-1], item)):
            columns += [_run_columns(run)] * len(run)
            run = []
        run.append(item)
    return columns + [_run_columns(run)] * len(run)


def _alignment(item: Declaration) -> object:
    match item:
        case syntax.Tensor() | syntax.Let() | syntax.Entry() | syntax.Law():
            return type(item)
        case syntax.Param(role=role):
            return role
        case _:
            return id(item)


def _run_columns(run: list[Declaration]) -> _Columns:
    words = [item.role for item in run if isinstance(item, syntax.Tensor)]
    names = [name for item in run if (name := _aligned_name(item)) is not None]
    kinds = [print_type(item.type) for item in run if isinstance(item, syntax.Param) and item.default is not None]
    return _Columns(_longest(words), _longest(names), _longest(kinds))


def _aligned_name(item: Declaration) -> str | None:
    match item:
        case syntax.Tensor(name=name) | syntax.Param(name=name) | syntax.Let(name=name) | syntax.Entry(name=name):
            return name
        case syntax.Law(title=title):
            return quoted(title)
        case _:
            return None


def _longest(texts: Sequence[str]) -> int:
    return max(map(len, texts), default=0)


# Declarations


def _head(item: Declaration, columns: _Columns, indent: int) -> list[str]:
    """The lines of a declaration without its block."""
    match item:
        case syntax.Meta(key="about", value=value):
            return quoted_block(value).split("\n")
        case syntax.Block(role=role):
            return [" " * indent + role]
        case syntax.Setting(name=name):
            return [" " * indent + f"setting {name}"]
        case syntax.Term(name=name, formals=formals, result=result, lets=lets) if lets:
            return _rendered(("term ", signature_doc(name, formals, result)), indent)
        case _:
            return _rendered(_doc(item, columns), indent)


def _body(item: Declaration, indent: int) -> list[str]:
    """The lines of a declaration's block, if it has one."""
    match item:
        case syntax.Block(entries=inner) | syntax.Setting(items=inner):
            return _items(inner, indent)
        case syntax.Term(lets=lets) if lets:
            return print_body(item, indent)
        case _:
            return []


def print_body(item: syntax.Term, indent: int = 0) -> list[str]:
    """The lines of a term's block: its `let`s and its value."""
    return [*_items(item.lets, indent), *_rendered(expr_doc(item.body), indent)]


def _rendered(doc: Doc, indent: int) -> list[str]:
    return (" " * indent + render(doc, WIDTH, indent)).split("\n")


def _doc(item: Declaration, columns: _Columns) -> Doc:
    return _PRINTERS[type(item)](item, columns)


def _valued(head: Doc, sign: str, value: Expr) -> Doc:
    """`head = value`; what is broken at operators begins on a line of its own where it does not fit."""
    doc = expr_doc(value)
    if isinstance(value, (syntax.Binary, syntax.Compare, syntax.IfElse)):
        return Group((head, sign, Nest(2, (LINE, doc))))
    return head, sign, " ", doc


def _meta(item: syntax.Meta, columns: _Columns) -> Doc:
    if item.key in ("title", "cite"):
        return f"{item.key} {quoted(item.value)}"
    return f"{item.key} {item.value if item.key == 'objective' else _word(item.value)}"


def _word(text: str) -> str:
    """A bare word or whole number as it is, anything else in quotes."""
    bare = text.isascii() and (text.isdigit() or text.isidentifier()) and len(text) <= 40
    return text if bare and text not in RESERVED else quoted(text)


def _use(item: syntax.Use, columns: _Columns) -> Doc:
    return "use ", use_doc(item)


def use_doc(item: syntax.Use) -> Doc:
    """What follows the word `use`."""
    alias = f" as {item.alias}" if item.alias is not None else ""
    sharing: Doc = (" sharing ", enclosed("(", item.sharing, ")")) if item.sharing else ""
    names: Doc = (" ", enclosed("(", item.names, ")")) if item.names is not None else ""
    return quoted(item.path) if item.is_file else item.path, names, alias, sharing


def _axis(item: syntax.Axis, columns: _Columns) -> Doc:
    if item.positions is not None:
        return f"axis {item.name} = ", enclosed("{", item.positions, "}")
    return f"axis {item.name}" + (" : batch" if item.batch else "")


def _tensor(item: syntax.Tensor, columns: _Columns) -> Doc:
    return f"{item.role:{columns.word}} {item.name:{columns.name}} : ", type_doc(item.type)


def _param(item: syntax.Param, columns: _Columns) -> Doc:
    head = f"{item.role} {item.name:{columns.name}} : "
    if item.default is None:
        return head, type_doc(item.type)
    pad = " " * (columns.kind - len(print_type(item.type)))
    return _valued((head, type_doc(item.type), pad), " =", item.default)


def _state(item: syntax.State, columns: _Columns) -> Doc:
    head = f"state {item.name} : ", type_doc(item.type), " = ", expr_doc(item.initial)
    return Group((*head, Nest(2, (LINE, "then ", expr_doc(item.renewal)))))


def _let(item: syntax.Let, columns: _Columns) -> Doc:
    return _valued(f"let {item.name:{columns.name}}", " =", item.value)


def _entry(item: syntax.Entry, columns: _Columns) -> Doc:
    return _valued(f"{item.name:{columns.name}}", " :", item.value)


def _term(item: syntax.Term, columns: _Columns) -> Doc:
    return _valued(("term ", signature_doc(item.name, item.formals, item.result)), " =", item.body)


def _reduce(item: syntax.Reduce, columns: _Columns) -> Doc:
    return "reduce ", expr_doc(item.value)


def _constraint(item: syntax.Constraint, columns: _Columns) -> Doc:
    return _valued(f"subject to {constraint_head(item)}", " :", item.value)


def constraint_head(item: syntax.Constraint) -> str:
    per = f" per {item.per}" if item.per is not None else ""
    return item.name + per + (f" by {item.by}" if item.by is not None else "")


def _law(item: syntax.Law, columns: _Columns) -> Doc:
    return Group((f"law {quoted(item.title):{columns.name}} : ", law_doc(item)))


def law_doc(item: syntax.Law) -> Doc:
    """`claim for formals with lets`."""
    lets = Group(Nest(2, join((",", LINE), ((let.name, " = ", expr_doc(let.value)) for let in item.lets))))
    formals: Doc = (LINE, "for ", formals_doc(item.formals)) if item.formals else ""
    return expr_doc(item.claim), Nest(2, (formals, (LINE, "with ", lets) if item.lets else ""))


def _extern(item: syntax.Extern, columns: _Columns) -> Doc:
    head = "extern ", signature_doc(item.name, item.formals, item.result)
    return Group((*head, Nest(2, (LINE, f"from {quoted(item.target)}"))))


_PRINTERS: Final[dict[type[Declaration], Callable[..., Doc]]] = {
    syntax.Meta: _meta, syntax.Use: _use, syntax.Axis: _axis, syntax.Tensor: _tensor, syntax.Param: _param,
    syntax.State: _state, syntax.Let: _let, syntax.Entry: _entry, syntax.Term: _term, syntax.Reduce: _reduce,
    syntax.Constraint: _constraint, syntax.Law: _law, syntax.Extern: _extern,
}  # fmt: skip
