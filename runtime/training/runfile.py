"""The run file: what is trained, on what, with which optimiser, and where the results go.

The models below are the whole format: reading, messages, defaults, documentation and JSON Schema come from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lossc.runtime.training.feed_sections import FeedSection, Training
from lossc.runtime.training.sections import (
    BatchSection,
    Fraction,
    LengthSection,
    ModelSection,
    OptimiserSection,
    Positive,
    ScheduleSection,
    Section,
    forms,
)


class ObjectiveSection(Section):
    """What is minimised: a spec file, the text of one, or an expression over a setting."""

    file: str | None = Field(
        default=None, description="A spec, `.loss` or `.yaml`, beside the run file, or one of the zoo, `zoo/family/name`."
    )
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
    """A path where it is one line that ends like one or names a work of the zoo, otherwise the text of a spec."""
    if not isinstance(value, str):
        return value
    line = value.strip()
    path = "\n" not in line and (line.endswith((".loss", ".yaml", ".yml")) or line.startswith("zoo/"))
    return {"file" if path else "text": value}


class DataSection(Section):
    """Where the rows come from and which columns are which."""

    source: str = Field(
        description="A file (`.jsonl`, `.csv`, `.parquet`), a folder that `save_to_disk` wrote, a set of scikit-learn "
        "(`sklearn:digits`), or the documentation of the Python that runs: `python-docs` (sentences), `python-docs:text` "
        "(paragraphs)."
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


class ConstraintSection(Section):
    """How a constraint `subject to name : u <= bound` is enforced: by a multiplier that ascends behind each step."""

    formulation: Literal["lagrangian", "augmented"] = "lagrangian"
    multiplier_lr: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="The ascent of the multiplier; left out, 0.01, or the penalty of an augmented one."
    )
    initial: float = Field(default=0.0, description="The multiplier before the first step.")
    penalty: Annotated[float, Field(gt=0)] = Field(default=1.0, description="Of the augmented formulation.")
    growth: Annotated[float, Field(ge=1)] = Field(default=1.0, description="Of the penalty, behind a step of violation.")
    tolerance: Annotated[float, Field(ge=0)] = Field(default=1e-4, description="A violation that does not count.")


class EverySection(Section):
    """How often, in steps; left out, ten times in a run."""

    every: Positive | None = None


class EvaluateSection(EverySection):
    """The held-out rows: how often, and how many at once."""

    batch: Positive | None = Field(
        default=None, description="Rows at once; left out, as `batch.size`. It matters where rows are compared with each other."
    )


class SaveSection(EverySection):
    """Checkpoints: how often (in steps; left out, four times in a run), and how many are kept."""

    keep: Positive = 2


class Run(Section):
    """A training run of lossc."""

    objective: Annotated[ObjectiveSection, BeforeValidator(_objective_forms)]
    set: dict[str, str] = Field(default={}, description="Values for parameters of the objective.")
    data: Annotated[DataSection, forms("source")]
    model: ModelSection | None = Field(default=None, description="Left out: `llama` for texts, `mlp` for numbers.")
    feeds: dict[str, FeedSection] = Field(
        default={}, description="Where a tensor, a column or a stream comes from, other than from `data`."
    )
    constraints: dict[str, Annotated[ConstraintSection, forms("formulation")]] = Field(
        default={}, description="How each constraint of the objective is enforced, by its name."
    )
    start: Training | None = Field(default=None, description="Train the network in this way first: the run starts from it.")
    optimiser: Annotated[OptimiserSection, forms("name")] = OptimiserSection()
    schedule: Annotated[ScheduleSection, forms("name")] = ScheduleSection()
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = Field(default="fp32", description="bf16 and fp16 are mixed precision.")
    batch: Annotated[BatchSection, forms("size")] = BatchSection()
    length: LengthSection = LengthSection(epochs=3)
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    evaluate: EvaluateSection = EvaluateSection()
    save: SaveSection = SaveSection()
    tensorboard: str | None = Field(default=None, description="A folder for TensorBoard; readings are written there too.")
    device: Literal["auto", "cpu"] = "auto"
    output: str | None = Field(default=None, description="The folder of the run; left out, a new one below `runs/`.")
