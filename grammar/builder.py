"""The syntax tree of one logical line: a function for each rule of `lossc.lark`, given what its parts were made to.

Rules about what was written that the tables cannot state (a declared name is plain, only a name can be called) raise a
`MistakeError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from lossc.grammar import syntax
from lossc.grammar.build_expressions import EXPRESSION_BUILDERS
from lossc.grammar.diagnostics import error
from lossc.grammar.docstring import docstring_value
from lossc.grammar.parts import (
    Group,
    MistakeError,
    Part,
    declared,
    group_of,
    is_word,
    names_of,
    nodes_of,
    only,
    span_of,
    unprimed,
)
from lossc.grammar.tokens import STRING, string_value


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


def _version(parts: list[Part]) -> Version:
    return Version(parts[1].text, span=span_of(parts))


def _about(parts: list[Part]) -> syntax.Meta:
    return syntax.Meta("about", docstring_value(string_value(parts[0].text)), span=span_of(parts))


def _objective(parts: list[Part]) -> syntax.Meta:
    return syntax.Meta("objective", declared(parts[1]), span=span_of(parts), name_span=parts[1].span)


def _quoted_meta(parts: list[Part]) -> syntax.Meta:
    return syntax.Meta(parts[0].text, string_value(parts[1].text), span=span_of(parts), name_span=parts[1].span)


def _word_meta(parts: list[Part]) -> syntax.Meta:
    value = string_value(parts[1].text) if parts[1].kind == STRING else parts[1].text
    return syntax.Meta(parts[0].text, value, span=span_of(parts), name_span=parts[1].span)


def _use(parts: list[Part]) -> syntax.Use:
    path, names, sharing = parts[1], group_of(parts, "names"), group_of(parts, "sharing")
    alias = group_of(parts, "alias")
    is_file = path.kind == STRING
    return syntax.Use(
        string_value(path.text) if is_file else unprimed(path),
        is_file,
        names.parts if names else None,
        alias.parts[0] if alias else None,
        sharing.parts if sharing else (),
        span=span_of(parts),
        name_span=path.span,
    )


def _use_names(parts: list[Part]) -> Group:
    return Group("names", span_of(parts), names_of(parts))


def _use_alias(parts: list[Part]) -> Group:
    return Group("alias", span_of(parts), (declared(parts[1]),))


def _use_sharing(parts: list[Part]) -> Group:
    return Group("sharing", span_of(parts), names_of(parts))


def _axis(parts: list[Part]) -> syntax.Axis:
    choices = only(parts, syntax.Type)
    batch = is_word(parts[-1], "batch") and len(parts) == 4
    positions = choices.choices if choices else None
    return syntax.Axis(declared(parts[1]), batch, positions, span=span_of(parts), name_span=parts[1].span)


def _tensor(parts: list[Part]) -> syntax.Tensor:
    return syntax.Tensor(parts[0].text, declared(parts[1]), parts[3], span=span_of(parts), name_span=parts[1].span)


def _param(parts: list[Part]) -> syntax.Param:
    default = parts[5] if len(parts) > 4 else None
    name = declared(parts[1])
    return syntax.Param(parts[0].text, name, parts[3], default, span=span_of(parts), name_span=parts[1].span)


def _state(parts: list[Part]) -> syntax.State:
    name = declared(parts[1])
    return syntax.State(name, parts[3], parts[5], parts[7], span=span_of(parts), name_span=parts[1].span)


def _let(parts: list[Part]) -> syntax.Let:
    return syntax.Let(declared(parts[1]), parts[3], span=span_of(parts), name_span=parts[1].span)


def _binding(parts: list[Part]) -> syntax.Let:
    return syntax.Let(declared(parts[0]), parts[2], span=span_of(parts), name_span=parts[0].span)


def _reduce(parts: list[Part]) -> syntax.Reduce:
    return syntax.Reduce(parts[1], span=span_of(parts), name_span=parts[0].span)


def _signature(parts: list[Part]) -> tuple[str, tuple[syntax.Formal, ...], syntax.Type | None]:
    formals = group_of(parts, "formals")
    return declared(parts[1]), formals.parts if formals else (), only(parts, syntax.Type)


def _term(parts: list[Part]) -> syntax.Term:
    name, formals, result = _signature(parts)
    return syntax.Term(name, formals, parts[-1], (), result, span=span_of(parts), name_span=parts[1].span)


def _extern(parts: list[Part]) -> syntax.Extern:
    name, formals, result = _signature(parts)
    if result is None:
        raise MistakeError(
            error("E016", f"the result of `{name}` has no kind", parts[1].span, help="write `-> real` before `from`")
        )
    target = string_value(parts[-1].text)
    return syntax.Extern(name, formals, result, target, span=span_of(parts), name_span=parts[1].span)


def _formals(parts: list[Part]) -> Group:
    return Group("formals", span_of(parts), nodes_of(parts, syntax.Formal))


def _formal(parts: list[Part]) -> syntax.Formal:
    default = parts[4] if len(parts) > 4 else None
    return syntax.Formal(declared(parts[0]), only(parts[:3], syntax.Type), default, span=span_of(parts))


def _from_name(parts: list[Part]) -> syntax.From:
    return syntax.From(unprimed(parts[1]), span=span_of(parts))


def _result(parts: list[Part]) -> syntax.Type:
    return cast(syntax.Type, parts[1])


def _constraint(parts: list[Part]) -> syntax.Constraint:
    per = group_of(parts, "per")
    axis, by = per.parts if per else (None, None)
    return syntax.Constraint(declared(parts[2]), parts[-1], axis, by, span=span_of(parts), name_span=parts[2].span)


def _per(parts: list[Part]) -> Group:
    return Group("per", span_of(parts), (unprimed(parts[1]), unprimed(parts[3]) if len(parts) > 2 else None))


def _law(parts: list[Part]) -> syntax.Law:
    formals, lets = group_of(parts, "for"), group_of(parts, "with")
    return syntax.Law(
        string_value(parts[1].text),
        parts[3],
        formals.parts if formals else (),
        lets.parts if lets else (),
        span=span_of(parts),
        name_span=parts[1].span,
    )


def _for_names(parts: list[Part]) -> Group:
    return Group("for", span_of(parts), nodes_of(parts, syntax.Formal))


def _with_names(parts: list[Part]) -> Group:
    return Group("with", span_of(parts), nodes_of(parts, syntax.Let))


def _block_header(parts: list[Part]) -> Header:
    return Header(parts[0].text, span=span_of(parts), name_span=parts[0].span)


def _setting_header(parts: list[Part]) -> Header:
    return Header("setting", declared(parts[1]), span=span_of(parts), name_span=parts[1].span)


def _term_header(parts: list[Part]) -> Header:
    name, formals, result = _signature(parts)
    return Header("term", name, formals, result, span=span_of(parts), name_span=parts[1].span)


def _entry(parts: list[Part]) -> syntax.Entry:
    return syntax.Entry(declared(parts[0]), parts[2], span=span_of(parts), name_span=parts[0].span)


BUILDERS: Final[dict[str, Callable[[list[Part]], Any]]] = {
    **EXPRESSION_BUILDERS,
    "version": _version, "about": _about, "objective": _objective, "quoted_meta": _quoted_meta, "word_meta":
    _word_meta, "use": _use, "use_names": _use_names, "use_alias": _use_alias, "use_sharing": _use_sharing, "axis":
    _axis, "tensor": _tensor, "param": _param, "state": _state, "let": _let, "binding": _binding, "reduce": _reduce,
    "term": _term, "extern": _extern, "formals": _formals, "formal": _formal, "from_name": _from_name, "result":
    _result, "constraint": _constraint, "per": _per, "law": _law, "for_names": _for_names, "with_names":
    _with_names, "block_header": _block_header, "setting_header": _setting_header, "term_header": _term_header,
    "entry": _entry,
}  # fmt: skip
"""For each rule of the grammar that is built, by its name there."""
