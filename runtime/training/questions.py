"""Which feed fills each tensor of an objective: data of the rows, a column, or what a network says of a batch.

What the setting and the kinds tell needs no word in the run file; `feeds` names the rest, and changes what is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lossc.compiler.program import TensorInfo
from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.files import value_span
from lossc.runtime.training.feed_sections import (
    Average,
    Importance,
    Model,
    NetworkFeed,
    Number,
    OwnRows,
    Previous,
    Reference,
    Reward,
    Samples,
    Teacher,
    View,
)
from lossc.runtime.training.feeds import FEEDS, STREAMS, Ask, Feed, ask_for, drawn
from lossc.runtime.training.objective import Spec, tensors_used
from lossc.runtime.training.rows import Column, Kind
from lossc.runtime.training.runfile import Run

NETWORKS = (Model, Reference, Average, Previous, Teacher)


@dataclass
class Stream:
    """Batches of one setting. `name` is its prefix where the objective has several, else empty."""

    name: str
    feed: Feed
    own: OwnRows | None = None
    """Where its rows come from, other than from `data`."""
    extra: list[Column] = field(default_factory=list)
    """Columns that fill tensors which the file adds to its setting."""
    numbers: list[str] = field(default_factory=list)
    """Tensors that hold the number of each row."""

    @property
    def prefix(self) -> str:
        return f"{self.name}." if self.name else ""


@dataclass(frozen=True)
class Question:
    """A tensor that a network answers; where `ask` is None, the network itself is passed: to be called, or for its weights."""

    tensor: str
    feed: NetworkFeed | Importance
    ask: Ask | None
    prefix: str
    gradient: bool


@dataclass(frozen=True)
class Assigned:
    """Where everything comes from."""

    streams: tuple[Stream, ...]
    questions: tuple[Question, ...]
    samples: Samples | None
    reward: Reward
    views: dict[str, View]


def assign(run: Run, spec: Spec) -> Assigned:
    """Resolves every tensor that the objective reads; E814 and E815 with all problems at once."""
    samples = next((section for section in run.feeds.values() if isinstance(section, Samples)), None)
    reward = next((section for section in run.feeds.values() if isinstance(section, Reward)), Reward(kind="reward"))
    streams = tuple(_streams(run, spec, samples))
    used = tensors_used(spec.program)
    weights = {name for name, tensor in spec.program.tensors.items() if tensor.kind.name == "weights"}
    if problems := list(_misplaced(run, used, streams, weights)):
        raise LosscError(problems)
    questions: list[Question] = []
    for tensor in spec.program.tensors.values():
        if tensor.name in used or tensor.kind.name == "model":
            question = _take(tensor, streams, run, samples, problems)
            questions += [question] if question else []
    if problems:
        raise LosscError(problems)
    views = {name: section for name, section in run.feeds.items() if isinstance(section, View)}
    return Assigned(streams, tuple(questions), samples, reward, views)


def _streams(run: Run, spec: Spec, samples: Samples | None) -> Iterator[Stream]:
    """The streams of the objective; E814 where training knows no way to fill one."""
    for name, setting in spec.streams.items():
        for inner, feed in STREAMS.get(setting, {"": setting}).items():
            found = FEEDS.get(feed)
            if found is None:
                raise LosscError([_no_feed(spec, setting)])
            whole = ".".join(part for part in (name, inner) if part)
            own = run.feeds.get(whole)
            yield Stream(
                whole, drawn(found) if samples and feed == "rollouts" else found, own if isinstance(own, OwnRows) else None
            )
    if not spec.streams:
        raise LosscError([_no_feed(spec, "")])


def _no_feed(spec: Spec, setting: str) -> Diagnostic:
    found = f"the setting `{setting}`" if setting else "this objective, which uses no setting,"
    return error(
        "E814", f"there is no feed for {found}", value_span(spec.source.text.partition("\n")[0]),
        help=(f"feeds exist for {', '.join([*FEEDS, *STREAMS])}", "`use std.settings.…`, or name one in `data: {feed: …}`"),
    )  # fmt: skip


# Tensors


def _take(
    tensor: TensorInfo, streams: Sequence[Stream], run: Run, samples: Samples | None, problems: list[Diagnostic]
) -> Question | None:
    """The question that fills a tensor; None where rows do, which `streams` then record."""
    stream = _stream_of(tensor, streams)
    name = tensor.name.removeprefix(stream.prefix)
    order = tuple(axis.removeprefix(stream.prefix) for axis in tensor.order)
    given = run.feeds.get(tensor.name)
    answer = stream.feed.answers.get(name)
    if tensor.kind.name in ("model", "weights"):
        usual = Reference(kind="reference") if tensor.role == "data" else Model(kind="model")
        chosen = given if isinstance(given, (*NETWORKS, Importance)) else usual
        return Question(tensor.name, chosen, None, stream.prefix, True)
    if isinstance(given, NETWORKS):
        ask = answer.ask if answer and not given.of else ask_for(stream.feed, tensor.kind.name, order, given.of)
        if ask is None:
            problems.append(_unfed(tensor, stream.feed, f"a network has no answer of this form: {_forms(stream.feed)}"))
            return None
        return Question(tensor.name, given, ask, stream.prefix, tensor.role == "input")
    if answer:
        network = _by_default(tensor, answer.network, samples)
        return Question(tensor.name, network, answer.ask, stream.prefix, tensor.role == "input")
    if name in stream.feed.data:
        return None
    if isinstance(given, Number):
        stream.numbers.append(tensor.name)
    elif (kind := _column_kind(tensor, order, stream.feed)) is not None:
        stream.extra.append(Column(tensor.name, kind, f"the tensor `{tensor.name}`"))
    else:
        how = f"a column can fill `data {tensor.name} : real[{stream.feed.axis}]`, and `feeds: {{{tensor.name}: …}}` says more"
        problems.append(_unfed(tensor, stream.feed, how))
    return None


def _stream_of(tensor: TensorInfo, streams: Sequence[Stream]) -> Stream:
    """The stream whose prefix the tensor, or one of its axes, has."""
    named = (stream for stream in streams for name in (tensor.name, *tensor.order) if name.startswith(stream.prefix))
    return next(named, streams[0])


def _column_kind(tensor: TensorInfo, order: tuple[str, ...], feed: Feed) -> Kind | None:
    """What a column must hold to fill a tensor: one value for each row, or one list of numbers."""
    if order == (feed.axis,) and tensor.role == "data":
        return {"label": "label", "mask": "flag"}.get(tensor.kind.name, "number")  # type: ignore[return-value]
    plain = tensor.kind.name not in ("label", "mask", "logits", "logprob")
    return "numbers" if plain and len(order) == 2 and order[0] == feed.axis and tensor.role == "data" else None


def _by_default(tensor: TensorInfo, network: str, samples: Samples | None) -> NetworkFeed:
    match network:
        case "model":
            return Model(kind="model")
        case "sampler" if samples is not None:
            return Model(kind="model") if samples.every == 1 else Previous(kind="previous", every=samples.every)
        case "teacher":
            raise LosscError([
                error(
                    "E843", "this objective needs a teacher", value_span(tensor.name),
                    help=(f"name a folder: `feeds: {{{tensor.name}: {{kind: teacher, path: runs/large}}}}`",
                          f"or train one first: `feeds: {{{tensor.name}: {{kind: teacher, model: {{kind: llama}}}}}}`"),
                )
            ])  # fmt: skip
        case _:
            return Reference(kind="reference")


def _unfed(tensor: TensorInfo, feed: Feed, help_: str) -> Diagnostic:
    message = f"training with the feed of `{feed.setting}` does not make the tensor `{tensor.name}`"
    return error("E814", message, tensor.span, help=help_)


def _forms(feed: Feed) -> str:
    lead = ", ".join(feed.lead)
    if feed.network == "rows":
        return f"it has two axes, `{feed.axis}` and one of its own"
    return f"`logits[{lead}, t, v]`, `logprob[{lead}, t]`, `logprob[{lead}]`, `embedding[{lead}, t, d]`"


# Feeds that nothing reads


def _misplaced(run: Run, used: set[str], streams: Sequence[Stream], weights: set[str]) -> Iterator[Diagnostic]:
    """E815 for each entry of `feeds` that names nothing, or something that its kind cannot feed."""
    numeric = [column.name for stream in streams for column in stream.feed.columns if column.kind == "numbers"]
    rollouts = ["completions", "rewards"] if any(stream.feed.setting == "rollouts" for stream in streams) else []
    names = {
        OwnRows: [stream.name for stream in streams if stream.name],
        Samples: rollouts[:1], Reward: rollouts[1:], View: numeric, Importance: sorted(weights),
    }  # fmt: skip
    known = sorted({*used, *numeric, *rollouts, *names[OwnRows]})
    for name, section in run.feeds.items():
        if name not in known:
            help_ = did_you_mean(name, known) or (f"it reads {', '.join(known)}",)
            yield error("E815", f"`feeds` names `{name}`, which this objective does not read", value_span(name), help=help_)
        elif name not in names.get(type(section), used):
            possible = names.get(type(section), sorted(used))
            help_ = (f"it can feed {', '.join(possible)}" if possible else "it can feed nothing of this objective",)
            yield error("E815", f"`{section.kind}` cannot feed `{name}`", value_span(section.kind), help=help_)
