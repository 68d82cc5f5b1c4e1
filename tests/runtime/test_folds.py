"""`fold` against enumeration, dynamic programmes by hand and `scan`; what it does not admit has neither value nor gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from tests.runtime.modules import as_module
from torch import Tensor

import lossc
from lossc.compiler.check import check_source
from lossc.grammar.source import Source

HEAD = """
axis b : batch
axis t
axis s
input x    : real[b, t]
input z    : real[b, t, s]
input w    : real[s, r]
input q    : real[b, s]
data  m    : mask[b, t]
data  keep : mask[b]
data  y    : label[b, t] in s
"""

Given = dict[str, Tensor]


def given(t: int = 5, b: int = 3) -> Given:
    generator = torch.Generator().manual_seed(t + b)
    shapes = {"x": (b, t), "z": (b, t, 4), "w": (4, 4), "q": (b, 4)}
    found = {name: torch.randn(*shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    masks = {"m": torch.rand(b, t, generator=generator) < 0.7, "keep": torch.arange(b) != 1}
    return {**{name: x.requires_grad_() for name, x in found.items()}, **masks,
            "y": torch.randint(-1, 4, (b, t), generator=generator)}  # fmt: skip


def objective(*entries: str, backend: str = "reference") -> lossc.Objective:
    text = "\n".join([HEAD, "minimize", *(f"  f{at} : {entry}" for at, entry in enumerate(entries))])
    return lossc.loads(text, backend=backend).double()


def agree(entry: str, expected: Callable[[Given], Tensor], tensors: Given | None = None) -> None:
    """Equal values, and equal gradients by all that the entry reads."""
    tensors = tensors or given()
    made = objective(entry)
    read = {name: value for name, value in tensors.items() if name in made.program.tensors}
    leaves = [value for value in read.values() if value.requires_grad]
    loss, wanted = made(read).loss, expected(tensors)
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=1e-12)
    for found, slope in zip(*(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
                              for value in (loss, wanted)), strict=True):  # fmt: skip
        torch.testing.assert_close(found, slope, rtol=1e-9, atol=1e-11)


def stepwise(step: Callable[[Tensor, int], Tensor], start: Tensor, tensors: Given) -> Tensor:
    """The recurrence with a step left out, row by row, where `m` is false."""
    value = start
    for at in range(tensors["x"].shape[1]):
        admitted = tensors["m"][:, at].reshape(-1, *[1] * (value.dim() - 1))
        value = torch.where(admitted, step(value, at), value)
    return value


# ------------------------------------------------------------------------------------------------ recurrences


@pytest.mark.parametrize(("t", "b"), [(5, 3), (1, 2), (4, 1)])
def test_a_linear_one_is_a_scan(t: int, b: int) -> None:
    tensors = given(t, b)
    made = (objective(f"mean[b]({text})") for text in ("fold[t, a : real](0.9 * a + x, 0)", "scan[t](x, 0.9)[t = size[t] - 1]"))
    one, other = (each(x=tensors["x"]).loss for each in made)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(*(torch.autograd.grad(value, tensors["x"])[0] for value in (one, other)))


RECURRENCES: dict[str, tuple[str, Callable[[Given], Tensor]]] = {
    "rows pass through": (
        "mean[b](fold[t, a : real where m](tanh(a * x + 1), 0.5))",
        lambda g: stepwise(lambda a, at: torch.tanh(a * g["x"][:, at] + 1), torch.full((3,), 0.5).double(), g).mean(),
    ),
    "the start has rows": (
        "sum[b, s](fold[t, a : real where m](sin(a) * x, q))",
        lambda g: stepwise(lambda a, at: a.sin() * g["x"][:, at, None], g["q"], g).sum(),
    ),
    "the step": (
        "sum[b](fold[t, a : real where m](a / (index[t] + 1) + x / size[t], 1))",
        lambda g: stepwise(lambda a, at: a / (at + 1) + g["x"][:, at] / 5, torch.ones(3).double(), g).sum(),
    ),
    "of all of t": (
        "sum[b](fold[t, a : real where m](tanh(a) + x - mean[t where m](x), 1))",
        lambda g: stepwise(
            lambda a, at: a.tanh() + g["x"][:, at] - (g["x"] * g["m"]).sum(1) / g["m"].sum(1).clamp(min=1),
            torch.ones(3).double(), g,
        ).sum(),
    ),
    "a gradient of what is outside": (
        "sum[b](fold[t, a : real where m](tanh(a) + grad[x](x^3), 1))",
        lambda g: stepwise(lambda a, at: a.tanh() + 3 * g["x"][:, at] ** 2, torch.ones(3).double(), g).sum(),
    ),
    "axes are mixed": (
        "mean[b](norm[s](fold[t, a : real[s] where m](softmax[s](a) * z + sum[s](a * w)[r -> s], q)))",
        lambda g: stepwise(lambda a, at: a.softmax(-1) * g["z"][:, at] + a @ g["w"], g["q"], g).norm(dim=-1).mean(),
    ),
    "an entry is read": (
        "sum[b](fold[t, a : real[s] where m](tanh(a) + z[s = 1], q)[s = 2])",
        lambda g: stepwise(lambda a, at: a.tanh() + g["z"][:, at, 1:2], g["q"], g)[:, 2].sum(),
    ),
    "absent is left out": (
        "sum[b](fold[t, a : real where m](tanh(a) + z[s = y], 0))",
        lambda g: stepwise(
            lambda a, at: torch.where(g["y"][:, at] >= 0,
                                      a.tanh() + g["z"][:, at].gather(1, g["y"][:, at, None].clamp(min=0))[:, 0], a),
            torch.zeros(3).double(), g,
        ).sum(),
    ),
    "one inside another's steps": (
        "sum[b](fold[t, a : real where m](tanh(a) + x * fold[t, e : real](e / 2 + x, 1), 1))",
        lambda g: stepwise(
            lambda a, at: a.tanh() + g["x"][:, at] * ((g["x"] * 0.5 ** torch.arange(4, -1, -1)).sum(1) + 0.5**5),
            torch.ones(3).double(), g,
        ).sum(),
    ),
    "a mask is a number": (
        "sum[b](x[t = 0] + fold[t, a : real where m](a + (a > 0), x[t = 0] > 0))",
        lambda g: (g["x"][:, 0] + stepwise(lambda a, at: a + (a > 0), (g["x"][:, 0] > 0).double(), g)).sum(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECURRENCES)
def test_a_recurrence_by_hand(name: str) -> None:
    agree(*RECURRENCES[name])


def test_two_steps_back() -> None:
    """A second entry carries the value before the last."""
    text = """
axis b : batch
axis t
axis lag = {last, before}
input x : real[b, t]
let last = fold[t, a : real[lag]](a[lag = last] + a[lag = before] if index[lag] == 0 else a[lag = last], x[t = 0])
minimize
  f : sum[b](last[lag = last])
"""
    x = torch.tensor([[1.0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    assert lossc.loads(text)(x=x).loss == 21


LINEAR = (
    "fold[t, a : real](0.9 * a + x, 0)", "fold[t, a : real where m](a / 2 + x, 0)", "fold[t, a : real where m](a + x^2, 0)",
    "fold[t, a : real](a - sin(x) * (a + x), 0)", "scan[t, a : real](a + x, 0)", "scan[t, a : real where m](x * a + x, 0)",
    "sum[s](fold[t, a : real[s] where m](x * a + (z if x > 0 else 0), 0))",
)  # fmt: skip


@pytest.mark.parametrize("entry", LINEAR)
def test_the_scan_that_a_warning_writes_is_equal(entry: str) -> None:
    """W306 says what to write in place of a linear recurrence that begins at 0."""
    around = "sum[b, t](fill({}, 1))" if "scan" in entry else "sum[b]({})"
    found = check_source(Source("linear.loss", f"{HEAD}\nminimize\n  f : {around.format(entry)}\n")).problems.found
    (problem,) = [each for each in found if each.code == "W306"]
    instead = entry.replace(problem.span.text, problem.help[0].removeprefix("write `").removesuffix("`"))
    tensors = given()
    values = []
    for each in (entry, instead):
        made = objective(around.format(each))
        loss = made({name: x for name, x in tensors.items() if name in made.program.tensors}).loss
        values.append((loss, torch.autograd.grad(loss, tensors["x"])[0]))
    torch.testing.assert_close(*values)


def test_what_no_scan_says_draws_no_warning() -> None:
    for entry in ("fold[t, a : real](a * a + x, 0)", "fold[t, a : real](x * a + x, 1)", "fold[t, a : real](x / (1 + a^2), 0)",
                  "fold[t, a : real](max(a, x), 0)", "fold[t, a : real](a / 2 + z[s = y], 0)"):  # fmt: skip
        found = check_source(Source("fold.loss", f"{HEAD}\nminimize\n  f : sum[b]({entry})\n")).problems.found
        assert not any(problem.code == "W306" for problem in found)


# ------------------------------------------------------------------------------------------------ dynamic programmes


def test_the_forward_algorithm_sums_over_all_paths() -> None:
    """A hidden Markov model: p(x) is the sum over paths of pi_{s_1} prod A_{s, s'} prod p(x_t | s_t)."""
    entry = """-mean[b](logsumexp[s](fold[t, a : real[s] where index[t] > 0](
    z + logsumexp[s](a + log_softmax[r](w))[r -> s], z[t = 0] + log_softmax[s](q))))"""

    def enumerated(g: Given) -> Tensor:
        steps, first = g["w"].log_softmax(1), g["q"].log_softmax(1)
        totals = []
        for path in product(range(4), repeat=3):
            own = sum(g["z"][:, at, state] for at, state in enumerate(path))
            totals.append(first[:, path[0]] + own + sum(steps[i, j] for i, j in pairwise(path)))
        return -torch.stack(totals).logsumexp(0).mean()

    agree(entry, enumerated, given(t=3))


def test_the_posterior_is_the_gradient_of_the_log_partition() -> None:
    text = HEAD + """
let log_z = logsumexp[s](fold[t, a : real[s] where m](z + logsumexp[s](a + w)[r -> s], 0))
minimize
  f : sum[b, t](norm[s](grad[z](log_z))^2)
monitor
  g : sum[b, t where m](abs(sum[s](grad[z](log_z)) - 1))
"""
    tensors = {name: value for name, value in given().items() if name in ("z", "w", "m")}
    made = lossc.loads(text).double()
    assert made(tensors).monitors["g"] < 1e-12
    z, w, m = tensors["z"], tensors["w"], tensors["m"]
    assert torch.autograd.gradcheck(lambda z, w: made(z=z, w=w, m=m).loss, (z, w))


def test_soft_dtw() -> None:
    """R_ij = c_ij - gamma log sum exp(-R / gamma) of the three before; a row is a running sum of exponentials, scaled."""
    text = """
axis b : batch
axis i
axis j
input c : real[b, i, j]
param gamma : positive = 0.5
let below = cumsum[j](-c / gamma)
let first = 0 if index[j] == 0 else -inf
let r = fold[i, a : real[j]](
  below + cumlogsumexp[j]((logaddexp(a, shift[j](a, 1, fill = -inf)) if index[i] > 0 else first) - fill(shift[j](below, 1), 0)),
  0)
minimize
  f : mean[b](-gamma * r[j = size[j] - 1])
"""
    c = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    table = {(i, j): torch.full((2,), math.inf).double() for i in range(-1, 4) for j in range(-1, 3)}
    table[-1, -1] = torch.zeros(2).double()
    for i, j in product(range(4), range(3)):
        before = torch.stack([table[i - 1, j], table[i, j - 1], table[i - 1, j - 1]])
        table[i, j] = c[:, i, j] - 0.5 * (-before / 0.5).logsumexp(0)
    loss, wanted = lossc.loads(text).double()(c=c).loss, table[3, 2].mean()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(value, c)[0] for value in (loss, wanted)))


# ------------------------------------------------------------------------------------------------ all values


@pytest.mark.parametrize("where", ["", " where m"])
def test_all_values_of_a_linear_one(where: str) -> None:
    tensors = given()
    entries = (f"scan[t{where}](x, 0.9)", f"scan[t, a : real{where}](0.9 * a + x, 0)")
    made = (objective(f"sum[b, t](fill(sin({entry}), 2))") for entry in entries)
    one, other = (each({n: tensors[n] for n in ("x", "m") if n in each.program.tensors}).loss for each in made)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(*(torch.autograd.grad(value, tensors["x"])[0] for value in (one, other)))


def test_all_values_by_hand() -> None:
    def expected(g: Given) -> Tensor:
        rows = []
        value = g["q"]
        for at in range(5):
            following = value.softmax(-1) * g["z"][:, at] + (value @ g["w"]) * (at + 1)
            value = torch.where(g["m"][:, at, None], following, value)
            rows.append(torch.where(g["m"][:, at, None], value.sin() * g["x"][:, at, None], 0))
        return torch.stack(rows).sum()

    agree("""sum[b, t where m](sum[s](sin(
    scan[t, a : real[s] where m](softmax[s](a) * z + sum[s](a * w)[r -> s] * (index[t] + 1), q)) * x))""", expected)


def test_forwards_times_backwards_is_the_posterior() -> None:
    """alpha_t(s) beta_t(s) / Z, with beta of the sequence turned around, is d log Z / d z."""
    text = HEAD + """
let alpha = scan[t, a : real[s]](z + (logsumexp[s](a + w)[r -> s] if index[t] > 0 else 0), 0)
let turned = z[t -> u][u = size[t] - 1 - index[t]]
let back = scan[t, a : real[s]](logsumexp[r](w + (a + turned_before)[s -> r]) if index[t] > 0 else 0, 0)
let turned_before = fill(shift[t](turned, 1), 0)
let beta = back[t -> u][u = size[t] - 1 - index[t]]
let log_z = logsumexp[s](alpha)[t = size[t] - 1]
minimize
  f : sum[b, t](norm[s](exp(alpha + beta - log_z) - grad[z](log_z))^2)
"""
    tensors = {name: value for name, value in given().items() if name in ("z", "w")}
    assert lossc.loads(text).double()(tensors).loss < 1e-24


def test_a_filter_gives_the_density_of_its_observations() -> None:
    """A Kalman filter of a random walk in noise: what each step predicts, together, is one Gaussian of all steps."""
    text = """
axis b : batch
axis t
input x : real[b, t]
learn log_q : real = -0.5
learn log_r : real = 0.3
let q = exp(log_q)
let r = exp(log_r)
let after = scan[t, a : nonneg]((a + q) * r / (a + q + r), 1)
let spread = fill(shift[t](after, 1), 1) + q + r
let gain = 1 - r / spread
let mean = fill(shift[t](scan[t](gain * x, 1 - gain), 1), 0)
minimize
  nll : mean[b](sum[t](((x - mean)^2 / spread + log(2 * pi * spread)) / 2))
"""
    made = lossc.loads(text).double()
    x = given()["x"]
    loss = made(x=x).loss
    q, r = (made.learn[name] for name in ("log_q", "log_r"))
    steps = torch.arange(1, 6, dtype=torch.float64)
    covariance = 1 + torch.minimum(steps[:, None], steps) * q.exp() + r.exp() * torch.eye(5).double()
    wanted = -torch.distributions.MultivariateNormal(torch.zeros(5).double(), covariance).log_prob(x).mean()
    torch.testing.assert_close(loss, wanted)
    for found, slope in zip(*(torch.autograd.grad(value, (x, q, r)) for value in (loss, wanted)), strict=True):
        torch.testing.assert_close(found, slope)


def test_later_steps_are_unseen_at_one_that_is_read() -> None:
    made = objective("mean[b](sum[s](scan[t, a : real[s] where m](z / norm[s](z) + tanh(a), q)[t = 2]))")
    tensors = given()
    tensors["m"] = torch.ones_like(tensors["m"])
    found = []
    for garbage in (math.nan, 0.5):
        z = torch.where(torch.arange(5)[:, None] > 2, garbage, tensors["z"]).detach().requires_grad_()
        loss = made(z=z, q=tensors["q"], m=tensors["m"]).loss
        found.append((loss.detach(), torch.autograd.grad(loss, z)[0]))
    torch.testing.assert_close(*found)


def test_along_the_batch_it_depends_on_how_that_is_split() -> None:
    made = objective("sum[b, t](scan[b, a : real](tanh(a) + x, 0))")
    assert [part.form for part in made.program.terms[0].parts] == ["coupled"]
    assert made(x=torch.zeros(0, 4).double()).loss == 0


def test_what_starts_is_one_value() -> None:
    with pytest.raises(lossc.LosscError, match="starts once"):
        objective("sum[b](fold[t, a : real](a + x, x))")


# ------------------------------------------------------------------------------------------------ what is not seen


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "entry",
    [
        "mean[b where keep](fold[t, a : real where m](log(x^2) + tanh(a), 1))",
        "mean[b where keep](fold[t, a : real where m](log(abs(a) + x^2) if a > 0 else x, 1))",
        "mean[b where keep](logsumexp[s](fold[t, a : real[s] where m](z / norm[s](z) + logsumexp[s](a + w)[r -> s], q)))",
        "mean[b where keep](sum[s where index[s] < 2](fold[t, a : real[s] where m](sqrt(abs(z)) + tanh(a), 1)))",
        "sum[b, t where keep and m](scan[t, a : real where m](log(x^2) + tanh(a), 1))",
        "sum[b, t where keep](fill(sum[s](scan[t, a : real[s] where m](z / norm[s](z) + logsumexp[s](a + w)[r -> s], q)), 1))",
    ],
)
def test_excluded_steps_and_rows_are_unseen(entry: str, garbage: float) -> None:
    """NaN in rows and steps that are left out: value and gradient are those of zeros there, that of all rows' `w` too."""
    made, tensors = objective(entry), given()
    found = []
    for fill in (garbage, 0.5):
        seen = tensors["m"] & tensors["keep"][:, None]
        hidden = {
            "x": torch.where(seen, tensors["x"], fill), "z": torch.where(seen[..., None], tensors["z"], fill),
            "q": torch.where(tensors["keep"][:, None], tensors["q"], fill),
        }  # fmt: skip
        read = {name: hidden.get(name, value).detach() for name, value in tensors.items() if name in made.program.tensors}
        leaves = [value.requires_grad_() for value in read.values() if value.is_floating_point()]
        loss = made(read).loss
        slopes = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        found.append((loss.detach(), *slopes))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_condition_on_what_is_carried_hides_too() -> None:
    """The logarithm of 0 where the branch is not taken."""
    made = objective("sum[b](fold[t, a : real](a + (log(x) if a > 0 else 1), -1.5))")
    x = torch.tensor([[0.0, -1, 3], [torch.nan, 0, 2]], dtype=torch.float64, requires_grad=True)
    loss = made(x=x).loss
    torch.testing.assert_close(loss, x[:, 2].log().sum() + 1)
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(gradient, torch.tensor([[0, 0, 1 / 3], [0, 0, 0.5]], dtype=torch.float64))


def test_no_admitted_step_is_the_start() -> None:
    made = objective("sum[b, s](fold[t, a : real[s] where m](tanh(a) + z, q))")
    tensors = {name: value for name, value in given().items() if name in ("z", "q", "m")}
    tensors["m"] = torch.zeros_like(tensors["m"])
    loss = made(tensors).loss
    torch.testing.assert_close(loss, tensors["q"].sum())
    z, q = torch.autograd.grad(loss, (tensors["z"], tensors["q"]))
    assert not z.any()
    assert bool((q == 1).all())


def test_an_absent_start_leaves_the_mean() -> None:
    """A row whose start is read at no label is absent, whatever follows."""
    made = objective("mean[b](fold[t, a : real where index[t] > 0](tanh(a) + x, q[s = y[t = 0]]))")
    tensors = given()
    tensors["y"][:, 0] = torch.tensor([2, -1, 0])
    result = made({name: tensors[name] for name in ("x", "q", "y")})
    rows = []
    for at, label in ((0, 2), (2, 0)):
        value = tensors["q"][at, label]
        for x in tensors["x"][at, 1:]:
            value = value.tanh() + x
        rows.append(value)
    assert result.counts["f0"] == 2
    torch.testing.assert_close(result.loss, torch.stack(rows).mean())


def test_log_zero_stays_so_without_gradient() -> None:
    """Sums of exponentials of which every one is 0."""
    for step in ("logaddexp(a, a) + x", "logsumexp[s](a + z)"):
        made = objective(f"sum[b](exp(logsumexp[s](fold[t, a : real[s]]({step}, -inf))))")
        tensors = {name: value for name, value in given().items() if name in made.program.tensors}
        loss = made(tensors).loss
        assert loss == 0
        leaves = [value for value in tensors.values() if value.requires_grad]
        assert not any(slope.any() for slope in torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))


# ------------------------------------------------------------------------------------------------ everywhere


ENTRY = """mean[b](logsumexp[s](fold[t, a : real[s] where m](z + tanh(x) * logsumexp[s](a + w)[r -> s], q)))
    + mean[b, t where m](norm[s](scan[t, a : real[s] where m](softmax[s](a) * z + x, q)))"""
READ = ("x", "z", "w", "q", "m")


def test_first_and_second_derivatives() -> None:
    made, tensors = objective(ENTRY), given(t=3, b=2)
    leaves = tuple(tensors[name] for name in READ[:4])
    m = tensors["m"]

    def loss(*values: Tensor) -> Tensor:
        return made(dict(zip(READ, (*values, m), strict=True))).loss

    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


@pytest.mark.parametrize("backend", ["auto", "torch", "c"])
def test_other_backends(backend: str) -> None:
    """A fold is a value made beforehand; what is vocabulary-sized beside it is fused as ever."""
    entry = f"{ENTRY} - mean[b, t](log_softmax[s](z)[s = y])"
    tensors = given()
    one, other = objective(entry)(tensors := {n: tensors[n] for n in (*READ, "y")}), objective(entry, backend=backend)(tensors)
    torch.testing.assert_close(one.loss, other.loss)
    leaves = [tensors[name] for name in READ[:4]]
    for found, wanted in zip(*(torch.autograd.grad(value.loss, leaves) for value in (one, other)), strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_standalone_module_has_it(tmp_path: Path) -> None:
    made, tensors = objective(ENTRY), {name: given()[name] for name in READ}
    alone = as_module(made, tmp_path).Objective()(**tensors).loss
    torch.testing.assert_close(alone, made(tensors).loss)
    for found, wanted in zip(*(torch.autograd.grad(value, [tensors[name] for name in READ[:4]])
                               for value in (alone, made(tensors).loss)), strict=True):  # fmt: skip
        torch.testing.assert_close(found, wanted)


def test_under_torch_compile() -> None:
    made, tensors = objective(ENTRY), {name: given()[name] for name in READ}
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    one, other = made(tensors).loss, compiled(tensors).loss
    torch.testing.assert_close(one, other)
    for found, wanted in zip(*(torch.autograd.grad(v, tensors["z"]) for v in (one, other)), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_evaluation(context: Callable[[], object]) -> None:
    made, tensors = objective(ENTRY), {name: given()[name] for name in READ}
    with context():  # type: ignore[attr-defined]
        torch.testing.assert_close(made(tensors).loss, made({name: x.clone() for name, x in tensors.items()}).loss)


def test_inside_a_term_and_a_search() -> None:
    """The term names no axis but those that it consumes; the worst case is looked for through all steps."""
    text = """
axis b : batch
axis t
input x : real[b, t]
term last(u : real[t], m : mask[t]) = fold[t, a : real where m](a / 2 + u, 0)
minimize
  f : mean[b](worst[e : real[b, t] in ball(inf, 0.5), steps = 4](last(x + e, x > -9)))
  g : mean[b](root[r in -9..9](last(x * r, x > -9) - 1))
"""
    x = torch.rand(2, 3, dtype=torch.float64) + 0.5
    weights = torch.tensor([0.25, 0.5, 1], dtype=torch.float64)
    terms = lossc.loads(text).double()(x=x).terms
    torch.testing.assert_close(terms["f"], ((x + 0.5) @ weights).mean())
    torch.testing.assert_close(terms["g"], (1 / (x @ weights)).mean())

