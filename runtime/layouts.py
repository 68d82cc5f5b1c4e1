"""Tensors whose dimensions differ from the declaration: concatenated pairs, one tensor for each named position, parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossc.runtime.arguments import an_instance
from lossc.runtime.messages import fail, shown

_TOKEN = re.compile(r"\(([^()]*)\)|([^\s()]+)")


@dataclass(frozen=True)
class Layout:
    """A tensor with the axes of each of its dimensions; within a dimension the slowest axis stands first."""

    tensor: Tensor
    groups: tuple[tuple[str, ...], ...]


def axes(tensor: Tensor, layout: str) -> Layout:
    """Passes a tensor whose dimensions are in another order than the declaration says. Nothing is copied.

        objective(logits=lossc.axes(x, "(side pair) t v"), …)      # a batch of all chosen, then all rejected sequences

    Arguments:
        tensor: the tensor as it is.
        layout: the name of an axis for each dimension. Several axes in one dimension stand in parentheses, the slowest
            first.

    Raises:
        LosscError: E710 where the text is not a layout of this tensor.
    """
    an_instance("tensor", tensor, Tensor, "a tensor", code="E708")
    an_instance("layout", layout, str, 'the names of axes: `"(side pair) t v"`', code="E710")
    groups = [tuple((inside or alone).split()) for inside, alone in _TOKEN.findall(layout)]
    rest = _TOKEN.sub("", layout)
    names = [name for group in groups for name in group]
    if rest.strip() or not all(groups) or len(set(names)) != len(names):
        raise fail("E710", f"`{layout}` is not a layout", help='name each axis once: `"(side pair) t v"`')
    if len(groups) != tensor.dim():
        raise fail("E710", f"`{layout}` describes {len(groups)} dimensions", found=shown(tensor))
    return Layout(tensor, tuple(groups))


def unfolded(name: str, layout: Layout, order: Sequence[str], extents: Mapping[str, int]) -> Tensor:
    """The tensor with one dimension for each axis of `order`; `extents` are those that are known."""
    written = [axis for group in layout.groups for axis in group]
    if sorted(written) != sorted(order):
        expected = " ".join(order)
        raise fail("E710", f"`{name}` has the axes {expected}, and this layout names {' '.join(written)}")
    tensor = layout.tensor
    for group in layout.groups:
        dim = written.index(group[0])
        if len(group) > 1:
            sizes = _sizes(name, group, tensor.shape[dim], extents)
            tensor = tensor.reshape(*tensor.shape[:dim], *sizes, *tensor.shape[dim + 1 :])
    return tensor.permute([written.index(axis) for axis in order])


def _sizes(name: str, group: tuple[str, ...], total: int, extents: Mapping[str, int]) -> list[int]:
    """The extents of the axes of one dimension, of which one may be unknown."""
    known = {axis: extents[axis] for axis in group if axis in extents}
    unknown = [axis for axis in group if axis not in known]
    product = math.prod(known.values())
    if len(unknown) > 1:
        raise fail(
            "E710", f"the extents of {' and '.join(unknown)} in `({' '.join(group)})` of `{name}` are not known",
            help="pass another tensor that has one of them in a dimension of its own",
        )  # fmt: skip
    if product == 0 or total % product or (not unknown and product != total):
        parts = ", ".join(f"{axis} = {extent}" for axis, extent in known.items())
        raise fail("E710", f"a dimension of {total} in `{name}` does not hold `({' '.join(group)})` with {parts}")
    return [known.get(axis, total // product) for axis in group]


def leaves_of(name: str, given: object, pattern: str) -> list[Tensor]:
    """The parameters of a group: those whose names match the pattern, in the order of their names."""
    if isinstance(given, nn.Module):
        given = dict(given.named_parameters())
    if isinstance(given, Tensor):
        return [given]
    if not isinstance(given, Mapping) or not all(isinstance(key, str) and isinstance(x, Tensor) for key, x in given.items()):
        help_ = f"pass `{name}=dict(model.named_parameters())`, or the model"
        raise fail("E708", f"`{name}` must be parameters by name", found=type(given).__name__, help=help_)
    chosen = [given[key] for key in sorted(given) if fnmatchcase(key, pattern or "*")]
    if not chosen:
        shown_names = ", ".join(sorted(given)[:4])
        raise fail("E719", f'no parameter of `{name}` matches "{pattern}"', found=f"{shown_names}, …")
    return chosen


def stacked(
    name: str, given: Mapping[str, Tensor], order: Sequence[str], axis: str, positions: Sequence[str], *,
    kind: str, growing: frozenset[str],
) -> Tensor:  # fmt: skip
    """One tensor from one for each named position of `axis`.

    Along the axes `growing` they may differ in extent: the shorter is padded at its end with what counts as nothing there
    (a mask with false, a label with *none*, numbers with 0).
    """
    if set(given) != set(positions):
        raise fail(
            "E711", f"`{name}` needs one tensor for each position of `{axis}`: {', '.join(positions)}",
            found=f"given: {', '.join(map(str, given)) or 'nothing'}",
        )  # fmt: skip
    inner = [other for other in order if other != axis]
    tensors = [given[position] for position in positions]
    for position, tensor in zip(positions, tensors, strict=True):
        if not isinstance(tensor, Tensor) or tensor.dim() != len(inner):
            found = shown(tensor) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise fail("E703", f"`{name}` at `{position}` must be a tensor over {', '.join(inner)}", found=found)
    fill = {"mask": False, "label": -1}.get(kind, 0)
    for dim, other in enumerate(inner):
        extents = [tensor.shape[dim] for tensor in tensors]
        if len(set(extents)) > 1:
            if other not in growing:
                different = " and ".join(f"{e} at `{p}`" for e, p in zip(extents, positions, strict=True))
                raise fail("E704", f"the tensors of `{name}` differ along `{other}`: {different}")
            tensors = [_padded(tensor, dim, max(extents), fill) for tensor in tensors]
    return torch.stack(tensors, dim=list(order).index(axis))


def _padded(tensor: Tensor, dim: int, extent: int, fill: int | bool) -> Tensor:
    after = [0, 0] * (tensor.dim() - dim - 1) + [0, extent - tensor.shape[dim]]
    return functional.pad(tensor, after, value=fill)
