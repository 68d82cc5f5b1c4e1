"""From the text of a run file to a `Run`: every problem with its place in the YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from lossc.grammar.diagnostics import Diagnostic, Diagnostics, LosscError, error
from lossc.grammar.source import Source, Span
from lossc.grammar.suggest import did_you_mean, nearest
from lossc.grammar.yaml_nodes import Listing, Scalar, YamlNode
from lossc.runtime.files import GIVEN
from lossc.runtime.training.runfile import Run

Location = tuple[int | str, ...]


class Places:
    """Where each key and value of a YAML document stands, by its path of keys."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.keys: dict[Location, Span] = {}
        self.values: dict[Location, Span] = {}

    def value(self, location: Location) -> Span:
        """The value at `location`, or of the nearest place above it."""
        while location and location not in self.values:
            location = location[:-1]
        return self.values.get(location, Span(self.source, 0, 0))

    def key(self, location: Location) -> Span:
        return self.keys.get(location) or self.value(location)

    def locate(self, problem: Diagnostic) -> Diagnostic:
        """A problem with a value that the run file holds, moved to where it stands there."""
        given = problem.span
        if given.source.name != GIVEN:
            return problem
        for span in self.values.values():
            text = span.text.strip("'\"")
            if text and (given.source.text == text or given.source.text.endswith(f"/{text}")):
                end = span.start + span.text.index(text) + len(text)
                return replace(problem, span=Span(self.source, max(span.start, end - (given.end - given.start)), end))
        named = self.keys.get(("feeds", given.source.text))
        return replace(problem, span=named) if named else problem

    def plain(self, node: YamlNode, location: Location = ()) -> Any:
        """The values of a node as lists, mappings and texts; `1e-4` and `010` stay as they were written."""
        self.values[location] = node.span
        if isinstance(node, Scalar):
            return node.text
        if isinstance(node, Listing):
            return [self.plain(item, (*location, index)) for index, item in enumerate(node.items)]
        for key, _ in node.entries:
            self.keys[(*location, key.text)] = key.span
        return {key.text: self.plain(value, (*location, key.text)) for key, value in node.entries}


def validate_run(data: Any, places: Places) -> Run:
    """The run that the values of a file describe; E811 to E813 for its keys and values, all in one go."""
    try:
        return Run.model_validate(data)
    except ValidationError as failure:
        found = Diagnostics([_problem(dict(entry), places) for entry in failure.errors()])
        raise LosscError(found.sorted()) from None


def _problem(entry: Mapping[str, Any], places: Places) -> Diagnostic:
    """What pydantic found, as one of our problems."""
    kind = entry["type"]
    location = _written(entry["loc"], places, absent=kind in ("missing", "extra_forbidden"))
    if kind == "extra_forbidden":
        return _unknown_key(location, entry["loc"], places)
    if kind in ("missing", "union_tag_not_found"):
        name = "kind" if kind == "union_tag_not_found" else location[-1]
        at = places.key(location if kind == "union_tag_not_found" else location[:-1])
        return error("E813", f"`{name}` is missing", at, help=_choices(entry, location))
    label = ".".join(str(part) for part in location)
    value = places.value(location)
    return error("E812", f"`{label}` {_demand(entry)}", value, help=_nearest_choice(entry, value))


def _written(location: Location, places: Places, *, absent: bool) -> Location:
    """The path without the names of variants that pydantic puts in (`model.mlp.hidden`), but with an `absent` last key."""
    path: Location = ()
    for index, part in enumerate(location):
        inner = (*path, part)
        if inner in places.values or (absent and index == len(location) - 1):
            path = inner
    return path


def _unknown_key(location: Location, raw: Location, places: Places) -> Diagnostic:
    known = _fields_at(raw[:-1])
    name = str(location[-1])
    where = ".".join(str(part) for part in location[:-1])
    return error(
        "E811", f"`{name}` is not a key of {f'`{where}`' if where else 'a run file'}", places.key(location),
        help=did_you_mean(name, known) or (f"the keys are {', '.join(known)}",),
    )  # fmt: skip


def _fields_at(location: Location) -> list[str]:
    """The keys that the section at `location` has."""
    schema: dict[str, Any] = Run.model_json_schema()
    here: dict[str, Any] = schema
    for part in location:
        here = _inner(schema, here, part)
    return list(_resolved(schema, here).get("properties", {}))


def _inner(schema: dict[str, Any], here: dict[str, Any], part: int | str) -> dict[str, Any]:
    here = _resolved(schema, here)
    if part in here.get("properties", {}):
        inner: dict[str, Any] = here["properties"][part]
        return inner
    for variant in here.get("anyOf", []) + here.get("oneOf", []):
        found = _resolved(schema, variant)
        mapping = found.get("discriminator", {}).get("mapping", {})
        if part in mapping:
            return {"$ref": mapping[part]}
    mapping = here.get("discriminator", {}).get("mapping", {})
    if part in mapping:
        return {"$ref": mapping[part]}
    named = here.get("additionalProperties")
    return named if isinstance(named, dict) else here


def _resolved(schema: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in here:
        found: dict[str, Any] = schema["$defs"][here["$ref"].rsplit("/", 1)[-1]]
        return found
    return here


_DEMANDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a single text",
    "dict_type": "must be a mapping of names to values",
    "list_type": "must be a list",
}


def _demand(entry: Mapping[str, Any]) -> str:
    kind, context = entry["type"], entry.get("ctx") or {}
    if kind in ("model_type", "model_attributes_type"):
        return "must be a mapping of keys to values"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "union_tag_invalid":
        return f"has no kind `{context['tag']}`; the kinds are {context['expected_tags']}"
    if kind == "value_error":
        return f"is incomplete: {context['error']}"
    return _DEMANDS.get(kind) or entry["msg"].replace("Input should be", "must be")


def _choices(entry: Mapping[str, Any], location: Location) -> tuple[str, ...]:
    """The kinds of the section that has none."""
    if entry["type"] != "union_tag_not_found":
        return ()
    schema: dict[str, Any] = Run.model_json_schema()
    here: dict[str, Any] = schema
    for part in location:
        here = _inner(schema, here, part)
    tagged = next((variant for variant in (here, *here.get("anyOf", [])) if "discriminator" in variant), None)
    return (f"kinds: {', '.join(tagged['discriminator']['mapping'])}",) if tagged else ()


def _nearest_choice(entry: Mapping[str, Any], value: Span) -> tuple[str, ...]:
    context = entry.get("ctx") or {}
    expected = context.get("expected") or context.get("expected_tags") or ""
    choices = [choice.strip("' ") for choice in str(expected).replace(" or ", ", ").split(",")]
    written = str(context.get("tag") or entry["input"])
    match = nearest(written, [choice for choice in choices if choice])
    return (f"did you mean `{match}`?",) if match else ()
