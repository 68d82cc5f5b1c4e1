"""Cases of std.dependence."""

from __future__ import annotations

from collections.abc import Callable

from tests.oracles import dependence as oracle
from tests.specs.cases.model import Case
from torch import Tensor

DISTANCES = "norm[d](x - x[b -> j]), norm[d](y - y[b -> j])"
KERNELS = "exp(-sum[d]((x - x[b -> j])^2)), exp(-sum[d]((y - y[b -> j])^2))"


def gaussian(x: Tensor) -> Tensor:
    return ((x[:, None] - x[None, :]) ** 2).sum(-1).neg().exp()


def of_pairs(name: str, arguments: str, matrix: Callable[[Tensor], Tensor]) -> Case:
    term = getattr(oracle, name)
    call = f"{name}({arguments})"
    return Case(
        f"{name}()",
        "embeddings",
        call,
        lambda batch: term(matrix(batch["x"]), matrix(batch["y"])),
        uses=f"dependence ({name})",
        coupled=True,
    )


CASES = (
    of_pairs("distance_covariance", DISTANCES, oracle.distances),
    of_pairs("distance_correlation", DISTANCES, oracle.distances),
    of_pairs("hsic", KERNELS, gaussian),
    Case(
        "centred()",
        "embeddings",
        "mean[b, j](centred(norm[d](x - x[b -> j]))^2)",
        lambda batch: (oracle.centred(oracle.distances(batch["x"])) ** 2).mean(),
        uses="dependence (centred)",
        coupled=True,
    ),
)
