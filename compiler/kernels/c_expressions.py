"""Graphs as C statements: each operation is a local variable, assigned once, under a name of our own."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

from lossc.compiler.core import Const, Input, Map, Node, StopGrad, remembered
from lossc.compiler.emission.facts import may_be_infinite, may_vanish
from lossc.compiler.faults import InternalError
from lossc.compiler.kernels.model import RowType
from lossc.compiler.kernels.regular import Regularity
from lossc.compiler.primitives import COMPARISONS, PRIMITIVES

LOGICAL = ("and", "or", "not")
KINKED = (*COMPARISONS, "abs", "sign", "relu", "max", "min")
WHOLE_POWERS = 8
"""The largest exponent that is written as a product."""


class Atom(NamedTuple):
    """A C name or literal, and the type of its value."""

    text: str
    type: RowType


Leaf = Callable[[Node], "Atom | None"]
Spelling = Callable[[Node], str]


class Expressions:
    """Appends to `lines` the statements that its graphs need. `leaf` gives the names that the caller has for leaves.

    Numbers have the type `real`. A product is 0 where one factor is 0 and another infinite (0 * log 0), unless
    `regular` knows that none is. `exponential` chooses the C function for an exponent. Nodes in `exact` have the same
    bits in every loop: they use no such knowledge, and products in them are rounded before they are added.
    """

    def __init__(
        self, real: str, leaf: Leaf, lines: list[str], prefix: str = "t", regular: Regularity | None = None,
        exponential: Spelling = lambda _: "exponential", exact: Collection[Node] = (),
    ) -> None:  # fmt: skip
        self.real = real
        self.exact = exact
        self.leaf = leaf
        self.lines = lines
        self.prefix = prefix
        self.regular = regular
        self.exponential = exponential
        self._sharp: set[Node] = set()
        self._done: dict[Node, Atom] = {}
        self._count = 0

    def atom(self, node: Node) -> Atom:
        if node not in self._done:
            self._done[node] = self._atom(node)
        return self._done[node]

    def number(self, node: Node) -> str:
        return self.as_number(self.atom(node))

    def as_number(self, atom: Atom) -> str:
        return atom.text if atom.type == "number" else f"({self.real}){atom.text}"

    def mask(self, node: Node) -> str:
        return self.atom(node).text

    def declared(self, text: str, type_: RowType = "number") -> Atom:
        """A new local variable with this value."""
        self._count += 1
        name = f"{self.prefix}{self._count}"
        self.lines.append(f"const {self.real if type_ == 'number' else 'int'} {name} = {text};")
        return Atom(name, type_)

    # -------------------------------------------------------------------------------------- nodes

    def _atom(self, node: Node) -> Atom:
        found = self.leaf(node)
        if found is not None:
            return found
        match node:
            case Const():
                return Atom(self.literal(float(node)), "number")
            case StopGrad(body=body):
                return self.atom(body)
            case Map(function="add", arguments=terms):
                return self._sum(terms, sharp=node in self._sharp or node in self.exact)
            case Map(function="mul"):
                return self._product(node)
            case Map(function="exp", arguments=(inner,)):
                function = "exponential" if node in self.exact else self.exponential(inner)
                return self.declared(f"{function}({self.number(inner)})")
            case Map(function="where", arguments=arguments):
                return self._where(*arguments)
            case Map(function="pow", arguments=(base, Const(value=Fraction() as exponent))):
                return self._power(base, exponent)
            case Map():
                return self._call(node)
        name = node.name if isinstance(node, Input) else ""
        raise InternalError(f"a kernel has no {type(node).__name__} {name}")

    def literal(self, value: float) -> str:
        if math.isinf(value):
            return "INFINITY" if value > 0 else "(-INFINITY)"
        text = f"{value!r}" if self.real == "double" else f"({self.real}){value!r}"
        return f"({text})" if value < 0 else text

    def _sum(self, terms: Sequence[Node], *, sharp: bool) -> Atom:
        """The sum. A `sharp` sum is 0 where equal terms cancel: its products are all rounded, none is fused."""
        text = ""
        for term in sorted(terms, key=_is_negated):
            negated = _is_negated(term)
            part = self._positive(term) if negated else self.number(term)
            part = self.rounded(part) if sharp else part
            text = f"{text} {'-' if negated else '+'} {part}" if text else f"{'-' if negated else ''}{part}"
        return self.declared(text)

    def rounded(self, product: str) -> str:
        """A product that is rounded before it is added."""
        return f"rounded({product})"

    def _positive(self, term: Node) -> str:
        assert isinstance(term, Map)
        rest = term.arguments[1:]
        return self.number(rest[0] if len(rest) == 1 else Map("mul", rest))

    def _product(self, node: Map) -> Atom:
        masks = [factor for factor in node.arguments if factor.is_mask]
        factors = [factor for factor in node.arguments if not factor.is_mask]
        if not factors:
            return self.declared(" & ".join(self.mask(mask) for mask in masks), "mask")
        value = self._weighed(factors, self.regular if node not in self.exact else None)
        if not masks:
            return value
        return self.declared(f"{' & '.join(self.mask(mask) for mask in masks)} ? {value.text} : 0")

    def _weighed(self, factors: Sequence[Node], regular: Regularity | None) -> Atom:
        logs = [f for f in factors if _may_be_infinite(f) and not (regular is not None and regular.is_finite(f))]
        weights = [factor for factor in factors if factor not in logs]
        if logs and any(may_vanish(weight) for weight in weights):
            return self.guarded(self._times(weights).text, self._times(logs).text)
        return self._times(factors)

    def guarded(self, weight: str, log: str) -> Atom:
        """The product, 0 where the weight is 0, whatever the logarithm is."""
        return self.declared(f"weigh({weight}, {log})")

    def _times(self, factors: Sequence[Node]) -> Atom:
        if len(factors) == 1:
            return Atom(self.number(factors[0]), "number")
        return self.declared(" * ".join(self.number(factor) for factor in factors))

    def _where(self, condition: Node, then: Node, otherwise: Node) -> Atom:
        chosen, branches = self.mask(condition), (self.atom(then), self.atom(otherwise))
        types = {branch.type for branch in branches}
        if len(types) == 1 and types != {"number"}:
            return self.declared(f"{chosen} ? {branches[0].text} : {branches[1].text}", types.pop())
        return self.declared(f"{chosen} ? {self.as_number(branches[0])} : {self.as_number(branches[1])}")

    def _power(self, base: Node, exponent: Fraction) -> Atom:
        x = self.number(base)
        if exponent.denominator == 1 and 0 < abs(exponent) <= WHOLE_POWERS:
            product = " * ".join([x] * abs(int(exponent)))
            return self.declared(product if exponent > 0 else f"1 / ({product})")
        if abs(exponent) == Fraction(1, 2):
            return self.declared(f"square_root({x})" if exponent > 0 else f"1 / square_root({x})")
        return self.declared(f"power({x}, {self.literal(float(exponent))})")

    def _call(self, node: Map) -> Atom:
        function = node.function
        if function in KINKED:
            self._sharp.update(node.arguments)
        if function in LOGICAL:
            return self.declared(self.spelled(function, [self.mask(argument) for argument in node.arguments]), "mask")
        if function in COMPARISONS:
            return self.declared(self.spelled(function, self._comparable(node.arguments)), "mask")
        operands = [self.number(argument) for argument in node.arguments]
        while len(operands) > 2 and PRIMITIVES[function].arity is None:
            operands[:2] = [self.declared(self.spelled(function, operands[:2])).text]
        return self.declared(self.spelled(function, operands))

    def spelled(self, function: str, operands: Sequence[str]) -> str:
        """The call of a primitive."""
        return PRIMITIVES[function].c.format(*operands)

    def _comparable(self, operands: Sequence[Node]) -> list[str]:
        """The operands of a comparison; whole numbers are compared as integers."""
        atoms = [self.atom(operand) for operand in operands]
        if any(
            atom.type == "number" and not isinstance(node, Const) for atom, node in zip(atoms, operands, strict=True)
        ):
            return [self.as_number(atom) for atom in atoms]
        values = [float(node) if isinstance(node, Const) else 0.0 for node in operands]
        if any(value != round(value) or abs(value) > 2**30 for value in values if math.isfinite(value)):
            return [self.as_number(atom) for atom in atoms]
        if not all(map(math.isfinite, values)) or all(isinstance(node, Const) for node in operands):
            return [self.as_number(atom) for atom in atoms]
        return [str(int(value)) if isinstance(node, Const) else atom.text
                for atom, node, value in zip(atoms, operands, values, strict=True)]  # fmt: skip


def _is_negated(node: Node) -> bool:
    """Whether a term is minus something."""
    if not isinstance(node, Map) or node.function != "mul" or not isinstance(node.arguments[0], Const):
        return False
    return node.arguments[0].value == -1 and not any(factor.is_mask for factor in node.arguments)


@remembered
def _may_be_infinite(node: Node) -> bool:
    """Whether a value may be infinite: as for emission, and for centred logits, which are -inf where the logits are."""
    match node:
        case Input(kind="centred" | "logits" | "logprob"):
            return True
        case Map(function="add" | "mul" | "where", arguments=arguments):
            return any(_may_be_infinite(argument) for argument in arguments)
        case StopGrad(body=body):
            return _may_be_infinite(body)
    return may_be_infinite(node)
