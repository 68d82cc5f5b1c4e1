"""Where rows come from: files and folders, the sets that scikit-learn carries, and the documentation of Python itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.grammar.suggest import did_you_mean
from lossc.runtime.files import reporting_names, value_span
from lossc.runtime.training.rows import Rows
from lossc.runtime.training.sources.csv_files import read_csv
from lossc.runtime.training.sources.jsonl_files import read_jsonl
from lossc.runtime.training.sources.parquet_files import is_dataset, read_dataset, read_parquet
from lossc.runtime.training.sources.python_docs import read_python_docs
from lossc.runtime.training.sources.scikit import read_scikit

READERS: dict[str, Callable[[Path], Rows]] = {".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}
BUILT_IN: dict[str, Callable[[str], Rows]] = {"sklearn": read_scikit, "python-docs": read_python_docs}


def read_rows(source: str, folder: Path) -> Rows:
    """The rows of a source; a relative path counts from `folder`. E820 where there is no such source."""
    scheme, _, rest = source.partition(":")
    if scheme in BUILT_IN:
        return BUILT_IN[scheme](rest)
    path = folder / source
    try:
        with reporting_names(path):
            reader = _reader(path, folder / scheme, rest)
            if reader is None:
                raise LosscError([_no_reader(source)])
            return reader(path)
    except OSError as failure:
        reason = (failure.strerror or str(failure)).lower()
        raise LosscError([error("E820", f"cannot read the data `{path}`: {reason}", value_span(source))]) from None
    except UnicodeDecodeError as failure:
        reason = f"byte {failure.start} is not UTF-8"
        raise LosscError([error("E820", f"cannot read the data `{path}`: {reason}", value_span(source))]) from None


def _reader(path: Path, before: Path, split: str) -> Callable[[Path], Rows] | None:
    """How to read a path, or what stands before the colon of `folder:split`."""
    if is_dataset(path):
        return lambda whole: read_dataset(whole, "")
    if is_dataset(before):
        return lambda _: read_dataset(before, split)
    return READERS.get(path.suffix)


def _no_reader(source: str) -> Diagnostic:
    return error(
        "E820", f"`{source}` is no source of data", value_span(source),
        help=did_you_mean(source, BUILT_IN) or (
            "data is a .jsonl, .csv or .parquet file, a folder of Datasets, sklearn:NAME or python-docs",
        ),
    )  # fmt: skip
