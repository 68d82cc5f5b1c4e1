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
    lines = _items(file.items, 0)
    lines += (
        comment_lines(file.comments, 0) if lines else comment_lines(file.comments, 0)[_starts_blank(file.comments) :]
    )
    return "".join(line + "\n" for line in lines)


def comment_lines(comments: Sequence[str], indent: int) -> list[str]:
    return ["" if text == BLANK else " " * indent + comment(text) for text in comments]


def comment(text: str) -> str:
    return "#" + (" " if text and text[0] not in "#!" else "") + text


def _starts_blank(comments: Sequence[str]) -> bool:
    return comments[:1] == (BLANK,)


# Lines of a block or file


def _items(items: Sequence[Declaration], indent: int) -> list[str]:
    """All lines of some declarations."""
    printed = [_lines(item, columns, indent) for item, columns in zip(items, _columns(items), strict=True)]
    _align_comments(items, printed)
    lines: list[str] = []
    for index, (item, own) in enumerate(zip(items, printed, strict=True)):
        above = comment_lines(item.comments, indent)[_starts_blank(item.comments) :]
        if index and _blank_between(items[index - 1], item):
            lines.append("")
        lines += above + own
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


def _align_comments(items: Sequence[Declaration], printed: list[list[str]]) -> None:
    """Puts the comments behind declarations at one column for each run of adjoining single lines."""
    run: list[int] = []
    for index, item in enumerate(items):
        if run and (_starts_new_run(item) or len(printed[index]) > 1 or items[index - 1].trailing is None):
            _append_comments(items, printed, run)
            run = []
        run.append(index)
    _append_comments(items, printed, run)


def _starts_new_run(item: Declaration) -> bool:
    return bool(item.comments) or _is_block(item)


def _append_comments(items: Sequence[Declaration], printed: list[list[str]], run: list[int]) -> None:
    commented = [index for index in run if items[index].trailing is not None]
    column = max((len(_commented_line(items[index], printed[index])) for index in commented), default=0)
    for index in commented:
        at = 0 if _is_block(items[index]) else -1
        printed[index][at] = printed[index][at].ljust(column) + "  " + comment(items[index].trailing or "")


def _commented_line(item: Declaration, lines: list[str]) -> str:
    return lines[0] if _is_block(item) else lines[-1]


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
        if run and (_alignment(item) != _alignment(run[-1]) or item.comments):
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


def _lines(item: Declaration, columns: _Columns, indent: int) -> list[str]:
    match item:
        case syntax.Meta(key="about", value=value):
            return quoted_block(value).split("\n")
        case syntax.Block(role=role, entries=entries):
            return [" " * indent + role, *_items(entries, indent + 2)]
        case syntax.Setting(name=name, items=items):
            return [" " * indent + f"setting {name}", *_items(items, indent + 2)]
        case syntax.Term(name=name, formals=formals, result=result, lets=lets) if lets:
            header = _rendered(("term ", signature_doc(name, formals, result)), indent)
            return [*header, *print_body(item, indent + 2)]
        case _:
            return _rendered(_doc(item, columns), indent)


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
    return f"{item.key} {_word(item.value)}"


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
