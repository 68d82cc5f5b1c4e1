"""The run file: what is trained, on what, with which optimiser, and where the results go.

The models below are the whole format: reading, messages, defaults, documentation and JSON Schema come from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0, le=1 << 40)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _as_list(value: Any) -> Any:
    """`hidden: 64` and `features: pixels` mean lists of one."""
    return value if isinstance(value, list) else [value]


def _forms(short: str) -> BeforeValidator:
    """Lets a section be written as one word: `data: digits.csv` for `data: {source: digits.csv}`."""
    return BeforeValidator(lambda value: {short: value} if isinstance(value, str) else value)


class Section(BaseModel):
    """A part of the run file; unknown keys are errors, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ObjectiveSection(Section):
    """What is minimised: a spec file, the text of one, or an expression over a setting."""

    file: str | None = Field(default=None, description="A spec, `.loss` or `.yaml`, beside the run file.")
    text: str | None = Field(default=None, description="The text of a spec.")
    setting: str | None = Field(default=None, description="A setting of the library, with `minimize`.")
    minimize: str | None = Field(default=None, description="An expression, as on the command line: `focal + 0.1 * z_loss`.")
    monitor: str | None = Field(default=None, description="Quantities to follow, with `minimize`: `accuracy + nll`.")

    @model_validator(mode="after")
    def _one_form(self) -> ObjectiveSection:
        given = [self.file is not None, self.text is not None, self.minimize is not None]
        if sum(given) != 1 or (self.minimize is None) != (self.setting is None):
            raise ValueError("give one of `file`, `text`, or `setting` with `minimize`")
        if self.monitor is not None and self.minimize is None:
            raise ValueError("`monitor` stands in the spec itself unless the objective is `minimize`")
        return self


def _objective_forms(value: Any) -> Any:
    """A path where it is one line that ends like one, otherwise the text of a spec."""
    if not isinstance(value, str):
        return value
    single = "\n" not in value.strip()
    return {"file" if single and value.strip().endswith((".loss", ".yaml", ".yml")) else "text": value}


class DataSection(Section):
    """Where the rows come from and which columns are which."""

    source: str = Field(
        description="A file (`.jsonl`, `.csv`), a set of scikit-learn (`sklearn:digits`) or `python-docs`, sentences "
        "from the documentation of the Python that runs."
    )
    feed: str | None = Field(default=None, description="The setting whose tensors are made, where the spec names none.")
    columns: dict[str, str | list[str]] = Field(
        default={}, description="The column of the data for a name that the feed expects."
    )
    held_out: Fraction = Field(default=0.2, description="The share of the rows that is kept for evaluation.")
    held_out_source: str | None = Field(default=None, description="Evaluate on this source instead of a share of the rows.")
    limit: Positive | None = Field(default=None, description="Read at most this many rows.")
    tokens: Annotated[int, Field(ge=8, le=1 << 20)] = Field(
        default=128, description="Tokens of a sequence at most; the rest is cut."
    )
    classes: Positive | None = Field(default=None, description="The number of classes, where the labels do not show it.")
    tokenizer: str | None = Field(
        default=None,
        description="`bytes`, `bpe` (trained on the rows), or a folder that holds one; left out, that of the model's "
        "folder, otherwise `bytes`.",
    )
    vocabulary: Annotated[int, Field(ge=260, le=1 << 20)] = Field(default=1024, description="Tokens of a `bpe` tokenizer.")


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
    Linear | Mlp | Llama | Pretrained | PythonModel, Field(discriminator="kind"), _forms("kind")
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


class EverySection(Section):
    """How often, in steps; left out, ten times in a run."""

    every: Positive | None = None


class SaveSection(EverySection):
    """Checkpoints: how often (in steps; left out, four times in a run), and how many are kept."""

    keep: Positive = 2


class Run(Section):
    """A training run of lossc."""

    objective: Annotated[ObjectiveSection, BeforeValidator(_objective_forms)]
    set: dict[str, str] = Field(default={}, description="Values for parameters of the objective.")
    data: Annotated[DataSection, _forms("source")]
    model: ModelSection | None = Field(default=None, description="Left out: `llama` for texts, `mlp` for numbers.")
    teacher: str | None = Field(default=None, description="A local folder of Transformers, for the tensor `teacher`.")
    optimiser: Annotated[OptimiserSection, _forms("name")] = OptimiserSection()
    schedule: Annotated[ScheduleSection, _forms("name")] = ScheduleSection()
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = Field(default="fp32", description="bf16 and fp16 are mixed precision.")
    batch: Annotated[BatchSection, _forms("size")] = BatchSection()
    length: LengthSection = LengthSection(epochs=3)
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    evaluate: EverySection = EverySection()
    save: SaveSection = SaveSection()
    device: Literal["auto", "cpu"] = "auto"
    output: str | None = Field(default=None, description="The folder of the run; left out, a new one below `runs/`.")
