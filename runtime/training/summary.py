"""The lines above and the table below a run."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossc.grammar.diagnostics.render import visible
from lossc.runtime.training.journal import Reading
from lossc.runtime.training.planning import Plan
from lossc.runtime.training.session import Outcome


def print_heading(console: Console, plan: Plan) -> None:
    run = plan.run
    about = " ".join(plan.spec.program.meta.get("about", "").split())
    console.print(Text.assemble((plan.spec.program.name, "bold"), f"  {visible(about)}"), soft_wrap=True)
    place = f"data {run.data.source}, folder {plan.folder.path}, objective sha256 {plan.spec.digest[:12]}"
    console.print(visible(place), highlight=False, soft_wrap=True)


def print_summary(console: Console, outcome: Outcome) -> None:
    """Held-out readings before and after, where the picture is, where the model is."""
    readings = outcome.journal.of("held_out")
    if not outcome.journal.readings:
        return
    if readings:
        console.print(f"held-out rows, step {readings[0].step} and step {readings[-1].step}", highlight=False)
    else:
        readings = outcome.journal.of("train")
        console.print("training batches, first and last step")
    console.print(_table(readings[0], readings[-1]))
    console.print(visible(f"picture  {outcome.folder.curves}"), highlight=False)
    if not outcome.interrupted:
        console.print(visible(f"model    {outcome.folder.model}"), highlight=False)


def _table(before: Reading, after: Reading) -> Table:
    table = Table()
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    names = {**dict.fromkeys(after.terms, "term"), **dict.fromkeys(after.monitors, "monitor")}
    first, last = before.terms | before.monitors, after.terms | after.monitors
    table.add_row("loss", f"{before.loss:.4f}", f"{after.loss:.4f}", end_section=True)
    for name, kind in names.items():
        table.add_row(f"{name} ({kind})" if kind == "monitor" else name, f"{first[name]:.4f}", f"{last[name]:.4f}")
    return table
