"""The core: a typed graph of about a dozen node types, the one form between what was written and what runs.

Nodes are immutable and hash-consed: equal expressions are one object, compared with `is`. Each node derives its named axes and
its domain (the interval of its values) from its parts. There is no absence in the graph: where a value may be absent, masks
say so. An entry that `Reduce.where`, or the condition of the function `where`, excludes is *unseen*: it contributes neither
value nor gradient, even if it is NaN.

| module | what it has |
|---|---|
| `node` | `Node`: axes, domain, parts, digest; interning |
| `leaves` | `Input`, `Const`, `Param`, `Index`, `Size`, `Draw`, `Local` |
| `operations` | `Map`, `Reduce`, `Select`, `Slice`, `Rename`, `Along`, `StopGrad`, `Call` |
| `build` | constructors that flatten sums and products and join masks |
| `traverse` | walking, rewriting and substituting without recursion |
| `gradients` | through which nodes gradient passes |
"""

from __future__ import annotations

from lossc.compiler.core.build import (
    HALF,
    INFINITY,
    ONE,
    PI,
    ZERO,
    add,
    all_of,
    apply,
    conjuncts,
    const,
    div,
    mul,
    neg,
    power,
    sub,
    where,
)
from lossc.compiler.core.gradients import differentiable, differentiable_leaf
from lossc.compiler.core.leaves import RUN, Const, Draw, Index, Input, Local, Param, Size
from lossc.compiler.core.node import NO_AXES, Axes, Node
from lossc.compiler.core.operations import (
    ALONG_OPS,
    BINDING,
    REDUCE_OPS,
    Along,
    AlongOp,
    Call,
    Map,
    Reduce,
    ReduceOp,
    Rename,
    Select,
    Slice,
    StopGrad,
    mixed_axes,
    own_axes,
)
from lossc.compiler.core.traverse import remembered, rewrite, substitute, walk

__all__ = [
    "ALONG_OPS",
    "BINDING",
    "HALF",
    "INFINITY",
    "NO_AXES",
    "ONE",
    "PI",
    "REDUCE_OPS",
    "RUN",
    "ZERO",
    "Along",
    "AlongOp",
    "Axes",
    "Call",
    "Const",
    "Draw",
    "Index",
    "Input",
    "Local",
    "Map",
    "Node",
    "Param",
    "Reduce",
    "ReduceOp",
    "Rename",
    "Select",
    "Size",
    "Slice",
    "StopGrad",
    "add",
    "all_of",
    "apply",
    "conjuncts",
    "const",
    "differentiable",
    "differentiable_leaf",
    "div",
    "mixed_axes",
    "mul",
    "neg",
    "own_axes",
    "power",
    "remembered",
    "rewrite",
    "sub",
    "substitute",
    "walk",
    "where",
]
