"""Building expressions and kinds: a function for each of their rules in `lossc.lark`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

from lossc.grammar import syntax
from lossc.grammar.diagnostics import error
from lossc.grammar.parts import (
    Group,
    MistakeError,
    Part,
    declared,
    group_of,
    names_of,
    nodes_of,
    span_of,
    unprimed,
)
from lossc.grammar.syntax import Expr
from lossc.grammar.tokens import NAME, string_value

# Kinds


def _kind(parts: list[Part]) -> syntax.Type:
    axes, within = group_of(parts, "axes"), group_of(parts, "within")
    return syntax.Type(
        unprimed(parts[0]), axes.parts if axes else None, within.parts[0] if within else None, span=span_of(parts)
    )


def _choices(parts: list[Part]) -> syntax.Type:
    return syntax.Type("choice", choices=names_of(parts), span=span_of(parts))


def _choice(parts: list[Part]) -> syntax.Type:
    return cast(syntax.Type, parts[0])


def _model(parts: list[Part]) -> syntax.Type:
    if parts[0].text != "model":
        message = f"`{parts[0].text}` is not followed by `(`; only `model(...) -> ...` is"
        help = f"axes are written in brackets: `{parts[0].text}[b, d]`"
        raise MistakeError(error("E015", message, parts[0].span, help=help))
    *parameters, result = nodes_of(parts, syntax.Type)
    return syntax.Type("model", parameters=tuple(parameters), result=result, span=span_of(parts))


def _axes(parts: list[Part]) -> Group:
    return Group("axes", span_of(parts), tuple(unprimed(part) for part in parts if part.kind == NAME))


def _within_name(parts: list[Part]) -> Group:
    return Group("within", span_of(parts), (unprimed(parts[1]),))


def _within_pattern(parts: list[Part]) -> Group:
    pattern = syntax.Pattern(string_value(parts[1].text), span=parts[1].span)
    return Group("within", span_of(parts), (pattern,))


def _within_call(parts: list[Part]) -> Group:
    return Group("within", span_of(parts), (_call([_name([parts[1]]), *parts[2:]]),))


def _within_bounds(parts: list[Part]) -> Group:
    return Group("within", span_of(parts), ((parts[2], parts[4]),))


# Expressions


def _number(parts: list[Part]) -> syntax.Number:
    return syntax.Number(parts[0].text, span=parts[0].span)


def _name(parts: list[Part]) -> syntax.Name:
    id = parts[0].text.rstrip("'")
    return syntax.Name(id, len(parts[0].text) - len(id), span=parts[0].span)


def _parentheses(parts: list[Part]) -> Expr:
    return cast(Expr, replace(parts[1], span=span_of(parts)))


def _unary(parts: list[Part]) -> syntax.Unary:
    return syntax.Unary(parts[0].text, parts[1], span=span_of(parts))


def _binary(parts: list[Part]) -> syntax.Binary:
    return syntax.Binary(parts[1].text, parts[0], parts[2], span=span_of(parts))


def _compare(parts: list[Part]) -> syntax.Compare:
    return syntax.Compare(tuple(op.text for op in parts[1::2]), tuple(parts[::2]), span=span_of(parts))


def _if_else(parts: list[Part]) -> syntax.IfElse:
    return syntax.IfElse(parts[0], parts[2], parts[4], span=span_of(parts))


def _call(parts: list[Part]) -> syntax.Call:
    function = parts[0]
    head = function.head if isinstance(function, syntax.Bracket) else function
    if not isinstance(head, syntax.Name):
        raise MistakeError(
            error("E015", "only a name can be called", function.span, label="this is not the name of a function",
                  help="for a product write `*` before the parenthesis")
        )  # fmt: skip
    return syntax.Call(function, nodes_of(parts, syntax.Argument), span=span_of(parts))


def _argument(parts: list[Part]) -> syntax.Argument:
    return syntax.Argument(parts[0], span=span_of(parts))


def _named_argument(parts: list[Part]) -> syntax.Argument:
    return syntax.Argument(parts[2], declared(parts[0]), span=span_of(parts))


def _arrow_argument(parts: list[Part]) -> syntax.Argument:
    return syntax.Argument(parts[0], None, parts[2], span=span_of(parts))


def _bracket(parts: list[Part]) -> syntax.Bracket:
    condition = group_of(parts, "condition")
    where = condition.parts[0] if condition else None
    return syntax.Bracket(parts[0], nodes_of(parts, syntax.Selector), where, span=span_of(parts))


def _condition(parts: list[Part]) -> Group:
    return Group("condition", span_of(parts), (parts[1],))


def _selector(form: Any) -> Callable[[list[Part]], syntax.Selector]:
    def build(parts: list[Part]) -> syntax.Selector:
        values = [*_values(parts[1:]), None, None]
        new = unprimed(parts[2]) if form == "rename" else None
        kind = parts[2] if form == "typed" else None
        return syntax.Selector(form, unprimed(parts[0]), values[0], values[1], new, kind, span=span_of(parts))

    return build


def _axis_constant(parts: list[Part]) -> syntax.AxisConstant:
    positions = [part for part in parts if isinstance(part, Group)]
    entries = tuple((group.parts[0], group.parts[1]) for group in positions)
    return syntax.AxisConstant(unprimed(parts[0]), entries, span=span_of(parts))


def _position(parts: list[Part]) -> Group:
    return Group("position", span_of(parts), (declared(parts[0]), parts[2]))


def _values(parts: list[Part]) -> list[Part]:
    """The parts that are expressions."""
    return [part for part in parts if isinstance(part, _EXPRESSIONS)]


_EXPRESSIONS: Final = (
    syntax.Number, syntax.Name, syntax.Unary, syntax.Binary, syntax.Compare, syntax.IfElse, syntax.Call, syntax.Bracket,
    syntax.AxisConstant,
)  # fmt: skip

EXPRESSION_BUILDERS: Final[dict[str, Callable[[list[Part]], Any]]] = {
    "kind": _kind, "choices": _choices, "choice": _choice, "model": _model, "axes": _axes, "within_name":
    _within_name, "within_pattern": _within_pattern, "within_call": _within_call, "within_bounds": _within_bounds,
    "number": _number, "name": _name, "parentheses": _parentheses, "unary": _unary, "binary": _binary, "compare":
    _compare, "if_else": _if_else, "call": _call, "argument": _argument, "named_argument": _named_argument,
    "arrow_argument": _arrow_argument, "bracket": _bracket, "condition": _condition, "select_axis":
    _selector("axis"), "select_at": _selector("at"), "select_slice": _selector("slice"), "select_rename":
    _selector("rename"), "select_by": _selector("by"), "select_typed": _selector("typed"), "select_range":
    _selector("range"), "axis_constant": _axis_constant, "position": _position,
}  # fmt: skip
"""For each rule of expressions and kinds, by its name in the grammar."""
