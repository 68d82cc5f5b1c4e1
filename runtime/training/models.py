"""Networks to train: small ones made here, those of Transformers in a local folder, and a function of your own."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.files import value_span
from lossc.runtime.training import sections
from lossc.runtime.training.tokenizer import Tokenizer, no_folder

_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


@dataclass(frozen=True)
class Sizes:
    """What the data ask of a network: tokens for a language model, or numbers in and numbers out."""

    tokenizer: Tokenizer | None = None
    tokens: int = 0
    features: int = 0
    outputs: int = 0
    statistics: tuple[Tensor, Tensor] | None = None
    """Mean and standard deviation of each feature over the training rows."""


class Standardise(nn.Module):
    """(x - mean) / std of the training rows, kept with the weights so that the network is whole without the data."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.where(std > 0, 1))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std


def build_network(section: Any, sizes: Sizes, folder: Path, *, allow_python: bool = False) -> nn.Module:
    """The network of a run file's `model`, with weights from the current seed; `folder` is where paths count from."""
    match section:
        case sections.Linear():
            return _feedforward([], nn.GELU, 0.0, sizes)
        case sections.Mlp():
            return _feedforward(section.hidden, _ACTIVATIONS[section.activation], section.dropout, sizes)
        case sections.Llama():
            return _llama(section, sizes)
        case sections.Pretrained(path=str() as path):
            return load_language_model(model_folder(folder / path))
        case sections.Pretrained(config=str() as config):
            return _from_config(folder / config, sizes)
        case sections.PythonModel():
            return _python_model(section.function, sizes, folder, allow_python)
        case _:
            raise TypeError(f"no network for {section!r}")


def _feedforward(hidden: list[int], activation: type[nn.Module], dropout: float, sizes: Sizes) -> nn.Module:
    layers: list[nn.Module] = [Standardise(*sizes.statistics)] if sizes.statistics else []
    for width, following in itertools.pairwise([sizes.features, *hidden]):
        layers += [nn.Linear(width, following), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear([sizes.features, *hidden][-1], sizes.outputs))


def _llama(section: sections.Llama, sizes: Sizes) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    assert sizes.tokenizer is not None
    config = LlamaConfig(
        vocab_size=sizes.tokenizer.vocabulary,
        hidden_size=section.hidden,
        intermediate_size=section.feedforward or -(-section.hidden * 8 // 24) * 8,
        num_hidden_layers=section.layers,
        num_attention_heads=section.heads,
        max_position_embeddings=sizes.tokens,
        pad_token_id=sizes.tokenizer.inner.pad_token_id,
        bos_token_id=sizes.tokenizer.inner.bos_token_id,
        eos_token_id=sizes.tokenizer.inner.eos_token_id,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def restore_network(network: nn.Module, folder: Path) -> nn.Module:
    """The network with the weights that `save_network` wrote; E840 where they are not there or do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_model
    from transformers import PreTrainedModel

    if isinstance(network, PreTrainedModel):
        return load_language_model(folder)
    try:
        load_model(network, folder / "model.safetensors")
    except (OSError, RuntimeError, SafetensorError) as failure:
        raise LosscError([no_folder(folder, "network", failure)]) from None
    return network


def model_folder(path: Path) -> Path:
    """The folder of the network: itself, or the one inside of the folder of a run."""
    return path / "model" if (path / "manifest.json").is_file() else path


def load_language_model(path: Path) -> nn.Module:
    """The causal language model in a local folder; E840 where there is none. Nothing is downloaded, no code is run."""
    from transformers import AutoModelForCausalLM

    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as failure:
        raise LosscError([no_folder(path, "language model", failure)]) from None
    return model


def _from_config(path: Path, sizes: Sizes) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    assert sizes.tokenizer is not None
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as failure:
        raise LosscError([no_folder(path, "config", failure)]) from None
    config.vocab_size = sizes.tokenizer.vocabulary
    model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    return model


def _python_model(reference: str, sizes: Sizes, folder: Path, allowed: bool) -> nn.Module:
    arguments = {"vocabulary": sizes.tokenizer.vocabulary} if sizes.tokenizer else {
        "features": sizes.features, "outputs": sizes.outputs
    }  # fmt: skip
    function = load_function(reference, folder, allowed=allowed)
    try:
        network = function(**arguments)
    except Exception as failure:
        raise _failed(reference, failure) from failure
    if not isinstance(network, nn.Module):
        raise LosscError([_no_module(reference, network)])
    return network


def load_function(reference: str, folder: Path, *, allowed: bool) -> Callable[..., Any]:
    """The function of `file.py:function`: the one way for a run file to name code, and only where the command line says so."""
    if not allowed:
        raise LosscError([
            error(
                "E841", f"this run would execute `{reference}`", value_span(reference),
                help="read the file; if you trust it, give `--allow-python` on the command line",
            )
        ])  # fmt: skip
    path, _, name = reference.rpartition(":")
    try:
        function: Callable[..., Any] = getattr(_module(folder / path), name)
    except Exception as failure:
        raise _failed(reference, failure) from failure
    return function


def _failed(reference: str, failure: Exception) -> LosscError:
    reason = f"{type(failure).__name__}: {failure}"
    return LosscError([error("E842", f"`{reference}` failed: {reason}", value_span(reference))])


def _module(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"lossc_user_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ImportError(f"`{path}` is not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def _no_module(reference: str, network: object) -> Diagnostic:
    return error("E842", f"`{reference}` returned {type(network).__name__}, not a torch.nn.Module", value_span(reference))


def save_network(network: nn.Module, sizes: Sizes, folder: Path) -> None:
    """The trained network: as Transformers writes it where it is one of theirs, otherwise its tensors."""
    from safetensors.torch import save_model
    from transformers import PreTrainedModel

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(network, PreTrainedModel):
        network.save_pretrained(folder)
        if sizes.tokenizer:
            sizes.tokenizer.save(folder)
    else:
        save_model(network, str(folder / "model.safetensors"))


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def precision_of(name: str) -> torch.dtype:
    """The number format of weights and features; mixed precision keeps them in fp32."""
    return torch.float64 if name == "fp64" else torch.float32
