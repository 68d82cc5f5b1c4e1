"""`Linear` and `Pairs`: a linear head, or two batches of vectors, given in place of the logits that they would make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, distributed
from torch.nn import functional

from lossc.runtime.arguments import an_instance, as_float, brief, multiplies, unusable
from lossc.runtime.messages import fail, shown


@dataclass(frozen=True, eq=False)
class Shard:
    """One rank's part of the classes: the index of its first class, and the number of all classes."""

    group: distributed.ProcessGroup
    offset: int
    classes: int

    @staticmethod
    def of(group: distributed.ProcessGroup, own: Tensor) -> Shard:
        """The part of a rank whose weight is `own`; the ranks of the group hold the classes in their order."""
        ranks = range(distributed.get_world_size(group))
        sizes = [torch.zeros(1, dtype=torch.int64, device=own.device) for _ in ranks]
        distributed.all_gather(sizes, torch.tensor([own.shape[0]], device=own.device), group=group)
        counts = [int(size) for size in sizes]
        return Shard(group, sum(counts[: distributed.get_rank(group)]), sum(counts))


@dataclass(frozen=True, eq=False)
class Linear:
    """The logits of a linear head, given as its factors and never formed as a whole:

        logits = cap(scale * (hidden @ weight.T + bias)),    cap(x) = softcap * tanh(x / softcap) or x

        objective(logits=lossc.Linear(hidden, lm_head.weight), labels=labels)

    Arguments:
        hidden: [rows…, features]; the rows have the axes of the logits without the last.
        weight: [classes, features]
        bias: [classes]
        scale: a number, or a tensor with one entry, such as a learned inverse temperature.
        softcap: a positive number.
        group: a process group over whose ranks the classes are split. `weight`, `bias` and everything else with the class
            axis are this rank's rows, in the order of ranks; hidden states and labels are the same on all ranks. The loss is
            over all classes; the gradient of the hidden states is summed over the ranks, that of the weight stays local.

    Every part that requires gradient gets it, in its own type; a frozen part costs no product. The backends `torch`, `c`
    and `triton` go through blocks of rows, so that no more than a block of logits is in memory; `reference`
    forms the product. Several tensors of one call may be heads (`logits` and `teacher`).

    Raises:
        LosscError: E722 where a part is no tensor of the right shape, E713 where parts are on different devices.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    scale: Tensor | float = 1.0
    softcap: float | None = None
    group: distributed.ProcessGroup | None = None
    shard: Shard | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name in ("hidden", "weight", "bias", "scale"):
            self._check_part(name, getattr(self, name))
        if self.weight.dim() != 2 or self.hidden.dim() < 1 or self.hidden.shape[-1] != self.weight.shape[1]:
            found = f"hidden is {shown(self.hidden)}, weight is {shown(self.weight)}"
            raise fail("E722", "`hidden` must end with the features that `weight` [classes, features] takes", found=found)
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            found = f"bias is {shown(self.bias)}, weight is {shown(self.weight)}"
            raise fail("E722", "`bias` must have one entry for each class", found=found)
        if isinstance(self.scale, Tensor) and self.scale.numel() != 1:
            raise fail("E722", "`scale` of a head must have one entry", found=shown(self.scale))
        if self.softcap is not None:
            cap = as_float(self.softcap)
            if cap is None or not 0 < cap < math.inf:
                raise fail("E722", "`softcap` of a head must be positive", found=brief(self.softcap))
            object.__setattr__(self, "softcap", cap)
        if self.group is not None:
            if not _is_group(self.group):
                found, help_ = brief(self.group), "a rank outside of a group has no part of the head"
                raise fail("E722", "`group` must be a process group that this rank belongs to", found=found, help=help_)
            object.__setattr__(self, "shard", Shard.of(self.group, self.weight))

    def _check_part(self, name: str, part: object) -> None:
        """Raises E722 or E713 where a part cannot be multiplied."""
        if isinstance(part, Tensor):
            if not multiplies(part):
                raise fail("E722", f"`{name}` of a head must hold real numbers", found=shown(part))
            if reason := unusable(part):
                raise fail("E722", f"`{name}` of a head is {reason}, and must be a plain tensor", found=shown(part))
            if part.device != self.hidden.device and part.numel() != 1:
                raise fail("E713", f"`{name}` of a head is on {part.device}, and `hidden` on {self.hidden.device}")
        elif name == "scale" and (number := as_float(part)) is not None:
            object.__setattr__(self, name, number)
        elif name != "bias" or part is not None:
            raise fail("E722", f"`{name}` of a head must be a tensor", found=type(part).__name__)

    @property
    def is_empty(self) -> bool:
        """Whether an unsplit head has no rows, no classes or no features."""
        return self.group is None and 0 in (*self.shape, self.hidden.shape[-1])

    @property
    def shape(self) -> torch.Size:
        """The shape of the logits; of a split head, that of this rank's part."""
        return torch.Size((*self.hidden.shape[:-1], self.weight.shape[0]))

    @property
    def classes(self) -> int:
        """The number of classes, those of other ranks included."""
        return self.weight.shape[0] if self.shard is None else self.shard.classes

    @property
    def dtype(self) -> torch.dtype:
        """The type of the logits."""
        return self.hidden.dtype

    @property
    def device(self) -> torch.device:
        return self.hidden.device

    @property
    def parts(self) -> dict[str, Tensor]:
        """The tensors of the head, by name."""
        found = {"hidden": self.hidden, "weight": self.weight, "bias": self.bias, "scale": self.scale}
        return {name: part for name, part in found.items() if isinstance(part, Tensor)}

    def dim(self) -> int:
        return self.hidden.dim()

    def numel(self) -> int:
        return self.shape.numel()

    def is_floating_point(self) -> bool:
        return True

    def with_parts(self, parts: dict[str, Tensor]) -> Linear:
        """The same head over other tensors."""
        changed = replace(self, group=None, **parts)  # type: ignore[arg-type]
        object.__setattr__(changed, "group", self.group)
        object.__setattr__(changed, "shard", self.shard)
        return changed

    @property
    def requires_grad(self) -> bool:
        return any(part.requires_grad for part in self.parts.values())

    def detach(self) -> Linear:
        """The same head without gradient."""
        return self.with_parts({name: part.detach() for name, part in self.parts.items()})

    def under_autocast(self) -> Linear:
        """The head with its product in the type of autocast, where autocast is enabled."""
        device = self.device.type
        if not torch.is_autocast_enabled(device) or self.dtype == torch.float64:
            return self
        return self.with_parts({"hidden": self.hidden.to(torch.get_autocast_dtype(device))})

    def transposed(self) -> Linear:
        """The head whose logits [classes, rows] are the transpose of this one's [rows, classes]."""
        if self.group is not None or self.hidden.dim() != 2:
            raise fail("E723", "this reads the scores along rows, and the head is split over ranks")
        hidden, weight = self.weight.to(self.dtype), self.hidden
        if self.bias is not None:
            hidden = torch.cat([hidden, self.bias.to(self.dtype).unsqueeze(1)], 1)
            weight = torch.cat([weight, weight.new_ones(weight.shape[0], 1)], 1)
        return Linear(hidden, weight, scale=self.scale, softcap=self.softcap)

    def logits(self) -> Tensor:
        """The logits as one tensor; E723 where the head is split over ranks."""
        if self.group is not None:
            raise fail("E723", "this needs all scores at once, and the head is split over ranks",
                       help='load the objective with `backend="torch"`, `"c"` or `"auto"`, and not compiled')  # fmt: skip
        dtype = self.hidden.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        scores = functional.linear(self.hidden, self.weight.to(dtype), bias)
        if isinstance(self.scale, Tensor) or self.scale != 1:
            scale = self.scale
            scores = scores * (scale.to(scores.device, dtype).reshape(()) if isinstance(scale, Tensor) else scale)
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)


def _is_group(group: object) -> bool:
    """Whether it is a process group of which this rank is a member."""
    return distributed.is_available() and isinstance(group, distributed.ProcessGroup)


def Pairs(x: Tensor, y: Tensor, *, cosine: bool = True, scale: Tensor | float = 1.0) -> Linear:  # noqa: N802
    """The similarities of all pairs of two batches, given as the vectors and never formed as a matrix:

        s_ij = scale * <x_i, y_j> / (|x_i| |y_j|)        (without `cosine`: scale * <x_i, y_j>)

        objective(s=lossc.Pairs(x, y))

    Arguments:
        x: [rows, features]
        y: [columns, features]
        cosine: whether vectors are normalised. A vector of length 0 has similarity 0 to every other.
        scale: a number, or a tensor with one entry, such as a learned inverse temperature.

    Returns a `Linear` whose weight is `y`; both batches get gradients.

    Raises:
        LosscError: E722 where `x` and `y` are not two matrices with the same number of features.
    """
    for name, each in (("x", x), ("y", y)):
        if not isinstance(each, Tensor) or each.dim() != 2 or not multiplies(each) or unusable(each):
            found = shown(each) if isinstance(each, Tensor) else type(each).__name__
            raise fail("E722", f"`{name}` of pairs must be [rows, features] of real numbers", found=found)
    an_instance("cosine", cosine, bool, "True or False", code="E722")
    if x.shape[1] != y.shape[1]:
        raise fail("E722", "the vectors of pairs must be of one length", found=f"x is {shown(x)}, y is {shown(y)}")
    left, right = (functional.normalize(each, dim=-1) for each in (x, y)) if cosine else (x, y)
    return Linear(left, right, scale=scale)
