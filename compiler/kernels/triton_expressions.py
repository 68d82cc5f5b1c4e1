"""Graphs as statements of a Triton kernel: as in C, with other spellings for choices, conversions and literals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from lossc.compiler.core import Map, Node
from lossc.compiler.kernels.c_expressions import WHOLE_POWERS, Atom, Expressions
from lossc.compiler.kernels.model import RowType
from lossc.compiler.kernels.plan import NoKernelError
from lossc.compiler.primitives import PRIMITIVES

_BY_DOUBLE = re.compile(r"by_double(?:_2)?\((\w+), (.*)\)")
_FUNCTION = re.compile(r"\w+\(")
_LITERAL = re.compile(r"""\(?(-?[\d.]+(e[+-]?\d+)?|float\("-?inf"\))\)?""")
LIBRARY = {"erf": "tl.erf", "sin": "tl.sin", "cos": "tl.cos", "normal_distribution": "normal_distribution"}
"""Functions that C takes from its library, and Triton has."""


class TritonExpressions(Expressions):
    """Appends statements to `lines`.

    Numbers have the type `real`, a name in the kernel. `sharp` collects products that are rounded.
    """

    def __init__(
        self, real: str, leaf: Callable[[Node], Atom | None], lines: list[str], prefix: str, sharp: list[str]
    ) -> None:  # fmt: skip
        super().__init__(real, leaf, lines, prefix)
        self.sharp = sharp

    def declared(self, text: str, type_: RowType = "number") -> Atom:
        self._count += 1
        name = f"{self.prefix}{self._count}"
        self.lines.append(f"{name} = {text}")
        return Atom(name, type_)

    def as_number(self, atom: Atom) -> str:
        return atom.text if atom.type == "number" else f"({atom.text}).to({self.real})"

    def literal(self, value: float) -> str:
        if math.isinf(value):
            return 'float("inf")' if value > 0 else 'float("-inf")'
        return f"({value!r})" if value < 0 else repr(value)

    def chosen(self, condition: str, then: str, otherwise: str, type_: RowType = "number") -> Atom:
        """The choice between two values."""
        return self.declared(f"tl.where({condition}, {then}, {otherwise})", type_)

    def _product(self, node: Map) -> Atom:
        masks = [factor for factor in node.arguments if factor.is_mask]
        factors = [factor for factor in node.arguments if not factor.is_mask]
        shown = self.mask(masks[0]) if masks else ""
        for mask in masks[1:]:
            shown = f"both({shown}, {self.mask(mask)})"
        if not factors:
            return self.declared(shown, "mask")
        value = self._weighed(factors, self.regular)
        return self.chosen(shown, value.text, "0.0") if masks else value

    def _where(self, condition: Node, then: Node, otherwise: Node) -> Atom:
        branches = (self.atom(then), self.atom(otherwise))
        types = {branch.type for branch in branches}
        if len(types) == 1 and types != {"number"}:
            return self.chosen(self.mask(condition), branches[0].text, branches[1].text, types.pop())
        return self.chosen(self.mask(condition), self.as_number(branches[0]), self.as_number(branches[1]))

    def _power(self, base: Node, exponent: Fraction) -> Atom:
        x = self.number(base)
        if exponent.denominator == 1 and 0 < abs(exponent) <= WHOLE_POWERS:
            product = " * ".join([x] * abs(int(exponent)))
            return self.declared(product if exponent > 0 else f"1.0 / ({product})")
        if abs(exponent) == Fraction(1, 2):
            return self.declared(f"square_root({x})" if exponent > 0 else f"1.0 / square_root({x})")
        return self.declared(f"power({x}, {self._value(self.literal(float(exponent)))})")

    def _value(self, operand: str) -> str:
        """An operand of a function: literals are converted to values of the kernel, which Triton's literals are not."""
        return f"tl.full([], {operand}, {self.real})" if _LITERAL.fullmatch(operand) else f"({operand})"

    def rounded(self, product: str) -> str:
        """The product as it is: kernels that need rounding are compiled without fused multiplication, see `TritonSource`."""
        self.sharp.append(product)
        return product

    def spelled(self, function: str, operands: Sequence[str]) -> str:
        """The call of a primitive."""
        spelling = PRIMITIVES[function].c
        if function == "not":
            return f"({operands[0]}) == 0"
        if function == "and":
            return f"both({operands[0]}, {operands[1]})"
        if function == "or":
            return f"({operands[0]}).to(tl.int32) + ({operands[1]}).to(tl.int32) != 0"
        found = _BY_DOUBLE.fullmatch(spelling)
        if found is None and _FUNCTION.match(spelling):
            return spelling.format(*(self._value(operand) for operand in operands))
        if found is None:
            return spelling.format(*(f"({operand})" for operand in operands))
        if found[1] not in LIBRARY:
            raise NoKernelError(f"Triton has no `{function}`")
        return f"{LIBRARY[found[1]]}({found[2].format(*operands)})"
