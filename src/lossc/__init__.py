"""lossc: a compiler for training objectives.

    objective = lossc.load("dpo_sft.loss", beta=0.2)        # a torch.nn.Module
    result = objective(logits=logits, labels=labels, mask=mask, ref_logp=ref_logp)
    result.loss.backward()

- `load`, `loads`: an `Objective` from a file, or from text
- `Objective`, `Result`, `Denominators`: the module, what a call returns, and what makes accumulation exact
- `Linear`, `Pairs`: stand for logits and similarities that are never formed
- `axes`: passes a tensor whose dimensions are in another order
- `example_inputs`: tensors that an objective accepts
- `Constraint`: how a `subject to` is enforced
- `LosscError`, `LosscWarning`: every problem found, with its place; what is allowed and probably not meant
"""

from __future__ import annotations

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

if not (_Path(__file__).parent / "compiler").is_dir():  # a checkout without symbolic links
    __path__.append(str(_Path(__file__).resolve().parents[2]))

__version__ = "0.1.0"

__all__ = [
    "Constraint",
    "Denominators",
    "Linear",
    "LosscError",
    "LosscWarning",
    "Objective",
    "Pairs",
    "Result",
    "__version__",
    "axes",
    "example_inputs",
    "load",
    "loads",
]

_HOMES = {
    "Constraint": "lossc.runtime.constraints",
    "Denominators": "lossc.runtime.result",
    "Linear": "lossc.runtime.linear",
    "LosscError": "lossc.grammar.diagnostics",
    "LosscWarning": "lossc.runtime.messages",
    "Objective": "lossc.runtime.objective",
    "Pairs": "lossc.runtime.linear",
    "Result": "lossc.runtime.result",
    "axes": "lossc.runtime.layouts",
    "example_inputs": "lossc.runtime.examples",
    "load": "lossc.runtime.load",
    "loads": "lossc.runtime.load",
}
"""The module of each public name. Names are imported on first use, so that checking a spec never imports torch."""

if TYPE_CHECKING:
    from lossc.grammar.diagnostics import LosscError
    from lossc.runtime.constraints import Constraint
    from lossc.runtime.examples import example_inputs
    from lossc.runtime.layouts import axes
    from lossc.runtime.linear import Linear, Pairs
    from lossc.runtime.load import load, loads
    from lossc.runtime.messages import LosscWarning
    from lossc.runtime.objective import Objective
    from lossc.runtime.result import Denominators, Result


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lossc' has no attribute {name!r}")
    value = getattr(_import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
