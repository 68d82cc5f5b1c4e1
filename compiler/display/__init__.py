"""Objectives as mathematics: Unicode for a terminal, LaTeX for a page.

What is printed is the syntax tree, the text of the spec itself. A core graph is printed by way of the expression that it
stands for, which shows a term with everything that it is made of expanded.
"""

from __future__ import annotations

from collections.abc import Mapping

from lossc.compiler.core import Node
from lossc.compiler.display.expression import core_expression
from lossc.compiler.display.latex import Latex
from lossc.compiler.display.plain import Plain
from lossc.compiler.display.walker import Walker
from lossc.grammar.syntax import Expr

__all__ = ["core_expression", "core_text", "latex", "unicode"]

Shown = Expr | Node


def latex(shown: Shown, positions: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """An expression, or a core graph, as LaTeX without delimiters."""
    return Walker(Latex()).text(_expression(shown, positions))


def unicode(shown: Shown, positions: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """An expression, or a core graph, as one line of Unicode mathematics."""
    return Walker(Plain()).text(_expression(shown, positions))


def core_text(node: Node, positions: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """A core graph in the language itself; `positions` names the entries of axes."""
    from lossc.grammar.printer import print_expr

    return print_expr(core_expression(node, positions or {}))


def _expression(shown: Shown, positions: Mapping[str, tuple[str, ...]] | None) -> Expr:
    return core_expression(shown, positions or {}) if isinstance(shown, Node) else shown
