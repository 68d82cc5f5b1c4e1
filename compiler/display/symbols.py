"""Names as symbols: Greek letters, subscripts, upright words."""

from __future__ import annotations

GREEK: dict[str, tuple[str, str]] = {
    "alpha": ("α", r"\alpha"), "beta": ("β", r"\beta"), "gamma": ("γ", r"\gamma"), "delta": ("δ", r"\delta"),
    "epsilon": ("ε", r"\varepsilon"), "eps": ("ε", r"\varepsilon"), "zeta": ("ζ", r"\zeta"), "eta": ("η", r"\eta"),
    "theta": ("θ", r"\theta"), "iota": ("ι", r"\iota"), "kappa": ("κ", r"\kappa"), "lambda": ("λ", r"\lambda"),
    "lam": ("λ", r"\lambda"), "mu": ("μ", r"\mu"), "nu": ("ν", r"\nu"), "xi": ("ξ", r"\xi"), "pi": ("π", r"\pi"),
    "rho": ("ρ", r"\rho"), "sigma": ("σ", r"\sigma"), "tau": ("τ", r"\tau"), "upsilon": ("υ", r"\upsilon"),
    "phi": ("φ", r"\varphi"), "chi": ("χ", r"\chi"), "psi": ("ψ", r"\psi"), "omega": ("ω", r"\omega"),
    "Gamma": ("Γ", r"\Gamma"), "Delta": ("Δ", r"\Delta"), "Theta": ("Θ", r"\Theta"), "Lambda": ("Λ", r"\Lambda"),
    "Sigma": ("Σ", r"\Sigma"), "Phi": ("Φ", r"\Phi"), "Psi": ("Ψ", r"\Psi"), "Omega": ("Ω", r"\Omega"),
    "inf": ("∞", r"\infty"), "…": ("…", r"\dots"),
}  # fmt: skip
"""Spelled names with their letter and their command."""

COMMANDS: dict[str, str] = dict(GREEK.values())
"""Greek letters with their command."""

_ESCAPED = {"_": r"\_", "%": r"\%", "#": r"\#", "&": r"\&", "$": r"\$"}


def split(identifier: str) -> tuple[str, str]:
    """A symbol with its subscript: `eps_low` is ε with `low`, `z0` is z with 0; a word has none."""
    head, _, tail = identifier.partition("_")
    if tail and (head in GREEK or len(head) == 1):
        return head, tail
    letters = identifier.rstrip("0123456789")
    if letters != identifier and (letters in GREEK or len(letters) == 1):
        return letters, identifier[len(letters) :]
    return identifier, ""


def escaped(text: str) -> str:
    """Text inside of an upright word in LaTeX."""
    return "".join(_ESCAPED.get(char, COMMANDS.get(char, char)) for char in text)
