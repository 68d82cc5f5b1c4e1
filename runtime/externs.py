"""Python functions named in a spec: imported if the caller allows their module by name, and never otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, cast

from lossc.compiler.core import Call, Node, walk
from lossc.compiler.program import Program
from lossc.grammar.diagnostics import LosscError
from lossc.grammar.source import NOWHERE, Span
from lossc.runtime.functions import Interface
from lossc.runtime.messages import fail, problem

EXTERN = "extern:"
"""What the names of bound functions begin with that are imported."""


def externs(program: Program, allow: Collection[str]) -> dict[str, tuple[Interface, Callable[..., Any]]]:
    """Each function that the program calls, by its path after `extern:`.

    Raises LosscError where a module is not allowed.
    """
    found = dict(_declared(program))
    refused = [_refusal(target, interface.span) for target, interface in found.items() if not _allowed(target, allow)]
    if refused:
        raise LosscError(refused)
    return {f"{EXTERN}{target}": (interface, _imported(target, interface.span)) for target, interface in found.items()}


def _declared(program: Program) -> Iterator[tuple[str, Interface]]:
    for node in walk(*_roots(program)):
        if isinstance(node, Call) and node.function == "extern":
            name, target, result, parameters = cast("tuple[str, str, tuple[str, ...], Any]", node.options)
            orders = tuple(order for _, order in parameters)
            yield target, Interface(name, orders, result, program.spans.get(node, NOWHERE))


def _roots(program: Program) -> Iterator[Node]:
    yield from (entry.value for entry in (*program.terms, *program.monitors))
    yield from (constraint.value for constraint in program.constraints)
    yield from (state.renewal for state in program.states.values())


def _allowed(target: str, allow: Collection[str]) -> bool:
    """Whether the module or one of its parent packages is allowed."""
    module = target.partition(":")[0]
    names = (allow,) if isinstance(allow, str) else allow
    return any(module == name or module.startswith(f"{name}.") for name in names if name)


def _refusal(target: str, span: Span) -> Any:
    module = target.partition(":")[0]
    help_ = f'if you trust it: `lossc.load(…, allow=("{module}",))`, on the command line `--allow {module}`'
    return problem("E736", f"the spec asks for the Python function `{target}`", declared=span, help=help_)


def _imported(target: str, span: Span) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module), name, None)
    except Exception as failure:
        reason = f"{type(failure).__name__}: {failure}"
        raise fail("E736", f"the module `{module}` of `{target}` cannot be imported: {reason}", declared=span) from failure
    if not callable(function):
        raise fail("E736", f"the module `{module}` has no function `{name}`", declared=span)
    return cast("Callable[..., Any]", function)
