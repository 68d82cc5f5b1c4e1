"""`lossc list` and `lossc explain`: what the library and the language hold, and what a code means."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from lossc.grammar.diagnostics import LosscError, error
from lossc.grammar.syntax import BLANK
from lossc.runtime.cli.options import command_span


def register(application: typer.Typer) -> None:
    application.command("list", epilog="Examples: `lossc list --terms | grep kl`, `lossc list --zoo`")(list_library)
    application.command("explain", epilog="Example: `lossc explain E204`")(explain)


def list_library(
    settings: Annotated[bool, typer.Option("--settings", help="Only settings.")] = False,
    terms: Annotated[bool, typer.Option("--terms", help="Only terms.")] = False,
    zoo: Annotated[bool, typer.Option("--zoo", help="Published objectives, by family; as JSON a list.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """List the settings and terms of the library with their signatures, or the published objectives of the zoo."""
    if zoo:
        works = list(_works())
        typer.echo(json.dumps(works, indent=2, ensure_ascii=False) if json_output else _work_listing(works))
        return
    both = settings == terms
    found: dict[str, Any] = {}
    if settings or both:
        found["settings"] = list(_settings())
    if terms or both:
        found["terms"] = list(_terms())
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if json_output else _listing(found))


def _settings() -> list[dict[str, Any]]:
    from lossc.compiler.library import shipped_module
    from lossc.grammar.expressions import print_expr, print_type
    from lossc.grammar.syntax import Let, Reduce, Tensor, Use

    module = shipped_module("std.settings")
    return [
        {
            "name": name,
            "module": "std.settings",
            "about": " ".join(_lines(setting.comments)),
            "uses": [f"{i.path} as {i.alias}" for i in setting.items if isinstance(i, Use)],
            "tensors": [f"{i.role} {i.name} : {print_type(i.type)}" for i in setting.items if isinstance(i, Tensor)],
            "lets": [item.name for item in setting.items if isinstance(item, Let)],
            "reduce": next((print_expr(item.value) for item in setting.items if isinstance(item, Reduce)), ""),
        }
        for name, setting in (module.settings.items() if module else ())
    ]


def _terms() -> list[dict[str, Any]]:
    from lossc.compiler.library import shipped_module, shipped_modules
    from lossc.grammar.expressions import signature_doc
    from lossc.grammar.pretty import flat

    modules = [module for path in shipped_modules() if (module := shipped_module(path))]
    return [
        {
            "name": name,
            "module": module.path,
            "signature": flat(signature_doc(term.name, term.formals, term.result)),
            "about": _lines(term.comments),
        }
        for module in modules
        for name, term in module.terms.items()
    ]


def _works() -> Iterator[dict[str, Any]]:
    from lossc.compiler.zoo import zoo_entries

    for entry in zoo_entries():
        yield {
            "id": int(entry.id) if entry.id.isdecimal() else entry.id,
            "name": entry.name,
            "family": entry.family,
            "reference": entry.reference,
            "path": str(entry.path),
            "title": entry.title,
            "cite": entry.cite,
            "certainty": entry.certainty,
            "about": entry.about,
            "inputs": list(entry.inputs),
            "models": list(entry.models),
            "sizes": list(entry.sizes),
            "total_steps": entry.total_steps,
            "additivity": entry.additivity,
        }


def _work_listing(works: Sequence[dict[str, Any]]) -> str:
    lines: list[str] = []
    family = ""
    for work in works:
        if work["family"] != family:
            family = work["family"]
            lines += ["", family] if lines else [family]
        lines += [f"    {work['reference']}  {work['title']}", f"        {_first_sentence(work['about'])}"]
        lines += [f"        {work['certainty']} · {work['additivity']} · reads {', '.join(work['inputs'])}"]
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    """All of it is on the page of the family, and in JSON."""
    return re.split(r"(?<=\w{3}[.!?]) ", text, maxsplit=1)[0]


def _lines(comments: Sequence[str]) -> list[str]:
    """The text of the comments above a declaration: what stands behind the last empty line."""
    last_blank = max((at for at, comment in enumerate(comments) if comment == BLANK), default=-1)
    return [comment.strip() for comment in comments[last_blank + 1 :]]


def _listing(found: dict[str, Any]) -> str:
    lines: list[str] = []
    for setting in found.get("settings", ()):
        lines += [f"{setting['module']}.{setting['name']}  {setting['about']}"]
        lines += [f"    {line}" for line in (*setting["uses"], *setting["tensors"])]
        if setting["lets"]:
            lines += [f"    let {', '.join(setting['lets'])}"]
        lines += [*([f"    reduce {setting['reduce']}"] if setting["reduce"] else []), ""]
    module = ""
    for term in found.get("terms", ()):
        if term["module"] != module:
            module = term["module"]
            lines += ["", module] if lines else [module]
        lines += [f"    {term['signature']}"]
        lines += [f"        {term['about'][0]}"] if term["about"] else []
    return "\n".join(lines).rstrip()


def explain(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="A code such as E204; left out, all are listed.")] = None,
) -> None:
    """Explain a code: its cause, an example that is wrong, and the same one corrected."""
    from lossc.grammar.diagnostics.catalogue import codes, page

    known = codes()
    if code is None:
        typer.echo("\n".join(f"{name}  {title}" for name, title in known.items()))
        return
    if code.upper() not in known:
        from lossc.grammar.suggest import did_you_mean

        help_ = did_you_mean(code.upper(), known) or ("`lossc explain` lists all codes",)
        raise LosscError([error("E805", f"there is no code `{code}`", command_span(code), help=help_)])
    _show_markdown(page(code.upper()))


def _show_markdown(text: str) -> None:
    """Formatted on a terminal, as it is in a pipe."""
    if not sys.stdout.isatty():
        typer.echo(text.rstrip("\n"))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
