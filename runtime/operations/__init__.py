"""The torch functions that emitted programs call as `operations.…`.

Each stands alone but for torch, `math` and functions of this package, so that `standalone` can paste it. All are twice
differentiable and give finite gradients wherever the mathematics does. A `mask` of None admits every entry; what a mask
excludes has neither value nor gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossc.runtime.operations.along import (
    ahead,
    cumlogsumexp,
    cummax,
    cumprod,
    cumsum,
    log_softmax,
    rank,
    rank_of_all,
    scan,
    shift,
    softmax,
    sort,
    sort_of_all,
    topk,
)
from lossc.runtime.operations.derivatives import called, folded, gradient, held, tracked, unfolded
from lossc.runtime.operations.elementwise import (
    add,
    clip,
    log1mexp,
    log_normcdf,
    logaddexp,
    logsigmoid,
    maximum,
    minimum,
    mul,
    power,
    ratio,
    row_exp,
    row_log,
    sign,
    softplus,
    trigamma,
    weigh,
    xlogy,
)
from lossc.runtime.operations.folds import fold
from lossc.runtime.operations.layout import (
    align,
    constant,
    expand,
    extent,
    index,
    integer,
    least,
    number,
    read,
    take,
    together,
    zeros,
)
from lossc.runtime.operations.leaves import leaf_ranks, leaf_svdvals, leafwise, sorted_leaves, spread
from lossc.runtime.operations.linear import norm
from lossc.runtime.operations.matrices import eigvals, logdet, solve, svdvals
from lossc.runtime.operations.reductions import (
    group_sum,
    masked_all,
    masked_any,
    masked_argmax,
    masked_count,
    masked_logsumexp,
    masked_max,
    masked_mean,
    masked_min,
    masked_prod,
    masked_quantile,
    masked_std,
    masked_sum,
    masked_var,
)
from lossc.runtime.operations.statistics import centre, exponential, ties
from lossc.runtime.operations.transport import sinkhorn
from lossc.runtime.operations.untaken import attached

if TYPE_CHECKING:
    from lossc.runtime.operations.searches import found_or, implicit, root, root_slope, worst


def __getattr__(name: str) -> Any:
    """Searches are imported where one is needed: what keeps them out of traces imports the tracer of torch."""
    if name not in ("found_or", "implicit", "root", "root_slope", "worst"):
        raise AttributeError(name)
    from lossc.runtime.operations import searches

    return getattr(searches, name)


__all__ = [
    "add",
    "ahead",
    "align",
    "attached",
    "called",
    "centre",
    "clip",
    "constant",
    "cumlogsumexp",
    "cummax",
    "cumprod",
    "cumsum",
    "eigvals",
    "expand",
    "exponential",
    "extent",
    "fold",
    "folded",
    "found_or",
    "gradient",
    "group_sum",
    "held",
    "implicit",
    "index",
    "integer",
    "leaf_ranks",
    "leaf_svdvals",
    "leafwise",
    "least",
    "log1mexp",
    "log_normcdf",
    "log_softmax",
    "logaddexp",
    "logdet",
    "logsigmoid",
    "masked_all",
    "masked_any",
    "masked_argmax",
    "masked_count",
    "masked_logsumexp",
    "masked_max",
    "masked_mean",
    "masked_min",
    "masked_prod",
    "masked_quantile",
    "masked_std",
    "masked_sum",
    "masked_var",
    "maximum",
    "minimum",
    "mul",
    "norm",
    "number",
    "power",
    "rank",
    "rank_of_all",
    "ratio",
    "read",
    "root",
    "root_slope",
    "row_exp",
    "row_log",
    "scan",
    "shift",
    "sign",
    "sinkhorn",
    "softmax",
    "softplus",
    "solve",
    "sort",
    "sort_of_all",
    "sorted_leaves",
    "spread",
    "svdvals",
    "take",
    "ties",
    "together",
    "topk",
    "tracked",
    "trigamma",
    "unfolded",
    "weigh",
    "worst",
    "xlogy",
    "zeros",
]
