"""Linear heads in place of scores: equal to their product, on every schedule, and never more than a block of it."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.runtime import fused_cases as cases
from tests.specs.cases import CASES
from tests.specs.compare import assert_equal, evaluate
from tests.specs.variants import VARIANTS
from torch import Tensor

import lossc
from lossc import LosscError, Objective
from lossc.runtime.backends import heads, passage
from lossc.runtime.backends.heads import Headed
from lossc.runtime.backends.passage import Passage
from lossc.runtime.backends.projection import Projection

FEATURES = 5


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows in a block, and a block in several slices."""
    monkeypatch.setattr(heads, "CPU_BYTES", 1)
    monkeypatch.setattr(heads, "CPU_ROWS", 3)
    monkeypatch.setattr(passage, "SLICE_BYTES", 1)
    monkeypatch.setattr(heads, "_widening", lambda head: 0)


def scores_of(batch: dict[str, Tensor]) -> list[str]:
    """The scores of a batch that a head may make."""
    return [name for name in ("logits", "teacher", "forget.logits", "retain.logits") if name in batch]


WITH_SCORES = [name for name, case in CASES.items() if scores_of(case.batch(seed=3))]


@cache
def of_library(name: str, backend: str) -> Objective:
    return lossc.loads(CASES[name].program, backend=backend)


@pytest.mark.parametrize(
    ("backend", "name"), [("c", name) for name in WITH_SCORES] + [("torch", name) for name in WITH_SCORES[::5]]
)
def test_equals_the_reference_over_the_library(backend: str, name: str) -> None:
    case = CASES[name]
    batch = VARIANTS["hidden"](case.batch(seed=3))

    def headed(tensors: dict[str, Tensor]) -> Tensor:
        made = {}
        for key in scores_of(batch):
            x = tensors[key]
            made[key] = lossc.Linear(x, torch.eye(x.shape[-1], dtype=x.dtype))
        return of_library(name, backend)({**tensors, **made}).loss

    inputs = case.differentiable & batch.keys()
    expected = evaluate(lambda tensors: of_library(name, "reference")(**tensors).loss, batch, inputs)
    assert_equal(evaluate(headed, batch, inputs), expected)


class Given:
    """A head with leaves of its own, and a batch for one of the texts of the fused cases."""

    def __init__(self, text: str, dtype: torch.dtype = torch.float64, *, v: int = 7, plain: bool = False) -> None:
        torch.manual_seed(1)
        self.batch = cases.batch(v=v, dtype=dtype)
        b, t, v = self.batch["logits"].shape

        def leaf(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64).to(dtype).requires_grad_()

        parts = {"hidden": leaf(b, t, FEATURES), "weight": leaf(v, FEATURES)}
        if not plain:
            parts |= {"bias": leaf(v), "scale": torch.tensor(0.7, dtype=dtype, requires_grad=True)}
        self.parts = parts
        self.softcap = None if plain else 6.0
        program = cases.objective(text, "reference").program
        self.rest = {name: x for name, x in self.batch.items() if name in program.tensors and name != "logits"}

    def head(self) -> lossc.Linear:
        return lossc.Linear(**self.parts, softcap=self.softcap)

    def leaves(self) -> dict[str, Tensor]:
        return {name: x for name, x in self.parts.items() if x.requires_grad}


def gradients(given: Given, loss: Tensor, **options: bool) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, list(given.leaves().values()), allow_unused=True, **options))


@pytest.mark.parametrize("text", [name for name in cases.TEXTS if name != "what is computed"])
@pytest.mark.parametrize("backend", ["torch", "c", "auto"])
def test_every_part_of_a_head_gets_its_gradient(text: str, backend: str) -> None:
    given = Given(text)
    found = cases.objective(text, backend)(logits=given.head(), **given.rest).loss
    expected = cases.objective(text, "reference")(logits=given.head().logits(), **given.rest).loss
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(given, found), gradients(given, expected))


@pytest.mark.parametrize("backend", ["torch", "c"])
def test_what_a_torch_operation_computes_from_scores(backend: str) -> None:
    given = Given("what is computed")
    found = cases.objective("what is computed", backend)(logits=given.head(), **given.rest).loss
    expected = cases.objective("what is computed", "reference")(logits=given.head().logits(), **given.rest).loss
    torch.testing.assert_close(gradients(given, found), gradients(given, expected))


def counted(monkeypatch: pytest.MonkeyPatch, name: str = "scores") -> list[tuple[int, ...]]:
    """The shapes of the scores that were made."""
    shapes: list[tuple[int, ...]] = []
    kept = getattr(Projection, name)

    def counting(self: Projection, hidden: Tensor, rows: Tensor | None) -> Tensor:
        shapes.append((hidden.shape[0], hidden.shape[0] if rows is None else rows.numel()))
        made: Tensor = kept(self, hidden, rows)
        return made

    monkeypatch.setattr(Projection, name, counting)
    return shapes


def test_scores_are_made_once_where_rows_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = counted(monkeypatch)
    given = Given("four terms")
    cases.objective("four terms", "c")(logits=given.head(), **given.rest).loss.backward()
    assert sum(rows for rows, _ in shapes) == 6
    assert max(rows for rows, _ in shapes) <= 3


def test_scores_are_made_again_where_rows_are_coupled(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = counted(monkeypatch)
    given = Given("coupled")
    cases.objective("coupled", "c")(logits=given.head(), **given.rest).loss.backward()
    assert sum(rows for rows, _ in shapes) == 12


def test_pairs_that_fit_into_a_block_need_their_scores_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "CPU_ROWS", 6)
    shapes = counted(monkeypatch)
    objective, reference = (
        lossc.loads("dpo(beta=0.1) + 0.2*sft", setting="pairs", backend=b) for b in ("c", "reference")
    )
    tensors = lossc.example_inputs(objective, {"pair": 4, "t": 3, "v": 9}, dtype=torch.float64)
    shape = tensors.pop("logits").shape[:-1]
    hidden = torch.randn(*shape, FEATURES, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, FEATURES, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(objective(logits=lossc.Linear(hidden, weight), **tensors).loss, [hidden, weight])
    expected = torch.autograd.grad(reference(logits=hidden @ weight.T, **tensors).loss, [hidden, weight])
    torch.testing.assert_close(found, expected)
    assert sum(rows for rows, _ in shapes) == 24


def test_rows_that_do_not_count_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = counted(monkeypatch)
    objective = lossc.loads("nll + 0.1*z_loss", setting="tokens", backend="c")
    labels = torch.tensor([[0, 3, 1, 2], [1, 1, 0, 4]])
    mask = torch.tensor([[True, False, False, False], [False, True, False, False]])
    hidden = torch.randn(2, 4, FEATURES, dtype=torch.float64)
    hidden[~mask] = torch.nan
    hidden.requires_grad_()
    weight = torch.randn(5, FEATURES, dtype=torch.float64, requires_grad=True)
    objective(logits=lossc.Linear(hidden, weight), labels=labels, mask=mask).loss.backward()
    assert sum(kept for _, kept in shapes) == 2
    assert weight.grad is not None and hidden.grad is not None
    assert weight.grad.isfinite().all() and (hidden.grad[~mask] == 0).all()


def test_no_row_counts() -> None:
    objective = lossc.loads("nll", setting="tokens", backend="c")
    weight = torch.randn(5, FEATURES, requires_grad=True)
    labels = torch.full((2, 4), -100)
    result = objective(logits=lossc.Linear(torch.randn(2, 4, FEATURES), weight), labels=labels, mask=labels >= 0)
    result.loss.backward()
    assert result.loss == 0 and weight.grad is not None and (weight.grad == 0).all()


@pytest.mark.parametrize("frozen", ["hidden", "weight", "bias", "scale"])
def test_frozen_parts_cost_nothing(frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given("four terms")
    given.parts[frozen] = given.parts[frozen].detach()
    started: list[frozenset[str]] = []
    kept = Projection.start

    def starting(self: Projection, wanted: frozenset[str], *, whole: bool) -> dict[str, Tensor]:
        started.append(wanted)
        return kept(self, wanted, whole=whole)

    monkeypatch.setattr(Projection, "start", starting)
    found = cases.objective("four terms", "c")(logits=given.head(), **given.rest).loss
    expected = cases.objective("four terms", "reference")(logits=given.head().logits(), **given.rest).loss
    torch.testing.assert_close(gradients(given, found), gradients(given, expected))
    assert started == [frozenset(given.leaves())]


def test_tied_weights_get_both_gradients() -> None:
    torch.manual_seed(0)
    table = torch.randn(9, FEATURES, dtype=torch.float64, requires_grad=True)
    tokens = torch.randint(9, (2, 4))
    found = []
    for backend in ("c", "reference"):
        objective = lossc.loads("nll + 0.1*entropy", setting="tokens", backend=backend)
        head = lossc.Linear(torch.tanh(table[tokens]), table)
        loss = objective(logits=head if backend == "c" else head.logits(), labels=tokens, mask=tokens >= 0).loss
        found.append(torch.autograd.grad(loss, table))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("backend", ["torch", "c"])
def test_a_teacher_that_is_a_head_itself(backend: str) -> None:
    given = Given("two distributions")
    hidden, weight = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    other = {**given.rest, "teacher": lossc.Linear(hidden, weight)}
    found = cases.objective("two distributions", backend)(logits=given.head(), **other).loss
    other = {**given.rest, "teacher": hidden @ weight.T}
    expected = cases.objective("two distributions", "reference")(logits=given.head().logits(), **other).loss
    torch.testing.assert_close(gradients(given, found), gradients(given, expected))


@pytest.mark.parametrize("backend", ["torch", "c"])
def test_upstream_gradients_of_rows(backend: str) -> None:
    """Values of each row are differentiable by whatever comes from above."""
    given, found = Given("four terms"), []
    for each in (backend, "reference"):
        scores = given.head() if each == backend else given.head().logits()
        result = cases.objective("four terms", each)(logits=scores, **given.rest, values=True)
        part = result.parts["ce"][0].values
        assert part is not None
        upstream = torch.arange(6, dtype=torch.float64).reshape(2, 3)
        found.append(gradients(given, (part.value * upstream).sum()))
    torch.testing.assert_close(*found)


def test_other_upstream_gradients_than_expected_and_the_same_graph_twice() -> None:
    given = Given("four terms")
    expected = gradients(
        given, cases.objective("four terms", "reference")(logits=given.head().logits(), **given.rest).loss
    )
    loss = cases.objective("four terms", "c")(logits=given.head(), **given.rest).loss
    tripled = gradients(given, 3 * loss, retain_graph=True)
    torch.testing.assert_close(tripled, [3 * x for x in expected if x is not None])
    torch.testing.assert_close(gradients(given, loss), expected)


def test_terms_apart() -> None:
    given, found = Given("four terms"), []
    for backend in ("c", "reference"):
        scores = given.head() if backend == "c" else given.head().logits()
        result = cases.objective("four terms", backend)(logits=scores, **given.rest, per_term=True)
        found.append([*gradients(given, result.terms["h"], retain_graph=True), *gradients(given, result.terms["ce"])])
    torch.testing.assert_close(*found)


def test_shared_denominators() -> None:
    given, found = Given("four terms"), []
    for backend in ("c", "reference"):
        objective = cases.objective("four terms", backend)
        scores = given.head() if backend == "c" else given.head().logits()
        one = objective.denominators(**given.rest)
        found.append(gradients(given, objective(logits=scores, **given.rest, denominators=one + one).loss))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_errs_no_more_than_the_product(dtype: torch.dtype) -> None:
    """Against the gradient in double precision, for the weight as well."""
    given, errors = Given("four terms", dtype, v=501, plain=True), []
    exact = Given("four terms", torch.float64, v=501, plain=True)
    exact.parts = {name: x.detach().double().requires_grad_() for name, x in given.parts.items()}
    exact.rest = cases.of_type(given.rest, torch.float64)
    loss = cases.objective("four terms", "reference")(logits=exact.head().logits(), **exact.rest).loss
    expected = gradients(exact, loss)
    for backend in ("c", "reference"):
        scores = given.head() if backend == "c" else given.head().logits()
        found = gradients(given, cases.objective("four terms", backend)(logits=scores, **given.rest).loss)
        errors.append([float((x.double() - y).norm() / y.norm()) for x, y in zip(found, expected, strict=True)])
    for ours, eager in zip(*errors, strict=True):
        assert ours <= 1.5 * eager


def test_under_autocast() -> None:
    given = Given("four terms", torch.float32, plain=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = cases.objective("four terms", "c")(logits=given.head(), **given.rest)
        expected = cases.objective("four terms", "reference")(logits=given.head().logits(), **given.rest)
    assert result.loss.dtype == torch.float32
    torch.testing.assert_close(result.loss, expected.loss, rtol=1e-4, atol=1e-4)
    found, wanted = gradients(given, result.loss), gradients(given, expected.loss)
    assert all(x is not None and x.dtype == torch.float32 for x in found)
    torch.testing.assert_close(found, wanted, rtol=3e-2, atol=3e-3)


@pytest.mark.parametrize("backend", ["torch", "c"])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_as_one_graph(backend: str) -> None:
    torch._dynamo.reset()
    given = Given("four terms", plain=True)
    objective = cases.objective("four terms", backend)
    compiled = torch.compile(lambda hidden, weight: objective(logits=lossc.Linear(hidden, weight), **given.rest).loss,
                             backend="aot_eager", fullgraph=True)  # fmt: skip
    expected = objective(logits=given.head(), **given.rest).loss
    torch.testing.assert_close(compiled(*given.parts.values()), expected)


def test_what_needs_all_scores_at_once_forms_them() -> None:
    """A sum over rows in the exponent of another row: no block may be done alone."""
    text = "\nminimize\n  all : logsumexp[b, t, v](logits) + mean[b, t](max[v](logits - mean[b](logits)))\n"
    given, found = Given(text), []
    for backend in ("c", "reference"):
        scores = given.head() if backend == "c" else given.head().logits()
        found.append(gradients(given, cases.objective(text, backend)(logits=scores).loss))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("text", ["info_nce", "symmetric_nce", "sigmoid_pairs(bias = -1)"])
@pytest.mark.parametrize("backend", ["torch", "c", "auto"])
def test_all_pairs_of_a_batch(text: str, backend: str) -> None:
    """The diagonal is counted from the first row of the batch, not of a block."""
    torch.manual_seed(0)
    x, y = (torch.randn(7, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = lossc.loads(text, setting="embeddings", backend=backend)(s=lossc.Pairs(x, y)).loss
    expected = lossc.loads(text, setting="embeddings", backend="reference")(x=x, y=y).loss
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, [x, y]), torch.autograd.grad(expected, [x, y]))


def test_pairs_of_inner_products() -> None:
    x, y = torch.randn(3, 4), torch.randn(5, 4)
    torch.testing.assert_close(lossc.Pairs(x, y, cosine=False, scale=2.0).logits(), 2 * x @ y.T)
    with pytest.raises(LosscError, match="of pairs must be"):
        lossc.Pairs(x, y[0])


@pytest.mark.parametrize("size", ["size[b]", "size[t]", "(1 + index[b])", "(2 + index[t])"])
def test_positions_and_extents_of_rows_are_those_of_the_batch(size: str) -> None:
    text = f"\nminimize\n  all : mean[b, t](logsumexp[v](logits / {size}) * {size})\n"
    given, found = Given(text), []
    for backend in ("c", "reference"):
        scores = given.head() if backend == "c" else given.head().logits()
        found.append(gradients(given, cases.objective(text, backend)(logits=scores).loss))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(5, 7)}, "`hidden` must end with the features"),
        ({"bias": torch.zeros(4)}, "`bias` must have one entry for each class"),
        ({"scale": torch.zeros(2)}, "`scale` of a head must have one entry"),
        ({"softcap": -1.0}, "`softcap` of a head must be positive"),
        ({"hidden": torch.zeros(2, 5, dtype=torch.long)}, "must hold real numbers"),
        ({"weight": None}, "`weight` of a head must be a tensor"),
    ],
)
def test_what_is_no_head(change: dict[str, object], message: str) -> None:
    parts = {"hidden": torch.zeros(2, 5), "weight": torch.zeros(9, 5), **change}
    with pytest.raises(LosscError, match=message) as found:
        lossc.Linear(**parts)  # type: ignore[arg-type]
    assert found.value.diagnostics[0].code == "E722"


def test_a_head_of_another_shape_is_named_with_its_axis() -> None:
    objective = lossc.loads("nll", setting="tokens")
    labels = torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(LosscError, match="along `t`"):
        objective(logits=lossc.Linear(torch.zeros(2, 3, 5), torch.zeros(9, 5)), labels=labels, mask=labels == 0)
    with pytest.raises(LosscError, match="3 dimensions"):
        objective(logits=lossc.Linear(torch.zeros(3, 5), torch.zeros(9, 5)), labels=labels, mask=labels == 0)


def test_nothing_is_kept_that_is_as_large_as_the_scores() -> None:
    given = Given("four terms", v=501)
    loss = cases.objective("four terms", "c")(logits=given.head(), **given.rest).loss
    node = loss.grad_fn
    stack, seen, largest = [node], set(), 0
    while stack:
        each = stack.pop()
        if each is None or each in seen:
            continue
        seen.add(each)
        call = getattr(each, "call", None)
        if isinstance(call, Passage):
            largest = max(largest, *(x.numel() for x in call.known.tensors.values()))
        stack.extend(next_ for next_, _ in each.next_functions)
    assert 0 < largest < given.batch["logits"].numel()


def test_schedules() -> None:
    """Gradients with the block only where every weighed root is a plain sum over the axes that are cut."""
    objective = cases.objective("coupled", "c")
    fused = objective.variant().run.__self__  # type: ignore[attr-defined]
    headed: Headed = fused.headed(0)
    given = Given("coupled")
    head = {"logits": given.head()}
    sizes = {"b": 2, "t": 3, "v": 7}
    assert not headed.schedule(headed.components[0], sizes, head, (), headed.moving).early
    assert headed.schedule(headed.components[0], sizes, head, (), headed.moving).axes == ("b", "t")
