"""The list of codes: one page for each, named for it, whose heading is `# CODE: title`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def codes() -> dict[str, str]:
    """Every code with the title of its page, sorted."""
    pages = files("lossc.grammar.diagnostics").joinpath("pages")
    names = sorted(page.name.removesuffix(".md") for page in pages.iterdir() if page.name.endswith(".md"))
    return {name: page(name).splitlines()[0].removeprefix(f"# {name}: ") for name in names}


def page(code: str) -> str:
    """The page of a code as Markdown; KeyError where there is none."""
    file = files("lossc.grammar.diagnostics").joinpath("pages").joinpath(f"{code}.md")
    if not code.isalnum() or not file.is_file():
        raise KeyError(code)
    return file.read_text(encoding="utf-8")
