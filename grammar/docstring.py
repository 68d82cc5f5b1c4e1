"""The text of a docstring: free of the indentation that it was written with."""

from __future__ import annotations


def docstring_value(text: str) -> str:
    """What a docstring says; its first line stands behind the quotes and has no part in the common indentation."""
    first, _, rest = text.partition("\n")
    if not first.strip():
        return dedented(rest)
    return dedented("\n".join([first.lstrip(), *_without_margin(rest.split("\n"))]))


def dedented(text: str) -> str:
    """The text without common indentation, blanks at line ends and empty lines at its ends; a fixed point of itself."""
    lines = _without_margin([line.rstrip() for line in text.split("\n")])
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    return "\n".join(lines)


def _without_margin(lines: list[str]) -> list[str]:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[margin:] if line.strip() else "" for line in lines]
