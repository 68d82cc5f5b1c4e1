"""What is allowed and probably not meant: unused names, shadowed functions, sums over nothing that count as 0, no batch."""

from __future__ import annotations

from collections.abc import Iterator

from lossc.compiler.builtins import BUILT_IN
from lossc.compiler.core import ZERO, differentiable
from lossc.compiler.elaborate.context import Context
from lossc.compiler.gather import Gathered
from lossc.compiler.mentions import syntax_nodes
from lossc.compiler.program import Program
from lossc.compiler.symbols import ValueSymbol
from lossc.grammar import syntax
from lossc.grammar.diagnostics import Diagnostic, warning
from lossc.grammar.printer import print_expr

_WORDS = {"Tensor": "tensor", "Param": "parameter", "State": "state", "Let": "let"}


def lint(ctx: Context, file: syntax.File, gathered: Gathered, *, objective: bool) -> None:
    """The warnings of a file without errors; in a file of terms and settings nothing is unused."""
    _shadowed_functions(ctx)
    _empty_sums(ctx, file)
    if objective:
        read = {node.id for node in syntax_nodes(file.items) if isinstance(node, syntax.Name)}
        _unused_values(ctx)
        _unread_states(ctx, file)
        _unused_axes(ctx, file)
        _unused_terms(ctx, gathered, read)
        _no_batch(ctx, file)


def still(program: Program) -> Iterator[Diagnostic]:
    """Terms that move nothing: no gradient leaves them, as when they are made of comparisons or of data alone.

    Beside constraints, `0` says that any point which satisfies them will do.
    """
    trained = any(info.role == "input" for info in program.tensors.values()) or any(
        info.role == "learn" for info in program.params.values()
    )
    for term in program.terms if trained else ():
        feasibility = bool(program.constraints) and term.value is ZERO
        if not feasibility and not differentiable(term.value):
            yield warning("W303", f"the term `{term.name}` has no gradient: it changes the loss and moves nothing", term.span,
                          help="report it under `monitor`, or write it in what is trained")  # fmt: skip


def _own_values(ctx: Context) -> Iterator[tuple[str, ValueSymbol]]:
    for name, symbol in ctx.frame.values.items():
        if isinstance(symbol, ValueSymbol) and symbol.own:
            yield name, symbol


def _shadowed_functions(ctx: Context) -> None:
    for name, symbol in _own_values(ctx):
        if name in BUILT_IN or name in ctx.frame.terms:
            ctx.warn("W102", f"`{name}` is also a function: `{name}(…)` calls that, `{name}` is this value", symbol.span,
                     help="another name reads better")  # fmt: skip


def _unused_values(ctx: Context) -> None:
    for name, symbol in _own_values(ctx):
        if not symbol.used:
            what = _WORDS[type(symbol.declaration).__name__]
            ctx.warn("W101", f"the {what} `{name}` is never used", symbol.span, help="remove it")


def _unread_states(ctx: Context, file: syntax.File) -> None:
    """States that nothing but their own renewal reads."""
    for name, symbol in _own_values(ctx):
        if isinstance(symbol.declaration, syntax.State) and symbol.used:
            others = tuple(item for item in file.items if item is not symbol.declaration)
            if not any(isinstance(node, syntax.Name) and node.id == name for node in syntax_nodes(others)):
                message = f"the state `{name}` is never used: only its own renewal reads it"
                ctx.warn("W101", message, symbol.span, help="remove it")


def _no_batch(ctx: Context, file: syntax.File) -> None:
    """Rows that no axis marks as a batch: micro-batches and ranks would average whole losses."""
    if any(axis.batch for axis in ctx.frame.axes.values()):
        return
    for item in file.items:
        if isinstance(item, syntax.Tensor) and item.type.axes:
            message = "no axis of this objective is a batch axis, so it cannot be split over micro-batches or ranks"
            help_ = f"if its rows are examples declare `axis {item.type.axes[0]} : batch`"
            ctx.warn("W302", message, item.name_span, help=help_)
            return


def _unused_axes(ctx: Context, file: syntax.File) -> None:
    used = set(_axes_read(file))
    for item in file.items:
        if isinstance(item, syntax.Axis) and item.name not in used:
            ctx.warn("W101", f"the axis `{item.name}` is never used", item.name_span, help="remove it")


def _axes_read(file: syntax.File) -> Iterator[str]:
    for node in syntax_nodes(file.items):
        match node:
            case syntax.Type(axes=axes, within=within):
                yield from axes or ()
                if isinstance(within, str):
                    yield within
            case syntax.Selector(name=name):
                yield name
            case syntax.AxisConstant(axis=axis):
                yield axis
            case syntax.Name(id=name):
                yield name
            case syntax.Use(sharing=shared):
                yield from shared


def _unused_terms(ctx: Context, gathered: Gathered, read: set[str]) -> None:
    for name, span, _ in gathered.imports:
        if name not in read:
            ctx.warn("W101", f"`{name}` is imported and never used", span, help="remove it from the `use` line")
    for name, term in ctx.frame.terms.items():
        if term.own and not term.used and name not in read:
            ctx.warn("W101", f"the term `{name}` is never used", term.span, help="remove it")


def _empty_sums(ctx: Context, file: syntax.File) -> None:
    """`mean[b](sum[t where m](x))`: a row of which nothing is admitted counts as 0 (as -inf under `logsumexp`)."""
    for node in syntax_nodes(file.items):
        outer = _reduction(node, ("mean",))
        if outer is None or outer[0].where is not None:
            continue
        for inner, _ in _inner_sums(outer[1]):
            assert inner.where is not None
            if _is_about_positions(ctx, inner.where):
                continue
            axes = ", ".join(selector.name for selector in inner.selectors)
            guard = f"any[{axes}]({print_expr(inner.where)})"
            head = print_expr(inner.head)
            value = "0" if head == "sum" else "-inf"
            ctx.warn("W301", f"where nothing is admitted this `{head}` is {value}, and the mean around it counts that",
                     inner.span, help=f"to leave such entries out write `where {guard}` in the mean")  # fmt: skip


def _is_about_positions(ctx: Context, where: syntax.Expr) -> bool:
    """Whether a condition reads no tensor, as `index[j] != index[b]`: what it admits, it admits in every batch.

    What is unequal to an index, as `index[v] != y`, admits all entries but one.
    """
    if isinstance(where, syntax.Compare) and where.ops == ("!=",) and any(map(_is_index, where.operands)):
        return True
    for node in syntax_nodes(where):
        if isinstance(node, syntax.Name) and node.id not in ("index", "size"):
            symbol = ctx.frame.values.get(node.id)
            declared = symbol.declaration if isinstance(symbol, ValueSymbol) else None
            if not isinstance(declared, syntax.Let) or not _is_about_positions(ctx, declared.value):
                return False
    return True


def _is_index(operand: syntax.Expr) -> bool:
    return isinstance(operand, syntax.Bracket) and isinstance(operand.head, syntax.Name) and operand.head.id == "index"


def _inner_sums(argument: syntax.Expr) -> Iterator[tuple[syntax.Bracket, syntax.Expr]]:
    """The masked sums that are the entries of a mean, up to factors and signs; what a function makes of one is meant."""
    found = _reduction(argument, ("sum", "logsumexp"))
    if found is not None and found[0].where is not None:
        yield found
    match argument:
        case syntax.Unary(operand=operand):
            yield from _inner_sums(operand)
        case syntax.Binary(op="*" | "+" | "-", left=left, right=right):
            yield from _inner_sums(left)
            yield from _inner_sums(right)


def _reduction(node: object, names: tuple[str, ...]) -> tuple[syntax.Bracket, syntax.Expr] | None:
    """The bracket and the argument of a call of one of these reductions."""
    if not isinstance(node, syntax.Call) or not isinstance(node.function, syntax.Bracket) or not node.arguments:
        return None
    head = node.function.head
    named = isinstance(head, syntax.Name) and head.id in names
    return (node.function, node.arguments[0].value) if named else None
