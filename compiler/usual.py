"""The usual reduction of a value: the `reduce` of its setting, over the axes that the value has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lossc.compiler.resolve import with_names
from lossc.compiler.symbols import Frame, ValueSymbol
from lossc.compiler.values import Value
from lossc.grammar.syntax import Bracket, Reduce


def usual_reduction(value: Value, reduces: Iterable[tuple[Reduce, Frame]], top: Frame) -> Bracket | None:
    """`mean[b, t where mask]` for a value with the axes b and t, `mean[b]` for one that has only b, under a prefix
    `mean[forget.b]`; None where no setting reduces all its axes.
    """
    for declared, frame in reduces:
        if not isinstance(declared.value, Bracket):
            continue
        axes = {selector.name: frame.axes[selector.name].name for selector in declared.value.selectors
                if selector.name in frame.axes}  # fmt: skip
        if value.axes and value.axes <= set(axes.values()):
            kept = tuple(s for s in declared.value.selectors if axes.get(s.name) in value.axes)
            where = declared.value.where if len(kept) == len(declared.value.selectors) else None
            return _written_at(top, frame, replace(declared.value, selectors=kept, where=where))
    return None


def _written_at(top: Frame, home: Frame, bracket: Bracket) -> Bracket:
    """The bracket with the names that its axes and values have in the file."""
    axes = {symbol.name: written for written, symbol in reversed(top.axes.items())}
    values = {symbol: written for written, symbol in reversed(top.values.items()) if isinstance(symbol, ValueSymbol)}
    names = {
        name: values[symbol] for name, symbol in home.values.items()
        if isinstance(symbol, ValueSymbol) and symbol in values
    }  # fmt: skip
    selectors = tuple(
        replace(selector, name=axes.get(home.axes[selector.name].name, selector.name)) for selector in bracket.selectors
    )
    return replace(with_names(bracket, names), selectors=selectors)
