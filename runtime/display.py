"""How an objective looks: on one line, as an equation, in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossc.runtime.objective import Objective


def summary(objective: Objective) -> str:
    """`Objective dpo_sft(beta=0.1): pref + tie subject to drift`."""
    program = objective.program
    settings = ", ".join(f"{name}={_short(value)}" for name, value in objective.settings.items())
    terms = "".join(f" {'-' if term.sign < 0 else '+'} {term.name}" for term in program.terms)
    bounds = ", ".join(each.name for each in program.constraints)
    whole = terms.removeprefix(" + ").strip() + (f" subject to {bounds}" if bounds else "")
    return f"Objective {program.name or 'without a name'}({settings}): {whole}"


def as_latex(objective: Objective) -> str:
    """The equation for a notebook."""
    from lossc.compiler.display.equation import latex_equation

    return f"$$\n{latex_equation(objective.program)}\n$$"


def as_html(objective: Objective) -> str:
    """The objective with its text, for a notebook that shows HTML."""
    title = objective.program.meta.get("title") or objective.program.name or "objective"
    return (
        f"<details open><summary><b>{escape(title)}</b> <code>{escape(summary(objective))}</code></summary>"
        f"<pre>{escape(objective.text)}</pre></details>"
    )


def _short(value: float | str | list[float]) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
