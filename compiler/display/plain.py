"""Unicode notation on one line."""

from __future__ import annotations

from lossc.compiler.display.symbols import GREEK, split

_INFIX = {
    "+": " + ", "-": " − ", "and": " ∧ ", "or": " ∨ ", "<": " < ", "<=": " ≤ ", ">": " > ", ">=": " ≥ ", "==": " = ",
    "!=": " ≠ ", "=": " = ", ":": ": ", "by": " by ", "range": " ∈ ",
}  # fmt: skip

_UNDER = {"sum": "Σ", "prod": "Π", "any": "⋁", "all": "⋀", "grad": "∇", "worst": "max"}
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")

_AROUND = {"abs": ("|", "|"), "floor": ("⌊", "⌋"), "ceil": ("⌈", "⌉")}
_RENAMED = {"sigmoid": "σ", "normcdf": "Φ", "log_normcdf": "log Φ", "digamma": "ψ", "trigamma": "ψ₁", "lgamma": "log Γ",
            "logsigmoid": "log σ", "log2": "log₂", "arcsin": "arcsin", "sqrt": "√"}  # fmt: skip
_OPERATORS = {"log_softmax": "log softmax"}


class Plain:
    """The pieces of an expression as Unicode text."""

    fractions_bracket = False

    def number(self, digits: str) -> str:
        mantissa, _, exponent = digits.lower().partition("e")
        if not exponent:
            return mantissa
        power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
        return power if mantissa == "1" else f"{mantissa}·{power}"

    def name(self, identifier: str, primes: int) -> str:
        head, tail = split(identifier)
        text = (GREEK[head][0] if head in GREEK else head) + "′" * primes
        if not tail:
            return text
        return text + (tail.translate(_SUBSCRIPTS) if tail.isdigit() else f"_{tail}")

    def brackets(self, inner: str) -> str:
        return f"({inner})"

    def infix(self, op: str) -> str:
        return _INFIX[op]

    def times(self, left: str, right: str) -> str:
        return f"{left}·{right}"

    def fraction(self, above: str, below: str) -> str:
        return f"{above} / {below}"

    def power(self, base: str, exponent: str) -> str:
        if exponent.isdigit() or (exponent.startswith("−") and exponent[1:].isdigit()):
            return base + exponent.replace("−", "-").translate(_SUPERSCRIPTS)
        return f"{base}^{exponent}" if exponent.isalnum() else f"{base}^({exponent})"

    def negated(self, op: str, inner: str) -> str:
        return f"¬{inner}" if op == "not" else ("−" if op == "-" else op) + inner

    def choice(self, then: str, condition: str, otherwise: str) -> str:
        return f"{{{then} if {condition}, else {otherwise}}}"

    def under(self, op: str, limits: str, body: str) -> str:
        head = self._with_axes(_UNDER.get(op, op), limits)
        return f"{head} {body}" if op in ("sum", "prod") else f"{head}({body})"

    def operator(self, name: str, axes: str) -> str:
        return self._with_axes(_OPERATORS.get(name, name.replace("'", "′")), axes)

    def _with_axes(self, head: str, axes: str) -> str:
        if not axes:
            return head
        return f"{head}_{axes}" if axes.isalnum() else f"{head}_{{{axes}}}"

    def subscript(self, base: str, index: str) -> str:
        return f"{base}_{index}" if index.isalnum() else f"{base}_{{{index}}}"

    def primitive(self, name: str, arguments: list[str]) -> str | None:
        if name in _AROUND:
            left, right = _AROUND[name]
            return f"{left}{arguments[0]}{right}"
        if name == "xlogy":
            return f"{arguments[0]}·log({arguments[1]})"
        return f"{_RENAMED.get(name, name)}({', '.join(arguments)})"

    def special(self, name: str, axes: str, arguments: list[str]) -> str | None:
        match name, arguments:
            case "norm", [x]:
                return f"‖{x}‖_{axes}"
            case "dot", [x, y]:
                return f"⟨{x}, {y}⟩_{axes}"
            case "size", []:
                return f"|{axes}|"
            case "count", []:
                return f"#{{{axes}}}"
            case "index", []:
                return axes
        return None

    def such_that(self, axes: str, condition: str) -> str:
        return f"{axes} : {condition}"

    def arrow(self, left: str, right: str) -> str:
        return f"{left}→{right}"

    def applied(self, function: str, arguments: str) -> str:
        return f"{function}({arguments})"
