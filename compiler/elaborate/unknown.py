"""Unknown names: what was probably meant, and what to write."""

from __future__ import annotations

from typing import Final

from lossc.compiler.builtins import BUILT_IN, CONSTANTS, POSITIONS
from lossc.compiler.elaborate.context import Context
from lossc.compiler.library import home_of, known_elsewhere, settings_with, shipped_terms
from lossc.compiler.values import WRONG, Value
from lossc.grammar import syntax
from lossc.grammar.suggest import did_you_mean, nearest

_ELSEWHERE: Final = {
    "ln": "log(x)", "power": "x^y", "pow": "x^y", "square": "x^2", "sqr": "x^2", "clamp": "clip(x, lo, hi)",
    "detach": "sg(x)", "stop_gradient": "sg(x)", "stopgrad": "sg(x)", "no_grad": "sg(x)", "average": "mean[b](x)",
    "avg": "mean[b](x)", "maximum": "max(x, y)", "minimum": "min(x, y)", "logistic": "sigmoid(x)",
    "lse": "logsumexp[v](x)", "stddev": "std[b](x)", "variance": "var[b](x)", "one_hot": "index[v] == y",
    "onehot": "index[v] == y", "len": "size[t]", "shape": "size[t]", "arange": "index[t]", "range": "index[t]",
    "matmul": "dot[d](x, y)", "mm": "dot[d](x, y)", "bmm": "dot[d](x, y)", "inner": "dot[d](x, y)",
    "gather": "x[v = y]", "select": "x[v = y]", "true": "0 == 0", "false": "0 == 1", "True": "0 == 0", "False": "0 == 1",
    "sigma": "sigmoid(x)", "σ": "sigmoid(x)", "Phi": "normcdf(x)", "Φ": "normcdf(x)", "E": "mean[b](x)",
    "expectation": "mean[b](x)", "argmin": "argmax[v](-x)", "transpose": "x[b -> j]", "where": "a if c else b",
    "cumulative_logsumexp": "cumlogsumexp[t](x)", "logcumsumexp": "cumlogsumexp[t](x)", "normalize": "x / norm[d](x)",
    "flip": "x[t -> u][u = size[t] - 1 - index[t]]", "reverse": "x[t -> u][u = size[t] - 1 - index[t]]",
    "roll": "x[t -> u][u = mod(index[t] - 1, size[t])]", "cdist": "norm[d](x - y[b -> j])", "log10": "log(x) / log(10)",
    "erfc": "1 - erf(x)", "acosh": "log(x + sqrt(x^2 - 1))", "arccosh": "log(x + sqrt(x^2 - 1))",
    "arcosh": "log(x + sqrt(x^2 - 1))", "asinh": "log(x + sqrt(x^2 + 1))", "arcsinh": "log(x + sqrt(x^2 + 1))",
    "atanh": "log((1 + x) / (1 - x)) / 2", "arctanh": "log((1 + x) / (1 - x)) / 2", "cosh": "(exp(x) + exp(-x)) / 2",
    "sinh": "(exp(x) - exp(-x)) / 2", "eye": "index[d] == index[e]", "identity": "index[d] == index[e]",
    "argsort": "sort[v -> r](u, by = x)", "inverse": "solve[d, e](c, x)", "inv": "solve[d, e](c, x)",
    "det": "exp(logdet[d, e](c))", "cat": "side{chosen: x, rejected: y}",
    "concat": "side{chosen: x, rejected: y}", "stack": "side{chosen: x, rejected: y}", "outer": "x * y[b -> j]",
    "reciprocal": "1 / x", "rsqrt": "1 / sqrt(x)", "int": "floor(x)", "nan_to_num": "x if x == x else 0",
    "cumulative_sum": "cumsum[t](x)", "relu6": "clip(x, 0, 6)", "logit": "log(p) - log(1 - p)", "sgn": "sign(x)",
}  # fmt: skip
"""What other languages call a function that is written another way here; losses are listed with the library."""


def unknown_value(ctx: Context, expr: syntax.Name) -> Value:
    name = expr.id
    if name in BUILT_IN:
        return ctx.wrong("E207", f"`{name}` is a function, not a value", expr.span, help=f"call it: `{name}(…)`")
    if name in ctx.frame.axes:
        return ctx.wrong("E101", f"`{name}` is an axis, not a value", expr.span,
                         help=f"`index[{name}]` is the position along it, `size[{name}]` its extent")  # fmt: skip
    if name in ctx.session.unread:
        return WRONG
    return ctx.wrong("E101", f"there is no value `{name}`", expr.span, help=_about_value(ctx, name))


def _about_value(ctx: Context, name: str) -> tuple[str, ...]:
    top = ctx.session.top
    if ctx.frame.kind == "term":
        if name in top.values:
            return (f"a term sees only its arguments: add `{name}` to them",)
        return did_you_mean(name, [*ctx.frame.values, *ctx.frame.terms, *CONSTANTS])
    if name in _ELSEWHERE:
        return (f"write `{_ELSEWHERE[name]}`",)
    whole, _, position = name.rpartition(".")
    holder = ctx.axis_with(position) if whole in ctx.frame.values else None
    if holder is not None:
        return (f"write `{whole}[{holder} = {position}]`",)
    if whole in ctx.frame.values and position in ("T", "mT", "t"):
        return (f"axes have names and no order; the same under another name is `{whole}[b -> j]`",)
    prefixed = [known for known in ctx.frame.values if known.rsplit(".", 1)[-1] == name]
    if prefixed:
        return (f"write `{prefixed[0]}`",)
    if name in shipped_terms():
        return (f"it is a term of the library, to be called: `{name}(…)`", _import(name))
    close = did_you_mean(name, [*ctx.frame.values, *ctx.frame.terms, *CONSTANTS])
    settings = settings_with(name) if not close and ctx.frame.kind == "objective" and len(name) > 1 else ()
    return (f"it comes with a setting: `use {settings[0]}`",) if settings else close


def unknown_function(ctx: Context, head: syntax.Name, call: syntax.Call) -> Value:
    if head.id in POSITIONS:
        return ctx.wrong("E306", f"`{head.id}` takes its axes in brackets", call.span, help=f"write `{head.id}[t]`")
    for argument in call.arguments:
        ctx.value(argument.value)
    name = head.id
    if name in ctx.frame.values:
        return ctx.wrong("E207", f"`{name}` is a value, and cannot be called", head.span,
                         help=f"a selection is written with brackets: `{name}[v = y]`; a product with `*`")  # fmt: skip
    if name in ctx.session.unread:
        return WRONG
    return ctx.wrong("E107", f"there is no term or function `{name}`", head.span, help=_about_function(ctx, name))


def _about_function(ctx: Context, name: str) -> tuple[str, ...]:
    last = name.rsplit(".", 1)[-1]
    here = {*BUILT_IN, *ctx.frame.terms}
    if last in here:
        return (f"write `{last}(…)`",)
    prefixed = [known for known in ctx.frame.terms if known.rsplit(".", 1)[-1] == last]
    if prefixed:
        return (f"write `{prefixed[0]}(…)`",)
    if last in shipped_terms():
        return (_import(last),)
    if last in _ELSEWHERE:
        return (f"write `{_ELSEWHERE[last]}`",)
    if last in known_elsewhere():
        return (f"the library calls it `{known_elsewhere()[last]}`. {_import(known_elsewhere()[last])}",)
    meant = nearest(last, [*here, *shipped_terms()])
    if meant is None:
        return ()
    return (f"did you mean `{meant}`?" if meant in here else f"did you mean `{meant}`? {_import(meant)}",)


def _import(term: str) -> str:
    return f"import it: `use {home_of(term)} ({term})`"
