"""The claims of works over structures, latent variables and teachers: gradients are probabilities, limits are the hard case."""

from __future__ import annotations

import torch
from tests.zoo.harness import Tensors, objective_of
from tests.zoo.oracles.contrastive_metric_teachers import views
from tests.zoo.oracles.generative_diffusion_latents import flows, weighted
from tests.zoo.oracles.ot import series
from tests.zoo.oracles.other_structures import constituents, dependencies, segments
from tests.zoo.oracles.speech_alignments import lattices, spoken
from tests.zoo.oracles.vision_detection import vessels
from torch import Tensor

import lossc


def slope(reference: str, tensors: Tensors, name: str, **load: object) -> Tensor:
    """The gradient of a work to one tensor, times the number of rows of its mean."""
    x = tensors[name].requires_grad_()
    result = lossc.load(reference, **load).double()(**tensors)
    (found,) = torch.autograd.grad(result.loss, x)
    return found * len(x)


def test_each_word_has_one_head() -> None:
    """The gradient of log Z to the scores of the arcs to a word, its own as a root among them, sums to 1."""
    tensors = dependencies(2, "plain")
    s, r = tensors["s"].requires_grad_(), tensors["r"].requires_grad_()
    loss = objective_of("zoo/other/matrix_tree")(**tensors).loss
    arcs, roots = torch.autograd.grad(3 * loss, (s, r))
    true = torch.nn.functional.one_hot(tensors["head"] + 1, 5).double().transpose(1, 2)
    into = (torch.cat([roots[:, None], arcs], 1) + true).sum(1)
    torch.testing.assert_close(into[tensors["words"]], torch.ones(9, dtype=torch.float64))


def test_a_tree_of_n_words_has_2n_1_spans() -> None:
    tensors = constituents(2, "plain")
    found = slope("zoo/other/span_crf", tensors, "s", sizes={"width": 4}) + tensors["tree"].double()
    torch.testing.assert_close(found.sum((1, 2)), 2.0 * tensors["words"].sum(1).double() - 1)
    torch.testing.assert_close(found[:, 0, 0], torch.ones(3, dtype=torch.float64))


def test_the_lengths_of_segments_add_up() -> None:
    tensors = segments(2, "plain")
    found = slope("zoo/other/segmental", tensors, "s") + tensors["segments"].double()
    covered = (found.sum((1, 3)) * torch.arange(1, 4)).sum(1)
    torch.testing.assert_close(covered, tensors["steps"].sum(1).double())


def test_each_frame_is_of_one_token() -> None:
    """The gradient is softmax(z) less the probability of each token at each frame; that of an only token is 1."""
    tensors = spoken(2, "plain")
    p = tensors["z"].masked_fill(~tensors["tokens"][:, None], -torch.inf).softmax(-1)
    aligned = p - slope("zoo/speech/forward_sum", tensors, "z")
    torch.testing.assert_close(aligned[tensors["frames"]].sum(-1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(aligned[:, 0, 0], torch.ones(3, dtype=torch.float64))


def test_every_path_has_a_blank_for_each_frame() -> None:
    tensors = lattices(2, "plain")
    z = tensors["z"].requires_grad_()
    logp = z.log_softmax(-1).detach().requires_grad_()
    loss = objective_of("zoo/speech/transducer")(z=logp, y=tensors["y"], frames=tensors["frames"]).loss
    (found,) = torch.autograd.grad(4 * loss, logp)
    visited = logp.exp() * found.sum(-1, keepdim=True)  # 0: what is normalised gives nothing back
    torch.testing.assert_close(visited, torch.zeros_like(visited))
    lone = {name: tensor[3:] for name, tensor in tensors.items()}  # one frame, one label: a single path
    expected = -(z[3, 0, 0].log_softmax(-1)[lone["y"][0, 0]] + z[3, 0, 1].log_softmax(-1)[0])
    torch.testing.assert_close(objective_of("zoo/speech/transducer")(**lone).loss, expected)


def test_soft_dtw_becomes_dtw() -> None:
    """Of series of one step against several, every alignment is the only one; as gamma falls, the cheapest remains."""
    tensors = series(2, "plain")
    lone = {name: tensor[2:] for name, tensor in tensors.items()}
    cost = (lone["x"] - lone["y"][:, :1]).square().sum(-1)[lone["in_x"]].sum()
    torch.testing.assert_close(objective_of("zoo/ot/soft_dtw")(**lone).loss, cost)
    first = {name: tensor[:1] for name, tensor in tensors.items()}
    values = [float(objective_of("zoo/ot/soft_dtw", gamma=gamma)(**first).loss) for gamma in (1.0, 0.1, 0.01, 0.001)]
    assert values == sorted(values) and values[-1] - values[-2] < 0.05


def test_a_mean_over_no_time_is_a_velocity() -> None:
    """With r = t and p = 0 the loss is that of flow matching."""
    tensors = flows(2, "plain")
    tensors["r"] = tensors["t"]
    x, e, t, net = (tensors[name] for name in ("x", "e", "t", "net"))
    at = (1 - t[:, None]) * x + t[:, None] * e
    expected = (net(at, t, t) - (e - x)).square().sum(-1).mean()
    torch.testing.assert_close(objective_of("zoo/generative_diffusion/mean_flow", p=0)(**tensors).loss, expected)


def test_the_credit_of_equal_samples_is_nothing() -> None:
    """The gradient to log q is then that of the bound alone: -1 / K each."""
    tensors = weighted(2, "plain")
    tensors["log_p"], tensors["log_q"] = torch.zeros_like(tensors["log_p"]), torch.zeros_like(tensors["log_q"])
    found = slope("zoo/generative_diffusion/vimco", tensors, "log_q")
    torch.testing.assert_close(found, torch.full_like(found, 0.25))


def test_a_broken_branch_costs_more_than_a_thin_one() -> None:
    """Two masks as far from a line of three pixels' width, as pixels go."""
    g = vessels(0, "plain")["g"][:1].zero_()
    g[:, 1:4] = 1
    thin, broken = g.clone(), g.clone()
    thin[:, 1, :3] = 0
    broken[:, 1:4, 2] = 0
    losses = [objective_of("zoo/vision/cl_dice", alpha=1)(logits=40 * (mask - 0.5), g=g).loss for mask in (thin, broken)]
    assert losses[1] > losses[0] + 0.05


def test_the_centre_follows_the_teacher() -> None:
    tensors = views(2, "plain")
    objective = objective_of("zoo/contrastive_metric/ibot")
    objective({name: tensor for name, tensor in tensors.items() if "centre" not in name})
    objective.advance()
    torch.testing.assert_close(objective.state["centre"], 0.1 * tensors["teacher_z"].mean((0, 1, 2)))
    torch.testing.assert_close(objective.state["summary_centre"], 0.1 * tensors["teacher_summary"].mean((0, 1)))
