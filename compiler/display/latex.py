"""LaTeX notation."""

from __future__ import annotations

from lossc.compiler.display.symbols import COMMANDS, GREEK, escaped, split
from lossc.compiler.primitives import PRIMITIVES

_INFIX = {
    "+": " + ", "-": " - ", "and": r" \wedge ", "or": r" \vee ", "<": " < ", "<=": r" \le ", ">": " > ", ">=": r" \ge ",
    "==": " = ", "!=": r" \ne ", "=": " = ", ":": r"\colon ", "by": r" \text{ by } ", "range": r" \in ",
}  # fmt: skip

_UNDER = {
    "sum": r"\sum", "prod": r"\prod", "max": r"\max", "min": r"\min", "any": r"\bigvee", "all": r"\bigwedge",
    "argmax": r"\operatorname*{arg\,max}", "mean": r"\operatorname*{mean}", "logsumexp": r"\operatorname*{logsumexp}",
    "grad": r"\nabla", "worst": r"\max", "root": r"\operatorname*{root}",
    "std": r"\operatorname*{std}", "var": r"\operatorname*{var}", "median": r"\operatorname*{median}",
}  # fmt: skip

_OPERATORS = {"log_softmax": r"\log\operatorname{softmax}", "logdet": r"\log\det", "trace": r"\operatorname{tr}",
              "cov": r"\operatorname{Cov}"}  # fmt: skip

_SET_OFF = ("exp", "expm1", "log1mexp", "logaddexp", "softplus", "sqrt", "abs", "floor", "ceil", "max", "min", "clip",
            "relu", "atan2", "log1p", "sigmoid", "normcdf", "lgamma", "log_normcdf", "digamma", "trigamma",
            "erfinv", "xlogy", "mod", "logsigmoid")  # fmt: skip
"""Primitives whose template sets its arguments off; those of others are bracketed unless they are one symbol."""


class Latex:
    """The pieces of an expression as LaTeX."""

    fractions_bracket = True

    def number(self, digits: str) -> str:
        mantissa, _, exponent = digits.lower().partition("e")
        if not exponent:
            return mantissa
        power = f"10^{{{int(exponent)}}}"
        return power if mantissa == "1" else rf"{mantissa} \cdot {power}"

    def name(self, identifier: str, primes: int) -> str:
        head, tail = split(identifier)
        text = self._symbol(head) + "'" * primes
        return f"{text}_{{{self._symbol(tail)}}}" if tail else text

    def _symbol(self, word: str) -> str:
        if word in GREEK:
            return GREEK[word][1]
        if len(word) == 1 or word.isdigit():
            return COMMANDS.get(word, word)
        return rf"\mathrm{{{escaped(word)}}}"

    def brackets(self, inner: str) -> str:
        return rf"\left({inner}\right)"

    def infix(self, op: str) -> str:
        return _INFIX[op]

    def times(self, left: str, right: str) -> str:
        return rf"{left} \cdot {right}" if right[0].isdigit() else rf"{left} \, {right}"

    def fraction(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def power(self, base: str, exponent: str) -> str:
        return f"{{{base}}}^{{{exponent}}}"

    def negated(self, op: str, inner: str) -> str:
        return rf"\neg {inner}" if op == "not" else f"{op}{inner}"

    def choice(self, then: str, condition: str, otherwise: str) -> str:
        return rf"\begin{{cases}} {then} & \text{{if }} {condition} \\ {otherwise} & \text{{otherwise}} \end{{cases}}"

    def under(self, op: str, limits: str, body: str) -> str:
        head = f"{_UNDER.get(op, self.operator(op, ''))}_{{{limits}}}"
        return f"{head} {body}" if op in ("sum", "prod") else rf"{head}\left[{body}\right]"

    def operator(self, name: str, axes: str) -> str:
        plain = name.rstrip("'")
        word = self._symbol(plain) if len(plain) == 1 or plain in GREEK else rf"\operatorname{{{escaped(plain)}}}"
        head = _OPERATORS.get(name) or word + "'" * (len(name) - len(plain))
        return f"{head}_{{{axes}}}" if axes else head

    def subscript(self, base: str, index: str) -> str:
        return f"{{{base}}}_{{{index}}}"

    def primitive(self, name: str, arguments: list[str]) -> str | None:
        if name not in _SET_OFF:
            arguments = [self._argument(argument) for argument in arguments]
        template = PRIMITIVES[name].latex
        return template.format(*arguments, args=", ".join(arguments)) if template else None

    def _argument(self, text: str) -> str:
        word = text.removeprefix(r"\mathrm{").removesuffix("}") if text.startswith(r"\mathrm{") else text
        return text if word.replace("\\", "").isalnum() else self.brackets(text)

    def special(self, name: str, axes: str, arguments: list[str]) -> str | None:
        match name, arguments:
            case "norm", [x]:
                return rf"\left\lVert {x} \right\rVert_{{{axes}}}"
            case "dot", [x, y]:
                return rf"\left\langle {x}, {y} \right\rangle_{{{axes}}}"
            case "size", []:
                return rf"\lvert {axes} \rvert"
            case "count", []:
                return rf"\#\left\{{{axes}\right\}}"
            case "index", []:
                return axes
        return None

    def such_that(self, axes: str, condition: str) -> str:
        return rf"{axes} \,:\, {condition}"

    def arrow(self, left: str, right: str) -> str:
        return rf"{left} \to {right}"

    def applied(self, function: str, arguments: str) -> str:
        return rf"{function}\left({arguments}\right)"
