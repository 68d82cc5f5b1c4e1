"""The small sets that scikit-learn carries inside of its package; nothing is downloaded."""

from __future__ import annotations

from lossc.grammar.diagnostics import LosscError, error
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.files import value_span
from lossc.runtime.training.rows import Row, Rows

SETS = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


def read_scikit(name: str) -> Rows:
    """Rows with `features` (a list of numbers), `labels` (classes) or `target` (real values)."""
    if name not in SETS:
        source = f"sklearn:{name}"
        raise LosscError([
            error(
                "E820", f"scikit-learn carries no set `{name}`", value_span(source, len("sklearn:")),
                help=did_you_mean(name, SETS) or (f"the sets are {', '.join(SETS)}",),
            )
        ])  # fmt: skip
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    features, targets = found.data.tolist(), found.target.tolist()
    column = "labels" if hasattr(found, "target_names") and isinstance(targets[0], int) else "target"
    rows = [
        Row({"features": x, column: y if column == "labels" else _list(y)}, f"<sklearn:{name}>", number)
        for number, (x, y) in enumerate(zip(features, targets, strict=True), start=1)
    ]
    return Rows(f"sklearn:{name}", ("features", column), rows)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
