"""Hypothesis strategies that make syntax trees: everything that can be written, at small size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from lossc.grammar import syntax
from lossc.grammar.docstring import dedented
from lossc.grammar.syntax import BLANK, SECTIONS, Expr
from lossc.grammar.tokens import DECLARATIONS, RESERVED

_ALPHABET = "abxyzβγΔé_A09"
_KEYWORDS = sorted(
    {*DECLARATIONS, "batch", "then", "from", "as", "sharing", "to", "per", "with", "model", "choice", "lambda"}
)

names = st.one_of(
    st.sampled_from(["x", "y", "logits", "exp", *_KEYWORDS]),
    st.text(_ALPHABET, min_size=1, max_size=5).filter(lambda text: text.isidentifier() and text not in RESERVED),
)
dotted = st.one_of(names, st.lists(names, min_size=2, max_size=3).map(".".join))
texts = st.text(
    st.one_of(st.sampled_from(list("ab :#'\"\\-{}[],\n\t|>&*!%@é∞")), st.characters(codec="utf-8")), max_size=12
)
prose = st.lists(texts, max_size=4).map("\n".join).map(dedented)
numbers = st.one_of(
    st.integers(0, 999).map(str),
    st.sampled_from(["0.1", "1e-4", "12.50", "3E+10", "007", "1e400"]),
)
comment_texts = st.one_of(
    st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=10).map(lambda text: text.strip()),
    st.sampled_from(["", "# title", "!shebang", "key: value", '"""']),
)


def _some(strategy: SearchStrategy[Any], least: int = 0, most: int = 3) -> SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, min_size=least, max_size=most).map(tuple)


def _maybe(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


# expressions

_leaves = st.one_of(numbers.map(syntax.Number), st.builds(syntax.Name, dotted, st.integers(0, 2)))


def _larger(inner: SearchStrategy[Expr]) -> SearchStrategy[Expr]:
    called = st.one_of(
        st.builds(syntax.Name, dotted, st.integers(0, 1)),
        st.builds(syntax.Bracket, st.builds(syntax.Name, dotted), _some(_selectors(inner), 1), _maybe(inner)),
    )
    return st.one_of(
        st.builds(syntax.Unary, st.sampled_from(["-", "+", "not"]), inner),
        st.builds(syntax.Binary, st.sampled_from(["+", "-", "*", "/", "^", "and", "or"]), inner, inner),
        st.lists(inner, min_size=2, max_size=3).flatmap(_comparison),
        st.builds(syntax.IfElse, inner, inner, inner),
        st.builds(syntax.Call, called, _some(_arguments(inner))),
        st.builds(syntax.Bracket, inner, _some(_selectors(inner), 1), _maybe(inner)),
        st.builds(syntax.AxisConstant, dotted, _some(st.tuples(names, inner), 1)),
    )


def _comparison(operands: list[Expr]) -> SearchStrategy[Expr]:
    ops = st.tuples(*[st.sampled_from(["<", "<=", ">", ">=", "==", "!="])] * (len(operands) - 1))
    return ops.map(lambda chosen: syntax.Compare(chosen, tuple(operands)))


def _arguments(inner: SearchStrategy[Expr]) -> SearchStrategy[syntax.Argument]:
    return st.one_of(
        st.builds(syntax.Argument, inner),
        st.builds(syntax.Argument, inner, names),
        st.builds(syntax.Argument, inner, st.none(), inner),
    )


def _selectors(inner: SearchStrategy[Expr]) -> SearchStrategy[syntax.Selector]:
    make: Callable[..., SearchStrategy[syntax.Selector]] = st.builds
    none = st.none()
    return st.one_of(
        make(syntax.Selector, st.just("axis"), dotted),
        make(syntax.Selector, st.just("at"), dotted, inner),
        make(syntax.Selector, st.just("slice"), dotted, inner, inner),
        make(syntax.Selector, st.just("rename"), dotted, none, none, dotted),
        make(syntax.Selector, st.just("rename"), dotted, inner, none, dotted),
        make(syntax.Selector, st.just("rename"), dotted, inner, inner, dotted),
        make(syntax.Selector, st.just("by"), dotted, inner),
        make(syntax.Selector, st.just("typed"), dotted, none, none, none, _types(inner)),
        make(syntax.Selector, st.just("range"), dotted, inner, inner),
    )


def _types(inner: SearchStrategy[Expr]) -> SearchStrategy[syntax.Type]:
    within = st.one_of(
        st.none(),
        dotted,
        st.tuples(inner, inner),
        st.builds(syntax.Call, st.builds(syntax.Name, dotted), _some(_arguments(inner), 0, 2)),
        texts.map(syntax.Pattern),
    )
    kind = st.builds(syntax.Type, names.filter(lambda name: name != "choice"), _maybe(_some(dotted, 1)), within)
    choice = st.builds(syntax.Type, st.just("choice"), choices=_some(names, 1))
    model = st.builds(syntax.Type, st.just("model"), parameters=_some(kind, 0, 2), result=kind)
    return st.one_of(kind, choice, model)


expressions: SearchStrategy[Expr] = st.recursive(_leaves, _larger, max_leaves=8)
small = st.recursive(_leaves, _larger, max_leaves=3)
types = _types(small)


# declarations

_commented: dict[str, Any] = {
    "comments": st.lists(st.one_of(st.just(BLANK), comment_texts), max_size=2).map(tuple),
    "trailing": _maybe(comment_texts),
}


def _declared(kind: type[Any], *parts: SearchStrategy[Any], **named: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.builds(kind, *parts, **named, **_commented)


_formals = _some(st.builds(syntax.Formal, names, types, st.one_of(st.none(), small, st.builds(syntax.From, dotted))))
_law_formals = _some(st.builds(syntax.Formal, names, _maybe(types)))
lets = _declared(syntax.Let, names, expressions)
_plain_lets = _some(st.builds(syntax.Let, names, small), 0, 2)
uses = st.one_of(
    _declared(syntax.Use, dotted, st.just(False), _maybe(_some(names, 1)), _maybe(names), _some(names, 0, 2)),
    _declared(syntax.Use, texts, st.just(True), _maybe(_some(names, 1)), _maybe(names), _some(names, 0, 2)),
)
axes = st.one_of(
    _declared(syntax.Axis, names, st.booleans()),
    _declared(syntax.Axis, names, st.just(False), _some(names, 1)),
)
tensors = _declared(syntax.Tensor, st.sampled_from(["input", "data"]), names, types)
params = _declared(syntax.Param, st.sampled_from(["param", "learn"]), names, types, _maybe(expressions))
states = _declared(syntax.State, names, types, small, small)
reduces = _declared(syntax.Reduce, expressions)


def _distinct(items: list[Any]) -> list[Any]:
    """Only one declaration for each key of the YAML surface, and one of each kind that a file has once."""
    seen: set[tuple[str, str]] = set()
    kept: list[Any] = []
    for item in items:
        once = isinstance(item, (syntax.Meta, syntax.Reduce))
        name = "" if once else str(getattr(item, "title", getattr(item, "name", id(item))))
        key = (syntax.section(item), name)
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def _unique_entries(entries: list[syntax.Entry]) -> tuple[syntax.Entry, ...]:
    return tuple({entry.name: entry for entry in entries}.values())


settings = _declared(
    syntax.Setting,
    names,
    st.lists(st.one_of(uses, axes, tensors, params, states, lets, reduces), min_size=1, max_size=5)
    .map(_distinct)
    .map(tuple),
)
entries = st.lists(_declared(syntax.Entry, names, expressions), min_size=1, max_size=3).map(_unique_entries)


def _blocks(roles: tuple[str, ...]) -> list[SearchStrategy[Any]]:
    return [_declared(syntax.Block, st.just(role), entries) for role in roles]


metas = st.one_of(
    _declared(syntax.Meta, st.just("objective"), names),
    _declared(syntax.Meta, st.sampled_from(["title", "cite", "certainty", "id"]), texts),
    _declared(syntax.Meta, st.just("about"), prose),
)
terms = st.one_of(
    _declared(syntax.Term, names, _formals, expressions, st.just(()), _maybe(types)),
    _declared(syntax.Term, names, _formals, expressions, _some(lets, 1, 2), _maybe(types)),
)
constraints = st.one_of(
    _declared(syntax.Constraint, names, expressions),
    _declared(syntax.Constraint, names, expressions, dotted, _maybe(dotted)),
)
laws = _declared(syntax.Law, texts, expressions, _law_formals, _plain_lets)
externs = _declared(syntax.Extern, names, _formals, types, texts)
items = st.one_of(
    metas, uses, axes, tensors, params, states, lets, terms, reduces, settings, constraints, laws, externs,
    *_blocks(("minimize", "maximize", "monitor")),
)  # fmt: skip


def _one_block_each(found: list[Any]) -> list[Any]:
    """Two blocks of one role would be joined, and their entries may share a name."""
    roles: set[str] = set()
    return [
        item
        for item in found
        if not isinstance(item, syntax.Block) or not (item.role in roles or roles.add(item.role))  # type: ignore[func-returns-value]
    ]


files = st.builds(
    syntax.File,
    st.lists(items, max_size=6).map(_distinct).map(_one_block_each).map(tuple),
    comments=_commented["comments"],
)

assert set(SECTIONS) >= {"objective", "extern"}
