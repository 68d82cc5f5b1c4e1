"""Parts of a run file that several of its sections share: networks, optimiser, schedule, batch, length."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0, le=1 << 40)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _as_list(value: Any) -> Any:
    """`hidden: 64` means a list of one."""
    return value if isinstance(value, list) else [value]


def forms(short: str) -> BeforeValidator:
    """Lets a section be written as one word: `data: digits.csv` for `data: {source: digits.csv}`."""
    return BeforeValidator(lambda value: {short: value} if isinstance(value, str) else value)


class Section(BaseModel):
    """A part of the run file; unknown keys are errors, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Linear(Section):
    """One linear layer over standardised features."""

    kind: Literal["linear"]
    outputs: Positive | None = Field(default=None, description="Width of an embedding; else the data decide.")


class Mlp(Section):
    """A feed-forward network over standardised features."""

    kind: Literal["mlp"]
    hidden: Annotated[list[Positive], BeforeValidator(_as_list)] = Field(
        default=[64], description="Widths of the hidden layers."
    )
    activation: Literal["relu", "gelu", "tanh"] = "gelu"
    dropout: Fraction = 0.0
    outputs: Positive | None = Field(default=None, description="Width of an embedding; else the data decide.")


class Llama(Section):
    """A small Llama-style language model, from random weights."""

    kind: Literal["llama"]
    hidden: Positive = Field(default=128, description="Width of the model.")
    layers: Positive = 2
    heads: Positive = 4
    feedforward: Positive | None = Field(
        default=None, description="Width of the feed-forward part; 8/3 of `hidden` if left out."
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> Llama:
        if self.hidden % (2 * self.heads):
            raise ValueError("`hidden` must be a multiple of twice `heads`")
        return self


class Pretrained(Section):
    """A language model of Transformers: a local folder with weights, or a config to start from random weights."""

    kind: Literal["transformers"]
    path: str | None = Field(default=None, description="A local folder that `save_pretrained` wrote.")
    config: str | None = Field(default=None, description="A `config.json`; the weights are random.")

    @model_validator(mode="after")
    def _one_place(self) -> Pretrained:
        if (self.path is None) == (self.config is None):
            raise ValueError("give `path` (trained weights) or `config` (random weights)")
        return self


class PythonModel(Section):
    """A function of your own that returns a `torch.nn.Module`; needs `--allow-python` on the command line."""

    kind: Literal["python"]
    function: str = Field(
        description="`file.py:function`; it is called with the sizes, `vocabulary=` or `features=, outputs=`."
    )


ModelSection = Annotated[
    Linear | Mlp | Llama | Pretrained | PythonModel, Field(discriminator="kind"), forms("kind")
]


class OptimiserSection(Section):
    """How the weights move."""

    name: Literal["adamw", "adam", "sgd", "adafactor", "rmsprop"] = "adamw"
    rate: Annotated[float, Field(gt=0, le=1e30)] = Field(default=1e-3, description="The learning rate at its highest.")
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(ge=0)] = Field(default=1.0, description="Gradient norm at most; 0 does not clip.")


class ScheduleSection(Section):
    """How the learning rate follows the run."""

    name: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Fraction = Field(default=0.0, description="The share of the steps over which the rate rises from 0.")


class BatchSection(Section):
    """How many rows are in one step: `size * accumulate * processes`."""

    size: Positive = Field(default=32, description="Rows in memory at once.")
    accumulate: Positive = Field(default=1, description="Micro-batches in a step; the result equals one large batch.")


class LengthSection(Section):
    """How long to train: one of the two."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    steps: Positive | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> LengthSection:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give `epochs` or `steps`")
        return self
