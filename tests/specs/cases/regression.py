"""Cases of std.regression."""

from __future__ import annotations

from functools import partial

from tests.oracles import regression as oracle
from tests.oracles.batches import Batch, uniform
from tests.oracles.rows import mean
from tests.specs.cases.model import Case


def of_error(call: str, **options: float) -> Case:
    name = call.partition("(")[0]
    term = partial(getattr(oracle, name), **options)
    return Case(
        call,
        "regression",
        f"mean[b, k]({call})",
        lambda batch: mean(term(batch["target"] - batch["pred"])),
        uses=f"regression ({name})",
    )


def with_spread(call: str, spread: str) -> Case:
    """A case with a second predicted quantity, positive, that carries gradient too."""
    name = call.partition("(")[0]

    def extra(batch: Batch) -> Batch:
        return {spread: 0.1 + (uniform(*batch["pred"].shape, seed=33) + 1)}

    return Case(
        call,
        "regression",
        f"mean[b, k]({call})",
        lambda batch: mean(getattr(oracle, name)(batch["target"] - batch["pred"], batch[spread])),
        uses=f"regression ({name})",
        declarations=f"input {spread} : positive[b, k]",
        extra=extra,
        inputs=frozenset({spread}),
    )


CASES = (
    of_error("mse()"),
    of_error("mae()"),
    of_error("huber()"),
    of_error("huber(error, delta = 0.5)", delta=0.5),
    of_error("pinball(error, tau = 0.9)", tau=0.9),
    of_error("expectile(error, tau = 0.2)", tau=0.2),
    of_error("log_cosh()"),
    of_error("charbonnier()"),
    with_spread("gaussian_nll(error, variance)", "variance"),
    with_spread("laplace_nll(error, scale)", "scale"),
    Case(
        "poisson_nll(pred, events)",
        "regression",
        "mean[b, k](poisson_nll(pred, events))",
        lambda batch: mean(oracle.poisson_nll(batch["pred"], batch["events"])),
        uses="regression (poisson_nll)",
        declarations="data events : nonneg[b, k]",
        extra=lambda batch: {"events": (4 * batch["target"].abs()).floor()},
        finite=False,
    ),
)
