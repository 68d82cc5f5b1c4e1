"""`feeds` of a run file: where a tensor, a column or a stream of the objective comes from, each named once.

| kind         | feeds               | what it is                                                                   |
|--------------|---------------------|------------------------------------------------------------------------------|
| `model`      | a tensor            | the network in training, asked once more; or as it is, where it is called    |
| `reference`  | a tensor            | the network as it was before the first step                                  |
| `average`    | a tensor            | a moving average of the network in training (EMA)                            |
| `previous`   | a tensor            | the network as it was at the last of every so many steps                     |
| `teacher`    | a tensor            | another trained network: from a folder, or trained first in the same command |
| `importance` | weights             | how much each weight matters, as a tie to the beginning needs it             |
| `rows`       | a stream            | data of its own, for one of several streams of a setting                     |
| `number`     | a tensor of labels  | the number of each row: the identity of an example                           |
| `samples`    | `completions`       | drawn from the network in training                                           |
| `reward`     | `rewards`           | a score of what was drawn, by a rule                                         |
| `view`       | a column of numbers | an augmented copy of another column, new at each step                        |
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

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


class Training(Section):
    """A training that comes first, in the same command, on the same rows."""

    minimize: str = Field(default="nll", description="An expression over the setting.")
    setting: str | None = Field(
        default=None, description="Left out: `tokens` where the run is on texts, otherwise that of the run."
    )
    source: str | None = Field(default=None, description="Rows of its own, as `data.source`.")
    columns: dict[str, str | list[str]] | None = Field(
        default=None, description="As `data.columns`, for the columns that this training reads."
    )
    optimiser: Annotated[OptimiserSection, forms("name")] = OptimiserSection()
    schedule: Annotated[ScheduleSection, forms("name")] = ScheduleSection()
    batch: Annotated[BatchSection, forms("size")] = BatchSection()
    length: LengthSection = LengthSection(epochs=3)


class _OfNetwork(Section):
    of: str | None = Field(default=None, description="The column that the network reads, where rows have several.")


class Model(_OfNetwork):
    """The network in training, asked once more: with its own dropout, and gradient where the tensor is an `input`."""

    kind: Literal["model"]


class Reference(_OfNetwork):
    """The network as it was before the first step."""

    kind: Literal["reference"]


class Average(_OfNetwork):
    """A moving average of the weights: after each step, average = decay * average + (1 - decay) * weights."""

    kind: Literal["average"]
    decay: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.99, description="The share that is kept at a step.")


class Previous(_OfNetwork):
    """The network as it was at the last step whose number is a multiple of `every`."""

    kind: Literal["previous"]
    every: Positive = Field(default=1, description="Steps from one copy to the next.")


class Teacher(_OfNetwork, Training):
    """Another trained network: that of a local folder, or one that this command trains first."""

    kind: Literal["teacher"]
    path: str | None = Field(default=None, description="A folder that `save_pretrained` wrote, or the folder of a run.")
    model: ModelSection | None = Field(default=None, description="The network to train first, in place of `path`.")

    @model_validator(mode="after")
    def _one_place(self) -> Teacher:
        if (self.path is None) == (self.model is None):
            raise ValueError("give `path` or `model`")
        return self


class Importance(Section):
    """Of each weight, at the network before the first step: the mean over rows of the squared gradient of an expression."""

    kind: Literal["importance"]
    minimize: str = Field(default="nll", description="The expression over the setting; with `nll`, the Fisher information.")
    setting: str | None = Field(default=None, description="As in `start`.")
    source: str | None = Field(default=None, description="Rows of its own, as `data.source`: those of an earlier task.")
    rows: Positive = Field(default=200, description="Rows at most.")


class OwnRows(Section):
    """Data of its own for a stream. An epoch is a pass over the longest stream; the others begin again within it."""

    kind: Literal["rows"]
    source: str = Field(description="As `data.source`.")
    columns: dict[str, str | list[str]] = Field(default={}, description="As `data.columns`.")
    held_out_source: str | None = Field(default=None, description="As `data.held_out_source`.")
    limit: Positive | None = Field(default=None, description="Read at most this many rows.")


class Number(Section):
    """The number of each row, from 0: the rows to train on, then those held out."""

    kind: Literal["number"]


class Samples(Section):
    """Completions of each prompt, drawn anew at each step; `old_logp` is what the network that drew them says."""

    kind: Literal["samples"]
    count: Positive = Field(default=8, description="Completions of a prompt: the group that an advantage compares.")
    tokens: Positive = Field(default=32, description="Tokens of a completion at most.")
    temperature: Annotated[float, Field(gt=0)] = Field(default=1.0, description="Below 1: likelier tokens more often.")
    every: Positive = Field(default=1, description="Steps for which one copy of the network draws; 1: the network itself.")


class Reward(Section):
    """A number for each completion.

    `words`: the share of its words (of three letters or more) that occur in the data and were not used before in it.
    `equals` and `overlap` compare with a column: 1 where the texts are the same, or the F1 of their words. `python` calls a
    function that you trust, `function(row, completion)`.
    """

    kind: Literal["reward"]
    rule: Literal["words", "equals", "overlap", "python"] = "words"
    at_least: Positive = Field(default=1, description="For `words`: fewer words count as if they were so many.")
    column: str | None = Field(default=None, description="What `equals` and `overlap` compare with.")
    function: str | None = Field(default=None, description="`file.py:function`, for `python`.")

    @model_validator(mode="after")
    def _complete(self) -> Reward:
        needed = {"equals": "column", "overlap": "column", "python": "function"}.get(self.rule)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"`rule: {self.rule}` needs `{needed}`")
        return self


class View(Section):
    """An augmented copy of a column of numbers; the held-out rows are always given the same copies."""

    kind: Literal["view"]
    of: str = Field(default="features", description="The column.")
    noise: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Normal noise, in standard deviations of each feature."
    )
    drop: Fraction = Field(default=0.0, description="The share of the features that is replaced by their means.")
    shift: Annotated[int, Field(ge=0)] = Field(default=0, description="Pixels by which an image is moved at most.")
    image: tuple[Positive, Positive] | None = Field(default=None, description="Height and width, where features are pixels.")

    @model_validator(mode="after")
    def _image_to_shift(self) -> View:
        if self.shift and self.image is None:
            raise ValueError("`shift` needs `image: [height, width]`")
        return self


NetworkFeed = Model | Reference | Average | Previous | Teacher

FeedSection = Annotated[
    Model | Reference | Average | Previous | Teacher | Importance | OwnRows | Number | Samples | Reward | View,
    Field(discriminator="kind"),
    forms("kind"),
]


def identity(feed: NetworkFeed | Importance) -> tuple[Any, ...]:
    """Equal for two feeds that ask one and the same network."""
    return tuple(sorted((name, repr(value)) for name, value in feed.model_dump(exclude={"of"}).items()))
