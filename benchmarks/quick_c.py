"""The C backend against one eager expression, torch.compile of it, and the memory floor: forward + backward, interleaved.

    python benchmarks/quick_c.py [--classes 32000 131072] [--rows 1024] [--repeats 9] [--compile] [--dtype fp32 bf16]

The floor is one read and one write of the logits into an existing buffer. Times are the best of all repetitions, in one
process with the default allocator; on a machine that others use as well only ratios mean something, and `--cpu --threads 1`
(processor time of one thread) is steadier. With `--growing`, what one more term over the same softmax costs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import lossc

HEAD = "objective quick\nuse std.settings.{setting}\nuse std.ce (label_smoothing, z_loss, entropy)\n{use}\nminimize\n"


@dataclass(frozen=True)
class Workload:
    """An objective as a program and as one expression over the same batch."""

    name: str
    program: str
    expression: Callable[..., Tensor]
    batch: Callable[[int, int, torch.dtype], dict[str, Tensor]]


def _tokens(rows: int, classes: int, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        "logits": (torch.randn(1, rows, classes) * 3).to(dtype).requires_grad_(),
        "labels": torch.randint(0, classes, (1, rows)),
        "mask": torch.ones(1, rows, dtype=torch.bool),
    }


def _distill(rows: int, classes: int, dtype: torch.dtype) -> dict[str, Tensor]:
    return {**_tokens(rows, classes, dtype), "teacher": (torch.randn(1, rows, classes) * 3).to(dtype)}


def _pairs(rows: int, classes: int, dtype: torch.dtype) -> dict[str, Tensor]:
    length = rows // 8
    return {
        "logits": (torch.randn(4, 2, length, classes) * 3).to(dtype).requires_grad_(),
        "labels": torch.randint(0, classes, (4, 2, length)),
        "mask": torch.ones(4, 2, length, dtype=torch.bool),
        "ref_logp": torch.randn(4, 2) - 10.0 * length,
    }


def _combined(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    z = logits.float()
    lse = z.logsumexp(-1, keepdim=True)
    logp = z - lse
    ce = -0.9 * logp.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - 0.1 * logp.mean(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    return ((ce + 1e-4 * lse.squeeze(-1) ** 2 - 0.01 * entropy) * mask).sum() / mask.sum()


def _with_teacher(logits: Tensor, labels: Tensor, mask: Tensor, teacher: Tensor) -> Tensor:
    z, t = logits.float(), teacher.float()
    ce = F.cross_entropy(z.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    kl = F.kl_div((z / 2).log_softmax(-1), (t / 2).log_softmax(-1), log_target=True, reduction="none").sum(-1)
    return ((ce + 0.5 * 4 * kl) * mask).sum() / mask.sum()


def _preference(logits: Tensor, labels: Tensor, mask: Tensor, ref_logp: Tensor) -> Tensor:
    logp = logits.float().log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1) * mask
    margin = (logp.sum(-1) - ref_logp)[:, 0] - (logp.sum(-1) - ref_logp)[:, 1]
    return F.softplus(-0.1 * margin).mean() - 0.2 * logp[:, 0].sum() / mask[:, 0].sum()


MEAN = "mean[b, t where mask]"
WORKLOADS = (
    Workload(
        "ce + smoothing + z + entropy",
        HEAD.format(setting="tokens", use="") + f"""  ce : {MEAN}(label_smoothing(logits, labels, eps = 0.1))
  z : 1e-4 * {MEAN}(z_loss(logits))
  h : -0.01 * {MEAN}(entropy(logits))
""", _combined, _tokens,
    ),
    Workload(
        "ce + kl to a teacher",
        HEAD.format(setting="distill", use="use std.distill (distill)") + f"""  ce : {MEAN}(nll)
  kd : 0.5 * {MEAN}(distill(logits, teacher, tau = 2))
""", _with_teacher, _distill,
    ),
    Workload(
        "dpo + nll",
        HEAD.format(setting="pairs", use="use std.preference (dpo)") + """  pref : mean[pair](dpo(margin, beta = 0.1))
  tie : 0.2 * sft
""", _preference, _pairs,
    ),
)  # fmt: skip


def _step(loss: Callable[..., Tensor], batch: dict[str, Tensor]) -> Callable[[], None]:
    def step() -> None:
        batch["logits"].grad = None
        loss(**batch).backward()

    return step


def _best(steps: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(repeats):
        for name, step in steps.items():
            start = clock()
            step()
            best[name] = min(best[name], clock() - start)
    return best


def measure(workload: Workload, classes: int, dtype: torch.dtype, options: argparse.Namespace) -> None:
    batch = workload.batch(options.rows, classes, dtype)
    objective = lossc.loads(workload.program, backend="c")
    buffer = torch.zeros_like(batch["logits"])
    steps: dict[str, Callable[[], object]] = {
        "floor": lambda: buffer.copy_(batch["logits"].detach()),
        "c": _step(lambda **tensors: objective(**tensors).loss, batch),
    }
    if options.eager:
        steps["eager"] = _step(workload.expression, batch)
    if options.compile:
        steps["compile"] = _step(torch.compile(workload.expression), batch)
    if options.torch:
        other = lossc.loads(workload.program, backend="torch")
        steps["torch"] = _step(lambda **tensors: other(**tensors).loss, batch)
    for step in steps.values():
        step()
    best = _best(steps, options.repeats, time.process_time if options.cpu else time.perf_counter)
    rows = ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in best.items())
    ratios = ", ".join(f"{name}/c {best[name] / best['c']:.2f}" for name in best if name not in ("c", "floor"))
    print(f"{workload.name:30} {str(dtype)[6:]:9} V={classes:<7} c/floor {best['c'] / best['floor']:.2f}  {ratios}   ({rows})",
          flush=True)  # fmt: skip


TERMS = {
    "ce": f"  ce : {MEAN}(ce(logits, labels))\n",
    "+ smoothing": f"  ce : {MEAN}(label_smoothing(logits, labels, eps = 0.1))\n",
    "+ z": f"  z : 1e-4 * {MEAN}(z_loss(logits))\n",
    "+ entropy": f"  h : -0.01 * {MEAN}(entropy(logits))\n",
    "+ focal": f"  f : 0.1 * {MEAN}(focal(logits, labels, gamma = 2))\n",
}


def growing(classes: int, dtype: torch.dtype, options: argparse.Namespace) -> None:
    """Times of objectives of which each has one term more than the one before."""
    batch = _tokens(options.rows, classes, dtype)
    head = HEAD.format(setting="tokens", use="use std.ce (ce, focal)")
    bodies: dict[str, str] = {}
    for name, line in TERMS.items():
        earlier = list(bodies.values())[-1] if bodies else ""
        bodies[name] = line if "ce :" in line else earlier + line
    objectives = {name: lossc.loads(head + body, backend="c") for name, body in bodies.items()}
    steps = {name: _step(lambda o=o, **tensors: o(**tensors).loss, batch) for name, o in objectives.items()}  # type: ignore[misc]
    for step in [*steps.values()] * 2:
        step()
    best = _best(steps, options.repeats, time.process_time if options.cpu else time.perf_counter)
    names = list(best)
    further = ", ".join(f"{name} {best[name] / best[names[at]]:.3f}" for at, name in enumerate(names[1:]))
    print(f"{str(dtype)[6:]:9} V={classes:<7} ce {best['ce'] * 1e3:.1f} ms; over the one before: {further}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--classes", type=int, nargs="+", default=[32000])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--dtype", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--only", type=int, nargs="+", default=list(range(len(WORKLOADS))))
    parser.add_argument("--threads", type=int, default=2)
    for name in ("eager", "compile", "torch", "cpu", "growing"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if options.growing:
        for classes in options.classes:
            for dtype in options.dtype:
                growing(classes, dtypes[dtype], options)
        return
    for number in options.only:
        for classes in options.classes:
            for dtype in options.dtype:
                measure(WORKLOADS[number], classes, dtypes[dtype], options)


if __name__ == "__main__":
    main()
