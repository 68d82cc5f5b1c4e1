"""What exactly will be run: the run file with the changes of the command line, its objective, and its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from lossc.grammar.diagnostics import Diagnostics, LosscError, error
from lossc.grammar.source import Source
from lossc.grammar.tokens import Fragment
from lossc.grammar.yaml_nodes import Mapping as YamlMapping
from lossc.grammar.yaml_nodes import Scalar, read_yaml
from lossc.runtime.files import path_span, read_source, value_span
from lossc.runtime.training.damage import read_manifest
from lossc.runtime.training.folder import RunFolder, latest_folder, new_folder
from lossc.runtime.training.objective import Spec, read_objective
from lossc.runtime.training.processes import world_size
from lossc.runtime.training.reading import Places, validate_run
from lossc.runtime.training.runfile import Run

ROOT = Path("runs")


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start."""

    run: Run
    spec: Spec
    base: Path
    folder: RunFolder
    text: str
    places: Places
    resume: bool = False


@dataclass(frozen=True)
class _Given:
    """A run file as it was found: its values, where they stand, its name, and the folder that its paths count from."""

    values: dict[str, Any]
    places: Places
    name: str
    base: Path
    text: str
    folder: Path | None = None
    inline: Fragment | None = None


def plan_run(reference: str | None, changes: Mapping[str, Any], resume: bool) -> Plan:
    """The plan for a run file, a folder or a named run, with the values that the command line changes."""
    given = _find(reference)
    values = _changed(given.values, changes)
    run = validate_run(values, given.places)
    spec = read_objective(run, given.base, None if "objective" in changes else given.inline)
    folder = _folder(run, given, resume)
    text = given.text if set(changes) <= {"output"} and given.text else _as_yaml(run)
    return Plan(run, spec, given.base, RunFolder(folder), text, given.places, resume)


def embedded_runs() -> list[str]:
    """The names of the runs that the library carries."""
    folder = files("lossc.specs").joinpath("runs")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _find(reference: str | None) -> _Given:
    if reference is None:
        return _Given({}, Places(Source("<command line>", "")), "prompt", Path(), "")
    path = Path(reference)
    if _exists(path / "manifest.json"):
        base = read_manifest(path / "manifest.json").get("base", ".")
        return _read(read_source(str(path / "run.yaml")), path.name, Path(str(base)), folder=path)
    if not _exists(path) and reference in embedded_runs():
        with as_file(files("lossc.specs").joinpath("runs")) as runs:
            return _read(read_source(str(runs / f"{reference}.yaml")), reference, runs)
    return _read(_source(reference), path.name.removesuffix(".yaml").removesuffix(".run"), path.parent)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no file can have this name
        return False


def _source(reference: str) -> Source:
    try:
        return read_source(reference)
    except LosscError as failure:
        if Path(reference).suffix:
            raise
        known = ", ".join(embedded_runs())
        help_ = f"a run file, the folder of a run, or a run of the library: {known}"
        message = f"`{reference}` is no run"
        raise LosscError([error("E805", message, failure.diagnostics[0].span, help=help_)]) from None


def _read(source: Source, name: str, base: Path, folder: Path | None = None) -> _Given:
    problems = Diagnostics()
    root = read_yaml(source, problems)
    problems.raise_errors()
    places = Places(source)
    if not isinstance(root, YamlMapping):
        span = root.span if root else path_span(source.name)
        raise LosscError([error("E812", "a run file must be a mapping of keys to values", span)])
    return _Given(places.plain(root), places, name, base, source.text, folder, _inline(root))


def _inline(root: YamlMapping) -> Fragment | None:
    """Where the text of the objective stands, in the run file itself."""
    entries = {key.text: value for key, value in root.entries}
    value = entries.get("objective")
    if isinstance(value, YamlMapping):
        value = {key.text: inner for key, inner in value.entries}.get("text")
    return value.fragment if isinstance(value, Scalar) else None


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with some replaced, by dotted name; the short forms of sections are written out for that."""
    result = dict(values)
    for name, value in changes.items():
        outer, _, inner = name.partition(".")
        if inner:
            result[outer] = {**_section(result.get(outer), outer), inner: value}
        elif name == "set":
            result[name] = {**_section(result.get(name), name), **value}
        else:
            result[name] = value
    return result


_SHORT = {"data": "source", "optimiser": "name", "batch": "size"}


def _section(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return {_SHORT[name]: value} if isinstance(value, str) and name in _SHORT else {}


def _folder(run: Run, given: _Given, resume: bool) -> Path:
    """Where the run goes: as said, else a new folder under `runs`; when resumed, the one that was started last."""
    if run.output is not None and given.folder is None:
        return Path(run.output)
    if given.folder is not None:
        return given.folder
    if world_size() > 1:
        raise LosscError([
            error(
                "E807", f"{world_size()} processes need one folder, and `output` is not given", value_span(given.name),
                help="give `--output`, or `output` in the run file",
            )
        ])  # fmt: skip
    return latest_folder(given.name, ROOT) if resume else new_folder(given.name, ROOT)


def _as_yaml(run: Run) -> str:
    """A run file that says the same without the command line; what has its default is left out."""
    import yaml

    values = run.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text
