"""An Objective as its user meets it: loading, calling, denominators, lets in place, saving, compiling."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossc
from lossc import LosscError, LosscWarning, Objective

F64 = torch.float64

MIXED = """
objective mixed
axis b : batch
axis t
axis v
input logits : logits[b, t, v]
data  labels : label[b, t] in v
data  mask   : mask[b, t]
data  weight : nonneg[b, t]
param eps    : unit = 0.1
param scale  : positive = 2
let nll = logsumexp[v](logits) - logits[v = labels]
let logp = -sum[t where mask](nll)
minimize
  mean_nll : mean[b, t where mask](nll) + eps * mean[b, t where mask](logsumexp[v](logits)^2)
  weighted : scale * mean[b, t where mask](nll, weight = weight)
  rows     : mean[b](softplus(logp))
  total    : 0.01 * sum[b, t where mask](nll)
  constant : scale^2 * eps
monitor
  accuracy : mean[b, t where mask](argmax[v](logits) == labels)
"""


def batch(seed: int = 0, rows: int = 4, dtype: torch.dtype = F64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 5, 7, generator=generator, dtype=F64)
    labels = torch.randint(-1, 7, (rows, 5), generator=generator)
    mask = torch.rand(rows, 5, generator=generator) > 0.3
    weight = torch.rand(rows, 5, generator=generator, dtype=F64)
    logits = torch.where(mask[..., None], logits, torch.nan)
    return {"logits": logits.to(dtype).requires_grad_(), "labels": labels, "mask": mask, "weight": weight.to(dtype)}


@pytest.fixture
def objective() -> Objective:
    return lossc.loads(MIXED)


# ------------------------------------------------------------------------------------------------ calling


def test_the_result_has_everything(objective: Objective) -> None:
    tensors = batch()
    result = objective(**tensors)
    kept = tensors["mask"] & (tensors["labels"] >= 0)
    nll = functional.cross_entropy(tensors["logits"][kept], tensors["labels"][kept], reduction="none")
    squares = tensors["logits"][tensors["mask"]].logsumexp(-1) ** 2
    weight = tensors["weight"][kept]
    expected = {
        "mean_nll": nll.mean() + 0.1 * squares.mean(),
        "weighted": 2 * (weight * nll).sum() / weight.sum(),
        "total": 0.01 * nll.sum(),
        "constant": torch.tensor(0.4, dtype=F64),
    }
    for name, value in expected.items():
        torch.testing.assert_close(result.terms[name], value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(result.loss.detach(), sum(result.terms.values()), rtol=1e-12, atol=1e-12)
    assert not any(value.requires_grad for value in (*result.terms.values(), *result.monitors.values()))
    assert result.counts["mean_nll"] == kept.sum()
    assert [len(parts) for parts in result.denominators.values()] == [2, 1, 1, 1, 1, 1]
    numerator, denominator = result.numerators["weighted"][0], result.denominators["weighted"][0]
    torch.testing.assert_close(numerator / denominator, result.terms["weighted"] / 2)
    right = (tensors["logits"].argmax(-1) == tensors["labels"])[kept].double().mean()
    torch.testing.assert_close(result.monitors["accuracy"], right)
    result.loss.backward()
    assert torch.isfinite(tensors["logits"].grad).all()  # type: ignore[arg-type]


def test_terms_differentiate_one_by_one(objective: Objective) -> None:
    tensors = batch()
    result = objective(**tensors, per_term=True)
    terms = [term for name, term in result.terms.items() if name != "constant"]
    grads = [torch.autograd.grad(term, tensors["logits"], retain_graph=True)[0] for term in terms]
    (whole,) = torch.autograd.grad(result.loss, tensors["logits"])
    torch.testing.assert_close(sum(grads), whole)


def test_values_are_the_entries_of_a_term(objective: Objective) -> None:
    tensors = batch()
    values = objective(**tensors, values=True).values["weighted"]
    kept = tensors["mask"] & (tensors["labels"] >= 0)
    assert values.axes == ("b", "t")
    assert values.mask is not None
    assert values.mask.equal(kept)
    nll = functional.cross_entropy(tensors["logits"][kept], tensors["labels"][kept], reduction="none")
    torch.testing.assert_close(values.value[kept], nll * tensors["weight"][kept])
    assert values.value[~kept].eq(0).all()


def test_maximised_terms_are_subtracted() -> None:
    tail = "\nmaximize\n  reward : mean[b](x)\nminimize\n  cost : mean[b](x^2)\n"
    objective = lossc.loads("objective o\naxis b : batch\ninput x : real[b]" + tail)
    x = torch.tensor([1.0, 2.0])
    result = objective(x=x)
    assert result.terms["reward"] == 1.5
    assert result.loss == 2.5 - 1.5


def test_a_batch_may_be_a_mapping(objective: Objective) -> None:
    tensors = batch()
    assert objective(tensors).loss == objective(**tensors).loss


def test_nothing_left_is_zero_with_a_graph(objective: Objective) -> None:
    tensors = batch()
    tensors["labels"] = torch.full_like(tensors["labels"], -100)
    result = objective(**tensors)
    assert result.terms["weighted"] == 0
    assert result.counts["weighted"] == 0
    result.loss.backward()
    assert torch.isfinite(tensors["logits"].grad).all()  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ denominators


def test_micro_batches_with_shared_denominators_equal_one_batch(objective: Objective) -> None:
    tensors = batch(rows=6)
    result = objective(**tensors)
    (whole,) = torch.autograd.grad(result.loss, tensors["logits"])
    pieces = [{name: tensor[part] for name, tensor in tensors.items()} for part in (slice(0, 2), slice(2, 6))]
    known = [{name: piece[name] for name in ("labels", "mask", "weight")} for piece in pieces]
    total = sum(objective.denominators(**tensors) for tensors in known)
    assert isinstance(total, lossc.Denominators)
    assert total.calls == 2
    results = [objective(**piece, denominators=total) for piece in pieces]
    summed = sum(piece.loss for piece in results)
    torch.testing.assert_close(summed, result.loss, rtol=1e-12, atol=1e-12)
    (grad,) = torch.autograd.grad(summed, tensors["logits"])
    torch.testing.assert_close(grad, whole, rtol=1e-12, atol=1e-12)
    accuracy = sum(piece.monitors["accuracy"] for piece in results)
    torch.testing.assert_close(accuracy, result.monitors["accuracy"], rtol=1e-12, atol=1e-12)


def test_denominators_name_what_they_need(objective: Objective) -> None:
    with pytest.raises(LosscError, match=r"E701.*`weight`") as raised:
        objective.denominators(labels=batch()["labels"], mask=batch()["mask"])
    assert len(raised.value.diagnostics) == 1


def test_denominators_move_and_travel(objective: Objective) -> None:
    tensors = batch()
    own = objective.denominators(**tensors)
    copied = pickle.loads(pickle.dumps(own.to("cpu")))
    assert objective(**tensors, denominators=copied).loss == objective(**tensors).loss


def test_what_couples_rows_is_averaged_and_reported_once() -> None:
    objective = lossc.loads("axis b : batch\ninput x : real[b]\nminimize\n  spread : std[b](x)\n")
    x = torch.randn(6, dtype=F64)
    total = objective.denominators(x=x[:3]) + objective.denominators(x=x[3:])
    with pytest.warns(LosscWarning, match="`spread` depends on how the batch is split"):
        first = objective(x=x[:3], denominators=total).loss
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = objective(x=x[3:], denominators=total).loss
    expected = (x[:3].std(correction=0) + x[3:].std(correction=0)) / 2
    torch.testing.assert_close(first + second, expected)


# ------------------------------------------------------------------------------------------------ lets, layouts


def test_a_let_is_given_in_place_of_what_it_is_computed_from() -> None:
    objective = lossc.loads("dpo(beta=0.1)", setting="pairs")
    tensors = lossc.example_inputs(objective, {"pair": 3, "t": 4, "v": 5}, dtype=F64)
    nll = functional.cross_entropy(tensors["logits"].movedim(-1, 1), tensors["labels"], reduction="none")
    logp = -torch.where(tensors["mask"], nll, 0.0).sum(-1)
    present = tensors["mask"].any(-1).all()
    assert present
    expected = objective(**tensors).loss
    given = logp.detach().requires_grad_()
    found = objective(logp=given, ref_logp=tensors["ref_logp"]).loss
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found.backward()
    assert given.grad is not None
    margin = (logp - tensors["ref_logp"])[:, 0] - (logp - tensors["ref_logp"])[:, 1]
    torch.testing.assert_close(objective(margin=margin).loss, expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(LosscError, match=r"E701.*`ref_logp`"):
        objective(logp=given)


def test_a_let_that_was_cut_through_may_be_given() -> None:
    objective = lossc.loads("dpo + 0.2*sft", setting="pairs")
    result = objective(margin=torch.tensor([1.0, 2.0]), sft=torch.tensor(3.0))
    torch.testing.assert_close(result.terms["sft"], torch.tensor(0.6))


def test_what_is_absent_stays_absent_where_it_is_told() -> None:
    objective = lossc.loads(MIXED)
    tensors = batch()
    kept = tensors["mask"] & (tensors["labels"] >= 0)
    nll = torch.full((4, 5), torch.nan, dtype=F64)
    nll[kept] = functional.cross_entropy(tensors["logits"][kept], tensors["labels"][kept], reduction="none").detach()
    torch.testing.assert_close(objective(**tensors, nll=nll).loss, objective(**tensors).loss)


def test_other_layouts() -> None:
    objective = lossc.loads("dpo + 0.2*sft", setting="pairs")
    tensors = lossc.example_inputs(objective, {"pair": 3, "t": 4, "v": 5}, dtype=F64)
    expected = objective(**tensors).loss
    views = {
        "logits": lossc.axes(tensors["logits"].transpose(0, 1).flatten(0, 1), "(side pair) t v"),
        "labels": lossc.axes(tensors["labels"].flatten(), "(pair side t)"),
        "mask": lossc.axes(tensors["mask"].permute(2, 1, 0), "t side pair"),
        "ref_logp": {"chosen": tensors["ref_logp"][:, 0], "rejected": tensors["ref_logp"][:, 1]},
    }
    torch.testing.assert_close(objective(**views).loss, expected)


def test_positions_of_unequal_lengths() -> None:
    objective = lossc.loads("dpo + 0.2*sft", setting="pairs")
    tensors = lossc.example_inputs(objective, {"pair": 3, "t": 6, "v": 5}, dtype=F64)
    tensors["mask"][:, 1, 4:] = False
    expected = objective(**tensors).loss
    cut = {
        name: {"chosen": tensors[name][:, 0], "rejected": tensors[name][:, 1, :4]} for name in ("logits", "labels", "mask")
    }
    found = objective(**cut, ref_logp=tensors["ref_logp"]).loss
    torch.testing.assert_close(found, expected)
    cut["logits"]["rejected"] = cut["logits"]["rejected"][:2]
    with pytest.raises(LosscError, match=r"E704.*differ along `pair`"):
        objective(**cut, ref_logp=tensors["ref_logp"])


def test_weights_are_given_by_name() -> None:
    objective = lossc.loads('input w : weights in "0.*"\ndata old : weights in "0.*"\nminimize\n  tie : total((w - old)^2)\n')
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    old = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    loss = objective(w=model, old=old).loss
    torch.testing.assert_close(loss, model[0].weight.square().sum() + model[0].bias.square().sum())
    loss.backward()
    assert model[0].weight.grad is not None
    assert model[1].weight.grad is None


def test_groups_need_no_extent() -> None:
    text = "axis b : batch\naxis group\ninput x : real[b]\ndata g : label[b] in group\nminimize\n"
    objective = lossc.loads(f"{text}  within : mean[b]((x - mean[b by g](x)[group = g])^2)\n")
    x, g = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 4])
    torch.testing.assert_close(objective(x=x, g=g).loss, torch.tensor(2 / 3))


# ------------------------------------------------------------------------------------------------ parameters


def test_parameters_are_set_and_checked(objective: Objective) -> None:
    tensors = batch()
    objective.set(eps=0.25, scale=3)
    loaded = lossc.loads(MIXED, eps=0.25, scale=3)
    torch.testing.assert_close(objective(**tensors).loss, loaded(**tensors).loss)
    with pytest.raises(LosscError, match="E401"):
        objective.set(eps=2)
    with pytest.raises(LosscError, match=r"(?s)E406.*did you mean `eps`"):
        objective.set(epsi=0.1)
    with pytest.raises(LosscError, match="E401"):
        lossc.loads(MIXED, eps=-1)
    assert objective.settings == {"eps": 0.25, "scale": 3.0}


def test_defaults_follow_other_parameters() -> None:
    head = "axis b : batch\ninput x : real[b]\nparam a : positive = 2\nparam c : positive = 3 * a\n"
    objective = lossc.loads(f"{head}minimize\n  f : c * mean[b](x)\n")
    objective.set(a=5)
    assert objective.settings["c"] == 15


def test_choices_and_vectors() -> None:
    text = """
axis b : batch
axis v
input x : real[b, v]
param mode : {plain, square} = plain
param w : positive[v] = 1
minimize
  f : mean[b](sum[v](w * x) if mode == plain else sum[v](w * x^2))
"""
    x = torch.tensor([[1.0, 2.0]])
    objective = lossc.loads(text)
    assert objective(x=x).loss == 3
    objective.set(mode="square", w=[1.0, 10.0])
    assert objective(x=x).loss == 41
    with pytest.raises(LosscError, match="E401"):
        objective.set(mode="cubic")
    assert lossc.loads(text, mode="square", w=torch.tensor([1.0, 10.0]))(x=x).loss == 41
    with pytest.raises(LosscError, match="E704"):
        lossc.loads(text, w=[1.0])(x=x)


def test_parameters_keep_their_precision() -> None:
    objective = lossc.loads(MIXED).to(torch.bfloat16)
    tensors = batch()
    torch.testing.assert_close(objective(**tensors).loss, lossc.loads(MIXED)(**tensors).loss, rtol=1e-15, atol=0)


LEARNED = """
axis b : batch
axis task = {depth, seg}
input x : real[b, task]
learn log_sigma : real[task] = 0.5
minimize
  f : mean[b](sum[task](exp(-log_sigma) * x^2 + log_sigma))
"""


def test_learned_parameters_are_trained() -> None:
    objective = lossc.loads(LEARNED)
    assert [name for name, _ in objective.named_parameters()] == ["learn.log_sigma"]
    assert objective.learn["log_sigma"].tolist() == [0.5, 0.5]
    objective(x=torch.randn(3, 2)).loss.backward()
    assert objective.learn["log_sigma"].grad is not None
    other = lossc.loads(LEARNED)
    with torch.no_grad():
        objective.learn["log_sigma"].mul_(3)
    other.load_state_dict(objective.state_dict())
    assert other.learn["log_sigma"].tolist() == [1.5, 1.5]


# ------------------------------------------------------------------------------------------------ types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(objective: Objective, dtype: torch.dtype) -> None:
    tensors = batch(dtype=dtype)
    result = objective(**tensors)
    assert result.loss.dtype == torch.float32
    result.loss.backward()
    assert tensors["logits"].grad is not None
    assert tensors["logits"].grad.dtype == dtype
    exact = {name: x.detach().to(F64) if x.is_floating_point() else x for name, x in tensors.items()}
    torch.testing.assert_close(result.loss.double(), objective(**exact).loss, rtol=1e-5, atol=1e-5)


def test_autocast_changes_nothing(objective: Objective) -> None:
    tensors = batch(dtype=torch.float32)
    expected = objective(**tensors).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert objective(**tensors).loss == expected
        assert objective.denominators(**tensors).values["total"] == (None,)


def test_data_is_detached_and_reported_once(objective: Objective) -> None:
    tensors = batch()
    tensors["weight"].requires_grad_()
    with pytest.warns(LosscWarning, match="`weight` is data and requires gradient"):
        objective(**tensors).loss.backward()
    assert tensors["weight"].grad is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective(**tensors)


def test_twice_differentiable(objective: Objective) -> None:
    tensors = batch(rows=2)
    clean = torch.where(tensors["mask"][..., None], tensors["logits"], 0.0).detach().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: objective(**{**tensors, "logits": x}).loss, clean)


def test_every_problem_of_a_call_is_reported(objective: Objective) -> None:
    tensors = batch()
    del tensors["weight"]
    wrong = {**tensors, "mask": tensors["mask"].float(), "labels": tensors["labels"][:2], "logit": tensors["logits"]}
    with pytest.raises(LosscError) as raised:
        objective(**wrong)
    assert sorted(problem.code for problem in raised.value.diagnostics) == ["E701", "E702", "E704", "E705"]
    assert "did you mean `logits`" in str(raised.value)
    assert "labels is int64[2, 5], logits is float64[4, 5, 7]" in str(raised.value)


# ------------------------------------------------------------------------------------------------ saving, copying


@pytest.mark.parametrize("called", [False, True])
def test_pickles_and_copies(called: bool) -> None:
    tensors = batch()
    objective = lossc.loads(MIXED, eps=0.3)
    objective.set(scale=5)
    if called:
        objective(**tensors)
    expected = lossc.loads(MIXED, eps=0.3, scale=5)(**tensors).loss
    for other in (pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective)):
        assert other(**tensors).loss == expected
        assert other.settings == objective.settings
    copied = copy.deepcopy(objective)
    copied.set(scale=1)
    assert objective.settings["scale"] == 5


@pytest.mark.parametrize("called", [False, True])
def test_state_is_saved(called: bool) -> None:
    objective = lossc.loads(MIXED)
    objective.set(scale=5)
    if called:
        objective(**batch())
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    file.seek(0)
    other = lossc.loads(MIXED)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.settings == objective.settings


def test_files_and_yaml(tmp_path: Path) -> None:
    path = tmp_path / "o.loss"
    path.write_text("axis b : batch\ninput x : real[b]\nparam a : positive = 2\nminimize\n  f : a * mean[b](x)\n")
    x = torch.tensor([1.0, 3.0])
    assert lossc.load(path, a=0.5)(x=x).loss == 1
    text = "lossc: 1\naxes:\n  - b : batch\ninputs:\n  x: real[b]\nminimize:\n  f: mean[b](x)\n"
    assert lossc.loads(text.replace("  - b : batch", "  b: batch"))(x=x).loss == 2
    with pytest.raises(LosscError, match="E101"):
        lossc.loads("axis b : batch\nminimize\n  f : mean[b](y)\n")


def test_what_is_not_compiled_is_refused() -> None:
    with pytest.raises(LosscError, match="E601"):
        lossc.loads(
            "axis b : batch\naxis t\ninput x : real[b, t]\nparam n : int = 2\nminimize\n  f : mean[b, t](shift[t](x, n))\n"
        )


# ------------------------------------------------------------------------------------------------ display, compile


def test_it_shows_itself(objective: Objective) -> None:
    assert repr(objective) == "Objective mixed(eps=0.1, scale=2): mean_nll + weighted + rows + total + constant"
    assert objective._repr_latex_().startswith("$$")
    assert "mean_nll" in objective._repr_html_()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_as_one_graph(backend: str) -> None:
    torch._dynamo.reset()
    objective = lossc.loads("nll + 0.1*z_loss", setting="classes")
    compiled = torch.compile(objective, fullgraph=True, backend=backend)
    tensors = lossc.example_inputs(objective, {"b": 4, "v": 5}, dtype=F64)
    result, expected = compiled(**tensors), objective(**tensors)
    torch.testing.assert_close(result.loss, expected.loss)
    (grad,) = torch.autograd.grad(result.loss, tensors["logits"])
    torch.testing.assert_close(grad, torch.autograd.grad(expected.loss, tensors["logits"])[0])


def test_setting_a_parameter_recompiles_nothing() -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    objective = lossc.loads("axis b : batch\ninput x : real[b]\nparam a : positive = 2\nminimize\n  f : mean[b](x)^2 * a\n")
    compiled = torch.compile(objective, fullgraph=True, backend=counter)
    x = torch.tensor([1.0, 3.0])
    for a in (1.0, 0.5, 7.0):
        objective.set(a=a)
        torch.testing.assert_close(compiled(x=x).loss, torch.tensor(4 * a))
    assert counter.frame_count == 1


def test_an_axis_under_another_name_has_its_extent() -> None:
    text = "axis b : batch\ninput x : real[b]\ndata q : real[b, j]\nminimize\n  u : mean[b, j](q * x * x[b -> j])\n"
    objective = lossc.loads(text)
    drawn = lossc.example_inputs(objective, {"b": 5})
    assert drawn["q"].shape == (5, 5)
    assert objective(**drawn).loss.isfinite()
    with pytest.raises(LosscError, match=r"E704.*`q` has 4 along `j`, which is `b`, and `x` has 5"):
        objective(x=torch.zeros(5), q=torch.zeros(5, 4))
