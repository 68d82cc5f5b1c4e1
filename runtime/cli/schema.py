"""`lossc schema`: JSON Schemas of the YAML surface and of run files, for completion and checks in editors."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from lossc.grammar.syntax import SECTIONS

_DIALECT = "http://json-schema.org/draft-07/schema#"
_TEXT = {"type": ["string", "number", "boolean"]}
_OPTIONAL = {"type": ["string", "number", "boolean", "null"]}

_SECTIONS: dict[str, tuple[str, str]] = {
    "objective": ("text", "The name of the objective."),
    "title": ("text", "A heading for people."),
    "about": ("text", "What the objective is, in prose."),
    "cite": ("text", "Where it comes from."),
    "certainty": ("text", "How certain the transcription from its source is."),
    "id": ("text", "A number or name under which a catalogue holds it."),
    "use": ("list", "Settings and terms of the library or of another file: `std.settings.pairs`, `std.preference (dpo)`."),
    "axes": ("axes", "Named axes: `batch`, `{chosen, rejected}`, or nothing."),
    "inputs": ("texts", "Tensors that carry gradient, with kind and axes: `logits[b, v]`."),
    "data": ("texts", "Tensors without gradient: `label[b] in v`."),
    "params": ("texts", "Numbers fixed for a run: `positive = 0.1`."),
    "learn": ("texts", "Values trained with the model: `real[task] = 0`."),
    "state": ("texts", "Values renewed once a step: `real[k] = 0 then 0.9 * centre + …`."),
    "let": ("texts", "Named quantities."),
    "terms": ("texts", "Functions: a signature and its body."),
    "settings": ("settings", "Axes, tensors and named quantities of a kind of training data."),
    "reduce": ("text", "How a summand that still has axes is reduced at a prompt: `mean[b]`."),
    "minimize": ("texts", "Named terms, added."),
    "maximize": ("texts", "Named terms, subtracted."),
    "subject_to": ("texts", "Constraints: `mean[b](drift) <= 0.05`."),
    "monitor": ("texts", "Named quantities to follow, not optimised."),
    "laws": ("texts", "Claims that the terms satisfy."),
    "extern": ("texts", "Functions written in Python, by signature: `package.module:function`."),
}
"""Each key of the YAML surface: the form of its value and what it says."""

_IN_SETTINGS = ("use", "axes", "inputs", "data", "params", "state", "let", "reduce")


def register(application: typer.Typer) -> None:
    application.command("schema", epilog="Example: `lossc schema > lossc.schema.json`")(schema)


def schema(
    run: Annotated[bool, typer.Option("--run", help="The schema of run files instead.")] = False,
) -> None:
    """Print the JSON Schema of specs in YAML (or of run files)."""
    typer.echo(json.dumps(run_schema() if run else spec_schema(), indent=2, ensure_ascii=False))


def spec_schema() -> dict[str, Any]:
    """The schema of the YAML surface; its keys are those of the grammar."""
    version = {"description": "The version of the language.", "enum": [1, "1"]}
    return {
        "$schema": _DIALECT,
        "title": "lossc objective",
        "type": "object",
        "additionalProperties": False,
        "properties": {"lossc": version, **{name: _section(name) for name in SECTIONS}},
    }


def run_schema() -> dict[str, Any]:
    """The schema of run files, from the models that check them."""
    from lossc.runtime.training.runfile import Run

    return {"$schema": _DIALECT, **Run.model_json_schema()}


def _section(name: str) -> dict[str, Any]:
    form, description = _SECTIONS[name]
    return {"description": description, **_form(form)}


def _form(form: str) -> dict[str, Any]:
    match form:
        case "list":
            return {"type": "array", "items": _TEXT}
        case "texts":
            return {"type": "object", "additionalProperties": _TEXT}
        case "axes":
            return {"type": "object", "additionalProperties": _OPTIONAL}
        case "settings":
            inner = {"type": "object", "additionalProperties": False, "properties": {n: _section(n) for n in _IN_SETTINGS}}
            return {"type": "object", "additionalProperties": inner}
        case _:
            return _TEXT
