"""`docs/zoo/`: a page for each family of the zoo with its works and their equations, and one that lists the families.

`python -m lossc.compiler.zoo_pages docs/zoo` writes them anew; further arguments name the families to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lossc.compiler.display.equation import latex_equation
from lossc.compiler.program import Program
from lossc.compiler.zoo import ZooEntry, checked, zoo_entries, zoo_files

_HEAD = """\
# The zoo

Published objectives, one file each in `specs/zoo/`, in the notation of their papers as far as the language allows. Load one
with `lossc.load("zoo/preference/dpo_shift")`; every command takes such a name for a file, a run file does (`objective:
zoo/constrained/feasible_learning`), and `lossc list --zoo` lists them all. Copy a file and change it: each is a few lines of
[the language](../language.md).

Each says how far its equation was compared with its source: `checked` with the text of the paper or the code of its
authors; `recalled`, the form in which it is known; `reconstruction`, put together from what is published about it.

These pages are generated from the files (`python -m lossc.compiler.zoo_pages docs/zoo`).
"""

_SURE = {
    "checked": "compared with the paper or its code",
    "recalled": "as it is known, not compared",
    "reconstruction": "a reconstruction",
}


def families() -> tuple[str, ...]:
    """The families of the zoo, sorted."""
    return tuple(sorted({reference.split("/")[1] for reference in zoo_files()}))


def index_page() -> str:
    """The page that lists the families."""
    lines = "".join(f"- [{_spoken(family)}]({family}.md)\n" for family in families())
    return f"{_HEAD}\n{lines}"


def family_page(family: str) -> str:
    """The page of one family."""
    entries = zoo_entries(family)
    contents = "".join(f"- [`{entry.name}`](#{entry.name}): {entry.title}\n" for entry in entries)
    parts = [f"# The zoo: {_spoken(family)}\n", contents]
    parts += ["\n".join(_section(entry)) for entry in entries]
    return "\n".join(parts)


def _section(entry: ZooEntry) -> Iterator[str]:
    program = checked(entry.path).program
    assert program is not None, f"{entry.reference} has errors"
    yield f"## {entry.name}\n"
    yield f"*{entry.title}.* {entry.cite} ({_SURE.get(entry.certainty, entry.certainty)}).\n"
    yield f"{program.meta.get('about', '')}\n"
    yield f"```math\n{latex_equation(program)}\n```\n"
    reads = ", ".join(f"`{name} : {shown}`" for name, shown in _tensors(program))
    yield f"Reads {reads}. {_adds_up(entry)} `{_loading(entry)}`\n"


def _tensors(program: Program) -> Iterator[tuple[str, str]]:
    """Every tensor of a batch with its kind and its axes."""
    for name, info in program.tensors.items():
        axes = f"[{', '.join(info.order)}]" if info.order else ""
        within = f" in {info.kind.codomain}" if info.kind.codomain else ""
        yield name, f"{info.kind.name}{axes}{within}"


def _adds_up(entry: ZooEntry) -> str:
    if not entry.coupled:
        return "Micro-batches and ranks add up exactly."
    return f"How the batch is split matters to {', '.join(f'`{name}`' for name in entry.coupled)}."


def _loading(entry: ZooEntry) -> str:
    """How it is loaded, with what it must be told."""
    extents = ", ".join(f'"{axis}": …' for axis in entry.sizes)
    told = [f'"{entry.reference}"', f"sizes={{{extents}}}" if extents else "", "total_steps=…" if entry.total_steps else ""]
    return f"lossc.load({', '.join(filter(None, told))})"


def _spoken(family: str) -> str:
    return family.replace("_", " ")


def main(folder: str, *chosen: str) -> None:
    """Writes the pages, or those of some families."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / "README.md").write_text(index_page(), encoding="utf-8")
    for family in chosen or families():
        (target / f"{family}.md").write_text(family_page(family), encoding="utf-8")


if __name__ == "__main__":
    import sys

    main(*(sys.argv[1:] or ["docs/zoo"]))
