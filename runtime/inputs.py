"""Checking the inputs of a call against the declarations of the spec, and converting them to the type of the computation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import Tensor

from lossc.compiler.core import walk
from lossc.compiler.elaborate.groups import WEIGHTS_AXIS
from lossc.compiler.program import LetInfo, Program, TensorInfo, copied_axes
from lossc.grammar.diagnostics import Diagnostic, LosscError
from lossc.grammar.source import Span
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.arguments import is_batched, unusable
from lossc.runtime.forms import Form, Forms, form_of
from lossc.runtime.functions import Called, Interface, ambient, interfaces
from lossc.runtime.layouts import Layout, leaves_of, stacked, unfolded
from lossc.runtime.linear import Linear
from lossc.runtime.messages import LosscWarning, problem, shown
from lossc.runtime.touched import Touched

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Expected(NamedTuple):
    """A tensor that a call may be given: an `input`, a `data` line, or a `let` in place of what it is computed from.

    `over` is the axis of a distribution, `codomain` the axis into which a label points.
    """

    name: str
    role: str
    kind: str
    order: tuple[str, ...]
    over: str | None
    codomain: str | None
    span: Span
    leaves: str | None = None

    @property
    def declaration(self) -> str:
        axes = f"[{', '.join(self.order)}]" if self.order else ""
        within = f" in {self.codomain}" if self.codomain else ""
        return f"{self.name} : {self.kind}{axes}{within}"


def _expected(info: TensorInfo | LetInfo, role: str) -> Expected:
    kind = info.kind
    return Expected(info.name, role, kind.name, info.order, kind.axis, kind.codomain, info.span, kind.leaves)


@dataclass
class CheckedInputs:
    """Inputs that passed: dimensions as declared, floating types converted, data detached; with the extents of all axes."""

    tensors: dict[str, Tensor | Linear]
    sizes: dict[str, int]
    like: Tensor
    functions: dict[str, Called] = field(default_factory=dict)
    leaves: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """The shapes of the leaves of each group of weights, by the axis along which it is laid out."""
    rows: Touched = field(default_factory=dict)
    """Of axes that are cut down to what the call touches, these entries."""

    def extent(self, axis: str | int) -> int | None:
        """The extent of an axis, where it is known before the call runs; a number stands for itself."""
        return axis if isinstance(axis, int) else self.sizes.get(axis)


class Inputs:
    """The inputs that calls of one objective accept.

    `sizes` has extents given in advance, for axes that no tensor has.
    """

    def __init__(
        self, program: Program, sizes: Mapping[str, int],
        externs: Mapping[str, tuple[Interface, Callable[..., object]]] | None = None,
    ) -> None:  # fmt: skip
        self.expected: dict[str, Expected] = {}
        for tensor in program.tensors.values():
            self.expected[tensor.name] = _expected(tensor, tensor.role)
        for let in program.lets.values():
            self.expected[let.name] = _expected(let, "let")
        self.copies = copied_axes(program)
        self.models = interfaces(program)
        self.externs = externs or {}
        self.params = frozenset(program.params)
        self.instead = {name: _lets_over(program, name) for name in program.tensors}
        self.positions = {axis.name: axis.positions for axis in program.axes.values() if axis.positions is not None}
        self.growing = frozenset(program.axes) - program.batch_axes
        self.growing -= {entry.over or entry.codomain or "" for entry in self.expected.values()}
        self.extents = {**{axis: len(positions) for axis, positions in self.positions.items()}, **sizes}
        self._reported: set[str] = set()
        self._forms = Forms()

    def check(
        self, given: Mapping[str, object], required: tuple[str, ...] = (), *, native: frozenset[str] = frozenset(),
        check_labels: bool = True,
    ) -> CheckedInputs:  # fmt: skip
        """The tensors of a call, checked and converted. Those in `native` keep their floating type.

        Raises LosscError with every problem found.
        """
        key = None if self.models or self.externs else form_of(given, required, native, check_labels)
        form = None if key is None else self._forms.get(key)
        if form is not None and form.fits(plain := cast(Mapping[str, Tensor], given)):
            return CheckedInputs(dict(form.tensors(plain)), dict(form.sizes), form.like)
        checked = self._check_anew(given, required, native, check_labels)
        if key is not None:
            self._keep(key, checked, cast(Mapping[str, Tensor], given), check_labels)
        return checked

    def _keep(self, key: object, checked: CheckedInputs, given: Mapping[str, Tensor], check_labels: bool) -> None:
        """Remembers the form of a call, if nothing but labels has to be checked in further calls of this form."""
        expected = {name: self.expected[name] for name in given}
        detached = any(each.role == "data" and given[name].requires_grad for name, each in expected.items())
        known = {axis for each in expected.values() for axis in each.order} | {*self.extents}
        labels = {name: each.codomain for name, each in expected.items() if each.codomain is not None}
        if not (detached or checked.leaves or checked.like.is_inference()) and known.issuperset(labels.values()):
            limits = [(name, checked.sizes[axis]) for name, axis in labels.items()] if check_labels else []
            types = {name: tensor.dtype for name, tensor in checked.tensors.items()}
            self._forms.keep(key, Form(dict(checked.sizes), checked.like, types, limits))

    def _check_anew(
        self, given: Mapping[str, object], required: tuple[str, ...], native: frozenset[str], check_labels: bool
    ) -> CheckedInputs:
        """Checks a call of a form that is not remembered."""
        known = {name: value for name, value in given.items() if name in self.expected and name not in self.models}
        problems = [self._unexpected(name) for name in given if name not in self.expected]
        problems += [self._missing(name, given) for name in required if name not in given]
        models = {name: value for name, value in given.items() if name in self.models}
        problems += [self._not_callable(name, value) for name, value in models.items() if not callable(value)]
        known = {name: value for name, value in known.items() if not self._unusable(name, value, problems)}
        tensors = self._arranged(known, problems)
        problems += [found for name, tensor in tensors.items() for found in self._wrong_type(name, tensor)]
        problems += self._elsewhere(tensors)
        sizes = self._extents(tensors, problems)
        leaves = self._leaves({name: known[name] for name in tensors}, sizes, problems)
        codomains = [self.expected[name].codomain for name in tensors]
        told = {axis for axis in codomains if axis is not None} - set(sizes)
        if problems:
            raise LosscError(problems)
        if not torch.compiler.is_compiling():
            problems = list(self._check_labels(tensors, sizes, check_labels))
        if problems:
            raise LosscError(problems)
        like = self._like(tensors)
        ready = {name: self._converted(name, tensor, like, name in native) for name, tensor in tensors.items()}
        around = ambient(like.device.type)
        shown_by_tensors = {axis: sizes[axis] for axis in sizes if axis not in told}
        callables = {**{name: (self.models[name], value) for name, value in models.items()}, **self.externs}
        least = {axis: sizes[axis] for axis in told if axis in sizes}
        functions = {
            name: Called(face, function, shown_by_tensors, least, around) for name, (face, function) in callables.items()
        }
        return CheckedInputs(ready, sizes, like, functions, leaves)

    def having(self, axis: str) -> list[str]:
        """The tensors that have an axis."""
        return [name for name, expected in self.expected.items() if axis in expected.order]

    # -------------------------------------------------------------------------------------- names and layouts

    def _unexpected(self, name: str) -> Diagnostic:
        help_ = did_you_mean(name, self.expected)
        if name in self.params:
            help_ = (f"`{name}` is a parameter: `objective.set({name}=…)`",)
        return problem("E702", f"this objective has no tensor `{name}`", help=help_ or f"it has {', '.join(self.expected)}")

    def _not_callable(self, name: str, value: object) -> Diagnostic:
        interface = self.models[name]
        found = shown(value) if isinstance(value, Tensor) else type(value).__name__
        help_ = f"it is called as {interface.declaration}"
        return problem("E708", f"`{name}` must be a model", found=found, declared=interface.span, help=help_)

    def _missing(self, name: str, given: Collection[str]) -> Diagnostic:
        if name in self.models:
            interface = self.models[name]
            call = f"pass the model itself, called as {interface.declaration}"
            return problem("E701", f"the model `{name}` is missing", declared=interface.span, help=call)
        expected = self.expected[name]
        help_ = [f"pass `{expected.declaration}`"]
        others = [let for let in self.instead.get(name, ()) if let not in given]
        if others:
            help_.append(f"or give what is computed from it: {', '.join(others)}")
        return problem("E701", f"the tensor `{name}` is missing", declared=expected.span, help=help_)

    def _arranged(self, given: Mapping[str, object], problems: list[Diagnostic]) -> dict[str, Tensor | Linear]:
        """Every tensor with the dimensions of its declaration."""
        extents = dict(self.extents)
        for name, value in given.items():
            order = self.expected[name].order
            if isinstance(value, (Tensor, Linear)) and value.dim() == len(order):
                extents.update(zip(order, value.shape, strict=True))
            elif isinstance(value, Layout):
                pairs = zip(value.groups, value.tensor.shape, strict=True)
                extents.update({group[0]: extent for group, extent in pairs if len(group) == 1})
        found: dict[str, Tensor | Linear] = {}
        for name, value in given.items():
            try:
                found[name] = self._one(name, value, extents)
            except LosscError as wrong:
                problems.extend(wrong.diagnostics)
        return found

    def _one(self, name: str, value: object, extents: Mapping[str, int]) -> Tensor | Linear:
        expected = self.expected[name]
        order = expected.order
        if expected.kind == "weights":
            return torch.cat([leaf.flatten() for leaf in leaves_of(name, value, order[0].removeprefix(WEIGHTS_AXIS))])
        if isinstance(value, Layout):
            return unfolded(name, value, order, extents)
        if isinstance(value, Mapping):
            axis = next((axis for axis in order if axis in self.positions), None)
            if axis is not None:
                positions = self.positions[axis] or ()
                return stacked(name, value, order, axis, positions, kind=expected.kind, growing=self.growing)
        if isinstance(value, (Tensor, Linear)) and value.dim() == len(order):
            return value
        code, found = ("E703", shown(value)) if isinstance(value, (Tensor, Linear)) else ("E708", type(value).__name__)
        dimensions = f"{len(order)} dimension{'' if len(order) == 1 else 's'}"
        message = f"`{name}` must be a tensor with {dimensions}: {', '.join(order) or 'a scalar'}"
        raise LosscError([problem(code, message, found=found, declared=expected.span, help=_layout_help(value, order))])

    # -------------------------------------------------------------------------------------- types and extents

    def _unusable(self, name: str, value: object, problems: list[Diagnostic]) -> bool:
        """Whether a value is no strided tensor, such as a sparse or nested one; adds the problem."""
        value = value.tensor if isinstance(value, Layout) else value
        parts = value.values() if isinstance(value, Mapping) else [value]
        found = [unusable(each) for each in parts if isinstance(each, Tensor) and not each.is_meta]
        reasons = [reason for reason in found if reason]
        if reasons:
            message = f"`{name}` is {reasons[0]}, and must be a plain tensor with a place in memory for each entry"
            problems.append(problem("E705", message, declared=self.expected[name].span))
        return bool(reasons)

    def _wrong_type(self, name: str, tensor: Tensor | Linear) -> Iterator[Diagnostic]:
        expected = self.expected[name]
        is_bool, is_integer = tensor.dtype == torch.bool, tensor.dtype in _INTEGERS
        match expected.kind:
            case "mask":
                wrong, must, pass_ = not is_bool, "is a mask and must be bool: a number is never a mask", "bool"
            case "label":
                wrong, must, pass_ = not is_integer, "is a label and must be of an integer type", "long"
            case kind:
                wrong = not (tensor.is_floating_point() or is_integer)
                must, pass_ = f"is {kind} and must hold real numbers", "float"
        if wrong:
            found = str(tensor.dtype).removeprefix("torch.")
            yield problem("E705", f"`{name}` {must}", found=found, declared=expected.span, help=f"pass `{name}.{pass_}()`")

    @staticmethod
    def _elsewhere(tensors: Mapping[str, Tensor | Linear]) -> Iterator[Diagnostic]:
        """A problem for each tensor that is not on the device of the first, or whose device holds no numbers."""
        devices = {name: tensor.device for name, tensor in tensors.items()}
        device = [*devices.values(), None][0]
        others = {name: other for name, other in devices.items() if other != device}
        for name, other in others.items():
            message = f"`{name}` is on {other}, and other tensors of this call are on {device}"
            yield problem("E713", message, help=f"pass `{name}.to({str(device)!r})`")
        if device is not None and device.type == "meta" and not others:
            yield problem("E713", "the tensors of this call are on the device meta, and have no numbers")

    def _extents(self, tensors: Mapping[str, Tensor | Linear], problems: list[Diagnostic]) -> dict[str, int]:
        """The extent of every axis; adds a problem where two tensors disagree."""
        sizes: dict[str, int] = {}
        first: dict[str, str] = {}
        for name, tensor in tensors.items():
            for axis, extent in zip(self.expected[name].order, tensor.shape, strict=True):
                if axis not in sizes:
                    sizes[axis], first[axis] = extent, name
                    problems.extend(self._wrong_positions(name, axis, extent))
                elif sizes[axis] != extent:
                    other = first[axis]
                    message = f"`{name}` has {extent} along `{axis}`, and `{other}` has {sizes[axis]}"
                    found = f"{name} is {shown(tensor)}, {other} is {shown(tensors[other])}"
                    problems.append(problem("E704", message, found=found, declared=self.expected[name].span))
        for axis, of in self.copies.items():
            if axis in first and of in first and sizes[axis] != sizes[of]:
                name, other = first[axis], first[of]
                message = f"`{name}` has {sizes[axis]} along `{axis}`, which is `{of}`, and `{other}` has {sizes[of]}"
                problems.append(problem("E704", message, declared=self.expected[name].span))
        known = {**self.extents, **sizes}
        return {**{axis: known[of] for axis, of in self.copies.items() if of in known}, **known}

    def _leaves(
        self, given: Mapping[str, object], sizes: dict[str, int], problems: list[Diagnostic]
    ) -> dict[str, tuple[tuple[int, ...], ...]]:
        """The leaf shapes of each group of weights.

        A group that is given twice must have the same shapes both times, and as many leaves as its axis has entries.
        """
        found: dict[str, tuple[tuple[int, ...], ...]] = {}
        for name, value in given.items():
            expected = self.expected[name]
            if expected.kind != "weights":
                continue
            (axis,) = expected.order
            shapes = tuple(tuple(leaf.shape) for leaf in leaves_of(name, value, axis.removeprefix(WEIGHTS_AXIS)))
            if found.setdefault(axis, shapes) != shapes:
                message = f"`{name}` has leaves of other shapes than the group that it stands beside"
                problems.append(problem("E704", message, found=str(shapes[:4]), declared=expected.span))
            layer = expected.leaves
            if layer is not None and sizes.setdefault(layer, len(shapes)) != len(shapes):
                message = f"`{name}` has {len(shapes)} leaves, and `{layer}` has {sizes[layer]} entries"
                problems.append(problem("E704", message, declared=expected.span))
        return found

    def _wrong_positions(self, name: str, axis: str, extent: int) -> Iterator[Diagnostic]:
        positions = self.positions.get(axis)
        if positions is not None and extent != len(positions):
            message = f"`{name}` has {extent} along `{axis}`, which has the positions {', '.join(positions)}"
            yield problem("E707", message, declared=self.expected[name].span)

    def _check_labels(self, tensors: Mapping[str, Tensor | Linear], sizes: dict[str, int], check: bool) -> Iterator[Diagnostic]:
        """Problems of labels beyond their axis; also finds the extents of axes known only through labels."""
        labels = {name: axis for name in tensors if (axis := self.expected[name].codomain) is not None}
        told = {axis for axis in labels.values() if axis not in sizes}
        heads = {self.expected[name].order[-1]: head for name, head in tensors.items() if isinstance(head, Linear)}
        most = {**sizes, **{axis: head.classes for axis, head in heads.items()}}
        for name, axis in labels.items():
            tensor = tensors[name]
            if isinstance(tensor, Linear) or not (axis in told or (check and not is_batched(tensor))):
                continue
            largest = int(tensor.max()) if tensor.numel() else -1
            if axis in told:
                sizes[axis] = max(sizes.get(axis, 0), largest + 1)
            elif largest >= most[axis]:
                place = [int(i) for i in torch.nonzero(tensor == largest)[0]]
                message = f"`{name}` holds {largest} at {place}, and `{axis}` has the entries 0 to {most[axis] - 1}"
                help_ = "a label that is *none* is negative"
                yield problem("E706", message, declared=self.expected[name].span, help=help_)

    # -------------------------------------------------------------------------------------- conversion

    def _like(self, tensors: Mapping[str, Tensor | Linear]) -> Tensor:
        """A scalar in the type of the computation: double if any input (or, without inputs, any tensor) is, else single."""
        numbers = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
        inputs = [tensor for name, tensor in numbers.items() if self.expected[name].role != "data"]
        double = any(tensor.dtype == torch.float64 for tensor in inputs or numbers.values())
        device = [*(tensor.device for tensor in tensors.values()), torch.device("cpu")][0]
        return torch.zeros((), dtype=torch.float64 if double else torch.float32, device=device)

    def _converted(self, name: str, tensor: Tensor | Linear, like: Tensor, native: bool) -> Tensor | Linear:
        expected = self.expected[name]
        if expected.role == "data" and tensor.requires_grad:
            self._report_detached(name)
            tensor = tensor.detach()
        if isinstance(tensor, Linear):
            return tensor.under_autocast()
        if expected.kind == "mask" or (native and tensor.is_floating_point()):
            return tensor
        return tensor.to(torch.int64 if expected.kind == "label" else like.dtype)

    def _report_detached(self, name: str) -> None:
        if name in self._reported or torch.compiler.is_compiling():
            return
        self._reported.add(name)
        message = f"`{name}` is data and requires gradient: it was detached. Declare it as `input` to train through it."
        warnings.warn(message, LosscWarning, stacklevel=5)


def _lets_over(program: Program, name: str) -> tuple[str, ...]:
    """The lets that are computed from a tensor."""
    node = program.tensors[name].node
    return tuple(let.name for let in program.lets.values() if any(part is node for part in walk(let.node)))


def _layout_help(value: object, order: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, Tensor) and value.dim() and len(order) > 1:
        return (f'another layout is passed as `lossc.axes(x, "({order[0]} {order[1]}) …")`',)
    return ()
