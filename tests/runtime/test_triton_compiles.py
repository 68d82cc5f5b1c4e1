"""Triton kernels compiled for a GPU that is not here: what the interpreter forgives, a compiler does not.

Kernels go all the way to machine code (sm_90), with the types that a call passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runtime import fused_cases as cases
from tests.specs.cases import CASES

import lossc
from lossc.compiler.core import Input, Node
from lossc.compiler.cut import cut
from lossc.compiler.kernels import Kernel, NoKernelError, kernels
from lossc.compiler.kernels.c import Function, Slot
from lossc.compiler.kernels.triton import TritonSource, triton_source
from lossc.compiler.program import Program
from lossc.compiler.simplify import simplify
from lossc.compiler.table import program_roots
from lossc.runtime.backends.kernel_calls import stored
from lossc.runtime.backends.triton import CONFIGURATIONS, _module, has_triton, interpreted

pytestmark = pytest.mark.skipif(not has_triton() or interpreted(), reason="Triton's compiler is not there")

POINTERS = {"f32": "*fp32", "f64": "*fp64", "bf16": "*bf16", "bool": "*u8", "i64": "*i64"}
STORED = {torch.float64: "*fp64", torch.int64: "*i64", torch.bool: "*u8"}
ARGUMENTS = {"number": "*fp64", "integer": "*i64", "mask": "*u8"}

LIBRARY = [*list(CASES)[::16], "info_nce()", "sup_con(s, group)"]
"""A sample; all of it compiles as well, in about a minute."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is taken from Triton's cache."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def kernels_of(program: Program) -> Iterator[tuple[Kernel, tuple[Function, ...]]]:
    """Every kernel with the functions that are called of it."""
    ready = simplify(program).program
    for table in cut(ready, program_roots(ready)).tables:
        leaves: dict[str, Node] = {root.name: Input(f"@weight {root.name}", ()) for root in table.seam
                                   if root.name in {term.name for term in ready.terms}}  # fmt: skip
        try:
            for kernel in kernels(table, None):
                yield kernel, ("statistics", "gradient") if kernel.differentiable else ("statistics",)
            for kernel in kernels(table, leaves or None):
                yield kernel, ("visit",) if kernel.adjoints and kernel.differentiable else ()
        except NoKernelError:
            continue


def storage(kernel: Kernel, real: str) -> dict[str, str]:
    """Storage types by stream."""
    kinds = {stream.name: getattr(stream.leaf, "kind", "") for stream in kernel.streams}
    special = {"mask": "bool", "label": "i64"}
    return {name: special.get(kind, real) for name, kind in kinds.items()}


def pointer(kernel: Kernel, slot: Slot, types: dict[str, str]) -> str:
    """The type of what a slot points to, as `KernelCalls` passes it."""
    if slot.kind in ("stream", "gradient"):
        return POINTERS[types[slot.name]]
    if slot.kind == "argument":
        return next(ARGUMENTS[argument.type] for argument in kernel.arguments if argument.leaf.name == slot.name)
    if slot.kind == "statistic":
        return next(STORED[stored(statistic)] for statistic in kernel.every if statistic.name == slot.name)
    return "*i64" if slot.kind in ("labels", "extent") else "*fp64"


def compiled(kernel: Kernel, source: TritonSource, types: dict[str, str], block: int, warps: int, *, ones: bool) -> Any:
    """The kernel for sm_90; with `ones` every stride and extent is 1, which Triton takes as constants of the text."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    function = getattr(_module(source.text), source.function)
    signature = {f"data{at}": pointer(kernel, slot, types) for at, slot in enumerate(source.slots)}
    whole = [name for name in function.arg_names if name not in signature and name not in ("BLOCK", "classes")]
    signature |= {"classes": "i32", **dict.fromkeys(whole, "constexpr" if ones else "i64"), "BLOCK": "constexpr"}
    constants = {"BLOCK": block, **(dict.fromkeys(whole, 1) if ones else {})}
    options = {"num_warps": warps, "enable_fp_fusion": not source.sharp}
    return compile(ASTSource(function, signature, constants), target=GPUTarget("cuda", 90, 32), options=options)


def compile_all(program: Program, real: str, block: int = 1024, warps: int = 4, *, ones: bool = False) -> int:
    """Compiles every function of every kernel."""
    number = 0
    for kernel, functions in kernels_of(program):
        wants = [stream.name for stream in kernel.differentiable]
        for function in functions:
            types = storage(kernel, real)
            source = triton_source(kernel, function, "double" if real == "f64" else "float", types, wants, 1)
            made = compiled(kernel, source, types, block, warps, ones=ones)
            assert ".target sm_90" in made.asm["ptx"] and made.asm["cubin"]
            number += 1
    return number


@pytest.mark.parametrize("text", cases.TEXTS)
def test_every_text_in_single_precision(text: str) -> None:
    assert compile_all(cases.objective(text, "reference").program, "f32") >= 2


@pytest.mark.parametrize("name", LIBRARY)
def test_a_sample_of_the_library(name: str) -> None:
    compile_all(lossc.loads(CASES[name].program).program, "f32")


@pytest.mark.parametrize("real", ["bf16", "f64"])
def test_other_types(real: str) -> None:
    assert compile_all(cases.objective("several labels", "reference").program, real) >= 2


def test_strides_and_extents_of_one() -> None:
    assert compile_all(cases.objective("masks", "reference").program, "f32", ones=True) >= 2


def test_the_largest_configuration() -> None:
    block, warps = CONFIGURATIONS[-1]
    program = lossc.loads("nll + 0.1 * z_loss", setting="tokens").program
    assert compile_all(program, "bf16", block, warps) == 3
