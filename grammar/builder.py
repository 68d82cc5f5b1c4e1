"""The syntax tree of one logical line: a function for each rule of `lossc.lark`, given what its parts were made to.

A part is a `Token`, a node, or what another function here returned. Rules about what was written that the tables
cannot state (a declared name is plain, only a name can be called) raise a `MistakeError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from lossc.grammar import syntax
from lossc.grammar.diagnostics import Diagnostic, error
from lossc.grammar.docstring import docstring_value
from lossc.grammar.source import Span
from lossc.grammar.syntax import Expr, Node
from lossc.grammar.tokens import NAME, NUMBER, SIGN, STRING, Token, string_value

Part = Any
N = TypeVar("N", bound=Node)


class MistakeError(Exception):
    """What was written has the right form and cannot mean anything all the same."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass(frozen=True)
class Version(syntax.Declaration):
    """`lossc 1`; becomes a field of the file."""

    number: str


@dataclass(frozen=True)
class Header(syntax.Declaration):
    """The first line of a block: `minimize`, `setting name`, or `term name(formals) -> result`."""

    word: str
    name: str = ""
    formals: tuple[syntax.Formal, ...] = ()
    result: syntax.Type | None = None


@dataclass(frozen=True)
class _Group:
    """A part of a declaration that is no node: `sharing (a, b)`, `per b by id`, the formals of a signature."""

    kind: str
    span: Span
    parts: tuple[Any, ...]


def _span(parts: list[Part]) -> Span:
    return cast(Span, parts[0].span.to(parts[-1].span))


def _names(parts: list[Part]) -> tuple[str, ...]:
    """The names of a list, its first part (a keyword or bracket) left out."""
    return tuple(part.text for part in parts[1:] if part.kind == NAME)


def _is(part: Part, *words: str) -> bool:
    return isinstance(part, Token) and part.kind in (NAME, SIGN) and part.text in words


def _nodes(parts: list[Part], kind: type[N]) -> tuple[N, ...]:
    return tuple(part for part in parts if isinstance(part, kind))


def _only(parts: list[Part], kind: type[N]) -> N | None:
    return next(iter(_nodes(parts, kind)), None)


def _group(parts: list[Part], kind: str) -> _Group | None:
    return next((part for part in parts if isinstance(part, _Group) and part.kind == kind), None)


def _values(parts: list[Part]) -> list[Part]:
    """The parts that are expressions."""
    return [part for part in parts if isinstance(part, _EXPRESSIONS)]


def _declared(token: Token) -> str:
    """A name that is being declared: one word without dots or primes."""
    if "." in token.text or "'" in token.text:
        what = "a dot" if "." in token.text else "a prime"
        raise MistakeError(
            error("E017", f"`{token.text}` is declared here, and a declared name has no dot and no prime",
                  token.span, label=f"{what} here", help=_plain_name(token.text))
        )  # fmt: skip
    return token.text


def _plain_name(text: str) -> str:
    return f"write `{text.replace('.', '_').replace(chr(39), '_prime')}`"


def _unprimed(token: Token) -> str:
    """A name that is used where a derivative cannot stand; it may be dotted."""
    if "'" in token.text:
        help = f"write `{token.text.rstrip(chr(39))}`"
        raise MistakeError(error("E017", "only a term has a derivative", token.span, help=help))
    return token.text


# Declarations


def _version(parts: list[Part]) -> Version:
    return Version(parts[1].text, span=_span(parts))


def _about(parts: list[Part]) -> syntax.Meta:
    return syntax.Meta("about", docstring_value(string_value(parts[0].text)), span=_span(parts))


def _objective(parts: list[Part]) -> syntax.Meta:
    return syntax.Meta("objective", _declared(parts[1]), span=_span(parts), name_span=parts[1].span)


def _quoted_meta(parts: list[Part]) -> syntax.Meta:
    return syntax.Meta(parts[0].text, string_value(parts[1].text), span=_span(parts), name_span=parts[1].span)


def _word_meta(parts: list[Part]) -> syntax.Meta:
    value = string_value(parts[1].text) if parts[1].kind == STRING else parts[1].text
    return syntax.Meta(parts[0].text, value, span=_span(parts), name_span=parts[1].span)


def _use(parts: list[Part]) -> syntax.Use:
    path, names, sharing = parts[1], _group(parts, "names"), _group(parts, "sharing")
    alias = _group(parts, "alias")
    is_file = path.kind == STRING
    return syntax.Use(
        string_value(path.text) if is_file else _unprimed(path),
        is_file,
        names.parts if names else None,
        alias.parts[0] if alias else None,
        sharing.parts if sharing else (),
        span=_span(parts),
        name_span=path.span,
    )


def _use_names(parts: list[Part]) -> _Group:
    return _Group("names", _span(parts), _names(parts))


def _use_alias(parts: list[Part]) -> _Group:
    return _Group("alias", _span(parts), (_declared(parts[1]),))


def _use_sharing(parts: list[Part]) -> _Group:
    return _Group("sharing", _span(parts), _names(parts))


def _axis(parts: list[Part]) -> syntax.Axis:
    choices = _only(parts, syntax.Type)
    batch = _is(parts[-1], "batch") and len(parts) == 4
    positions = choices.choices if choices else None
    return syntax.Axis(_declared(parts[1]), batch, positions, span=_span(parts), name_span=parts[1].span)


def _tensor(parts: list[Part]) -> syntax.Tensor:
    return syntax.Tensor(parts[0].text, _declared(parts[1]), parts[3], span=_span(parts), name_span=parts[1].span)


def _param(parts: list[Part]) -> syntax.Param:
    default = parts[5] if len(parts) > 4 else None
    name = _declared(parts[1])
    return syntax.Param(parts[0].text, name, parts[3], default, span=_span(parts), name_span=parts[1].span)


def _state(parts: list[Part]) -> syntax.State:
    name = _declared(parts[1])
    return syntax.State(name, parts[3], parts[5], parts[7], span=_span(parts), name_span=parts[1].span)


def _let(parts: list[Part]) -> syntax.Let:
    return syntax.Let(_declared(parts[1]), parts[3], span=_span(parts), name_span=parts[1].span)


def _binding(parts: list[Part]) -> syntax.Let:
    return syntax.Let(_declared(parts[0]), parts[2], span=_span(parts), name_span=parts[0].span)


def _reduce(parts: list[Part]) -> syntax.Reduce:
    return syntax.Reduce(parts[1], span=_span(parts), name_span=parts[0].span)


def _signature(parts: list[Part]) -> tuple[str, tuple[syntax.Formal, ...], syntax.Type | None]:
    formals = _group(parts, "formals")
    return _declared(parts[1]), formals.parts if formals else (), _only(parts, syntax.Type)


def _term(parts: list[Part]) -> syntax.Term:
    name, formals, result = _signature(parts)
    return syntax.Term(name, formals, parts[-1], (), result, span=_span(parts), name_span=parts[1].span)


def _extern(parts: list[Part]) -> syntax.Extern:
    name, formals, result = _signature(parts)
    if result is None:
        raise MistakeError(
            error("E016", f"the result of `{name}` has no kind", parts[1].span, help="write `-> real` before `from`")
        )
    target = string_value(parts[-1].text)
    return syntax.Extern(name, formals, result, target, span=_span(parts), name_span=parts[1].span)


def _formals(parts: list[Part]) -> _Group:
    return _Group("formals", _span(parts), _nodes(parts, syntax.Formal))


def _formal(parts: list[Part]) -> syntax.Formal:
    default = parts[4] if len(parts) > 4 else None
    return syntax.Formal(_declared(parts[0]), _only(parts[:3], syntax.Type), default, span=_span(parts))


def _from_name(parts: list[Part]) -> syntax.From:
    return syntax.From(_unprimed(parts[1]), span=_span(parts))


def _result(parts: list[Part]) -> syntax.Type:
    return cast(syntax.Type, parts[1])


def _constraint(parts: list[Part]) -> syntax.Constraint:
    per = _group(parts, "per")
    axis, by = per.parts if per else (None, None)
    return syntax.Constraint(_declared(parts[2]), parts[-1], axis, by, span=_span(parts), name_span=parts[2].span)


def _per(parts: list[Part]) -> _Group:
    return _Group("per", _span(parts), (_unprimed(parts[1]), _unprimed(parts[3]) if len(parts) > 2 else None))


def _law(parts: list[Part]) -> syntax.Law:
    formals, lets = _group(parts, "for"), _group(parts, "with")
    return syntax.Law(
        string_value(parts[1].text),
        parts[3],
        formals.parts if formals else (),
        lets.parts if lets else (),
        span=_span(parts),
        name_span=parts[1].span,
    )


def _for_names(parts: list[Part]) -> _Group:
    return _Group("for", _span(parts), _nodes(parts, syntax.Formal))


def _with_names(parts: list[Part]) -> _Group:
    return _Group("with", _span(parts), _nodes(parts, syntax.Let))


def _block_header(parts: list[Part]) -> Header:
    return Header(parts[0].text, span=_span(parts), name_span=parts[0].span)


def _setting_header(parts: list[Part]) -> Header:
    return Header("setting", _declared(parts[1]), span=_span(parts), name_span=parts[1].span)


def _term_header(parts: list[Part]) -> Header:
    name, formals, result = _signature(parts)
    return Header("term", name, formals, result, span=_span(parts), name_span=parts[1].span)


def _entry(parts: list[Part]) -> syntax.Entry:
    return syntax.Entry(_declared(parts[0]), parts[2], span=_span(parts), name_span=parts[0].span)


# Kinds


def _kind(parts: list[Part]) -> syntax.Type:
    axes, within = _group(parts, "axes"), _group(parts, "within")
    return syntax.Type(
        _unprimed(parts[0]), axes.parts if axes else None, within.parts[0] if within else None, span=_span(parts)
    )


def _choices(parts: list[Part]) -> syntax.Type:
    choices = tuple(_declared(part) for part in parts if part.kind in (NAME, NUMBER) and not _is(part, "{"))
    return syntax.Type("choice", choices=choices, span=_span(parts))


def _choice(parts: list[Part]) -> syntax.Type:
    return cast(syntax.Type, parts[0])


def _model(parts: list[Part]) -> syntax.Type:
    if parts[0].text != "model":
        message = f"`{parts[0].text}` is not followed by `(`; only `model(...) -> ...` is"
        help = f"axes are written in brackets: `{parts[0].text}[b, d]`"
        raise MistakeError(error("E015", message, parts[0].span, help=help))
    *parameters, result = _nodes(parts, syntax.Type)
    return syntax.Type("model", parameters=tuple(parameters), result=result, span=_span(parts))


def _axes(parts: list[Part]) -> _Group:
    return _Group("axes", _span(parts), tuple(_unprimed(part) for part in parts if part.kind == NAME))


def _within_name(parts: list[Part]) -> _Group:
    return _Group("within", _span(parts), (_unprimed(parts[1]),))


def _within_pattern(parts: list[Part]) -> _Group:
    pattern = syntax.Pattern(string_value(parts[1].text), span=parts[1].span)
    return _Group("within", _span(parts), (pattern,))


def _within_call(parts: list[Part]) -> _Group:
    return _Group("within", _span(parts), (_call([_name([parts[1]]), *parts[2:]]),))


def _within_bounds(parts: list[Part]) -> _Group:
    return _Group("within", _span(parts), ((parts[2], parts[4]),))


# Expressions


def _number(parts: list[Part]) -> syntax.Number:
    return syntax.Number(parts[0].text, span=parts[0].span)


def _name(parts: list[Part]) -> syntax.Name:
    id = parts[0].text.rstrip("'")
    return syntax.Name(id, len(parts[0].text) - len(id), span=parts[0].span)


def _parentheses(parts: list[Part]) -> Expr:
    return cast(Expr, replace(parts[1], span=_span(parts)))


def _unary(parts: list[Part]) -> syntax.Unary:
    return syntax.Unary(parts[0].text, parts[1], span=_span(parts))


def _binary(parts: list[Part]) -> syntax.Binary:
    return syntax.Binary(parts[1].text, parts[0], parts[2], span=_span(parts))


def _compare(parts: list[Part]) -> syntax.Compare:
    return syntax.Compare(tuple(op.text for op in parts[1::2]), tuple(parts[::2]), span=_span(parts))


def _if_else(parts: list[Part]) -> syntax.IfElse:
    return syntax.IfElse(parts[0], parts[2], parts[4], span=_span(parts))


def _call(parts: list[Part]) -> syntax.Call:
    function = parts[0]
    head = function.head if isinstance(function, syntax.Bracket) else function
    if not isinstance(head, syntax.Name):
        raise MistakeError(
            error("E015", "only a name can be called", function.span, label="this is not the name of a function",
                  help="for a product write `*` before the parenthesis")
        )  # fmt: skip
    return syntax.Call(function, _nodes(parts, syntax.Argument), span=_span(parts))


def _argument(parts: list[Part]) -> syntax.Argument:
    return syntax.Argument(parts[0], span=_span(parts))


def _named_argument(parts: list[Part]) -> syntax.Argument:
    return syntax.Argument(parts[2], _declared(parts[0]), span=_span(parts))


def _arrow_argument(parts: list[Part]) -> syntax.Argument:
    return syntax.Argument(parts[0], None, parts[2], span=_span(parts))


def _bracket(parts: list[Part]) -> syntax.Bracket:
    condition = _group(parts, "condition")
    where = condition.parts[0] if condition else None
    return syntax.Bracket(parts[0], _nodes(parts, syntax.Selector), where, span=_span(parts))


def _condition(parts: list[Part]) -> _Group:
    return _Group("condition", _span(parts), (parts[1],))


def _selector(form: Any) -> Callable[[list[Part]], syntax.Selector]:
    def build(parts: list[Part]) -> syntax.Selector:
        values = [*_values(parts[1:]), None, None]
        new = _unprimed(parts[2]) if form == "rename" else None
        kind = parts[2] if form == "typed" else None
        return syntax.Selector(form, _unprimed(parts[0]), values[0], values[1], new, kind, span=_span(parts))

    return build


def _axis_constant(parts: list[Part]) -> syntax.AxisConstant:
    positions = [part for part in parts if isinstance(part, _Group)]
    entries = tuple((group.parts[0], group.parts[1]) for group in positions)
    return syntax.AxisConstant(_unprimed(parts[0]), entries, span=_span(parts))


def _position(parts: list[Part]) -> _Group:
    return _Group("position", _span(parts), (_declared(parts[0]), parts[2]))


_EXPRESSIONS: Final = (
    syntax.Number, syntax.Name, syntax.Unary, syntax.Binary, syntax.Compare, syntax.IfElse, syntax.Call, syntax.Bracket,
    syntax.AxisConstant,
)  # fmt: skip

BUILDERS: Final[dict[str, Callable[[list[Part]], Any]]] = {
    "version": _version, "about": _about, "objective": _objective, "quoted_meta": _quoted_meta, "word_meta": _word_meta,
    "use": _use, "use_names": _use_names, "use_alias": _use_alias, "use_sharing": _use_sharing, "axis": _axis,
    "tensor": _tensor, "param": _param, "state": _state, "let": _let, "binding": _binding, "reduce": _reduce,
    "term": _term, "extern": _extern, "formals": _formals, "formal": _formal, "from_name": _from_name,
    "result": _result, "constraint": _constraint, "per": _per, "law": _law, "for_names": _for_names,
    "with_names": _with_names, "block_header": _block_header, "setting_header": _setting_header,
    "term_header": _term_header, "entry": _entry, "kind": _kind, "choices": _choices, "choice": _choice,
    "model": _model, "axes": _axes, "within_name": _within_name, "within_pattern": _within_pattern,
    "within_call": _within_call, "within_bounds": _within_bounds, "number": _number, "name": _name,
    "parentheses": _parentheses, "unary": _unary, "binary": _binary, "compare": _compare, "if_else": _if_else,
    "call": _call, "argument": _argument, "named_argument": _named_argument, "arrow_argument": _arrow_argument,
    "bracket": _bracket, "condition": _condition, "select_axis": _selector("axis"), "select_at": _selector("at"),
    "select_slice": _selector("slice"), "select_rename": _selector("rename"), "select_by": _selector("by"),
    "select_typed": _selector("typed"), "select_range": _selector("range"), "axis_constant": _axis_constant,
    "position": _position,
}  # fmt: skip
"""For each rule of the grammar that is built, by its name there."""
