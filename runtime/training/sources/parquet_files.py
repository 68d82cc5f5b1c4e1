"""Parquet files, and the folders that Datasets writes with `save_to_disk`: tables with typed columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossc.grammar.diagnostics import LosscError, error
from lossc.runtime.files import value_span
from lossc.runtime.training.extras import require
from lossc.runtime.training.rows import Row, Rows
from lossc.runtime.training.sources.damage import DamagedError, check_against

if TYPE_CHECKING:
    import pyarrow

_MARKERS = ("state.json", "dataset_dict.json", "dataset_info.json")
"""What `save_to_disk` leaves in a folder."""


def read_parquet(path: Path) -> Rows:
    """The rows of a Parquet file; E820 where it is none, or its pages are not those that it was written with."""
    require("pyarrow", "data", f"reading `{path}`")
    import pyarrow
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            found = parquet.ParquetFile(file, page_checksum_verification=True)
            table = found.read()
            table.validate(full=True)
            check_against(found.metadata, table)
            return _rows(table, str(path))
    except (pyarrow.ArrowException, ValueError, OverflowError, DamagedError) as failure:
        raise _unreadable(path, failure) from None


def is_dataset(path: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote."""
    return path.is_dir() and any((path / name).is_file() for name in _MARKERS)


def read_dataset(path: Path, split: str) -> Rows:
    """The rows of a folder of Datasets: of its only split, or of the one that is named."""
    require("pyarrow", "data", f"reading `{path}`")
    import pyarrow

    folder = _of_split(path, split)
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        files = [folder / Path(entry["filename"]).name for entry in state["_data_files"]]
        parts = [pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))).read_all() for file in files]
        table = pyarrow.concat_tables(parts)
        table.validate(full=True)
        return _rows(table, str(folder))
    except (pyarrow.ArrowException, ValueError, OverflowError, KeyError, TypeError) as failure:
        raise _unreadable(folder, failure) from None


def _of_split(path: Path, split: str) -> Path:
    listing = path / "dataset_dict.json"
    if not listing.is_file():
        return path / split if split else path
    names = json.loads(listing.read_text(encoding="utf-8")).get("splits", [])
    if split not in names and (split or len(names) != 1):
        message = f"`{path}` has no split `{split}`" if split else f"`{path}` has several splits"
        help_ = f"name one: {', '.join(f'`{path.name}:{name}`' for name in names)}"
        raise LosscError([error("E820", message, value_span(split or path.name), help=help_)])
    return path / (split or names[0])


def _rows(table: pyarrow.Table, name: str) -> Rows:
    columns = tuple(table.column_names)
    rows = [Row(values, name, number, _shown(values)) for number, values in enumerate(table.to_pylist(), start=1)]
    return Rows(name, columns, rows)


def _shown(values: dict[str, Any]) -> str:
    """The row as a line, for messages; what JSON has no form for is shown by its type."""
    return json.dumps(values, ensure_ascii=False, default=lambda value: f"<{type(value).__name__}>")


def _unreadable(path: Path, failure: Exception) -> LosscError:
    reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
    return LosscError([error("E820", f"cannot read the data `{path}`: {reason}", value_span(path.name))])
