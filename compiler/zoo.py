"""The zoo: published objectives, one file each in `specs/zoo/<family>/`, and what is known of each.

`zoo/<family>/<name>` refers to a file of the zoo wherever the path of a spec is expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from lossc.compiler.check import Checked, check_source
from lossc.compiler.core import walk
from lossc.compiler.elaborate.run_values import PROGRESS
from lossc.compiler.program import Program
from lossc.compiler.settle import settle
from lossc.grammar.source import Source
from lossc.grammar.syntax import Meta

PREFIX = "zoo"


@dataclass(frozen=True)
class ZooEntry:
    """One work. `id` is its number in the catalogue of works; `certainty` says how far its equation was compared.

    `inputs` are what a call takes, `models` those of them that are called. Loading needs the extents of the axes
    `sizes`, and `progress` needs the length of the run. `coupled` names the terms whose value depends on how a batch is
    split.
    """

    reference: str
    family: str
    name: str
    path: Path
    id: str
    title: str
    cite: str
    certainty: str
    about: str
    inputs: tuple[str, ...]
    models: tuple[str, ...]
    sizes: tuple[str, ...]
    total_steps: bool
    coupled: tuple[str, ...]

    @property
    def additivity(self) -> str:
        """Whether micro-batches and ranks add up exactly."""
        return f"coupled: {', '.join(self.coupled)}" if self.coupled else "additive"


@cache
def zoo_files() -> dict[str, Path]:
    """Every file of the zoo by its reference, sorted."""
    with as_file(files("lossc.specs").joinpath(PREFIX)) as root:
        found = sorted(root.resolve().glob("*/*.loss"))
        return {f"{PREFIX}/{path.parent.name}/{path.stem}": path for path in found}


def is_reference(path: str) -> bool:
    """Whether a path may refer to a work of the zoo."""
    return Path(path).parts[:1] == (PREFIX,)


def located(path: str, folder: Path = Path()) -> Path:
    """The file that a path means: the path itself, or the work of the zoo with this name if there is no such file."""
    written = folder / path
    if not is_reference(path) or written.exists():
        return written
    return zoo_files().get(Path(path).as_posix().removesuffix(".loss"), written)


def checked(path: Path) -> Checked:
    """A file of the zoo, checked."""
    return check_source(Source(str(path), path.read_text(encoding="utf-8")))


def zoo_entry(reference: str) -> ZooEntry:
    """What is known of one work."""
    path = zoo_files()[reference]
    found = checked(path)
    metas: dict[str, str] = {item.key: item.value for item in found.file.items if isinstance(item, Meta)}
    return ZooEntry(
        reference, path.parent.name, path.stem, path, metas.get("id", ""), metas.get("title", ""), metas.get("cite", ""),
        metas.get("certainty", ""), " ".join(metas.get("about", "").split()), *_needs(found.program),
        coupled_terms(found.program),
    )  # fmt: skip


def _needs(program: Program | None) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], bool]:
    """The inputs of a work, the models among them, the axes whose extents loading needs, and whether it needs `progress`."""
    if program is None:
        return (), (), (), False
    models = tuple(name for name, info in program.tensors.items() if info.kind.name == "model")
    held = [info.order for info in program.params.values() if info.role == "learn"]
    held += [info.order for info in program.states.values()]
    held += [info.multiplier.order for info in program.constraints]
    told = {name for name, axis in program.axes.items() if axis.positions}
    sizes = tuple(dict.fromkeys(axis for order in held for axis in order if axis not in told))
    return tuple(program.tensors), models, sizes, any(PROGRESS in walk(term.value) for term in program.terms)


def zoo_entries(family: str | None = None) -> tuple[ZooEntry, ...]:
    """Every work of the zoo, or of a family of it, sorted by family and name."""
    wanted = [reference for reference in zoo_files() if family is None or reference.split("/")[1] == family]
    return tuple(zoo_entry(reference) for reference in wanted)


def coupled_terms(program: Program | None) -> tuple[str, ...]:
    return tuple(term.name for term in settle(program).terms if not term.additive) if program is not None else ()
