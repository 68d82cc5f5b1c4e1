"""Damaged pages of a Parquet file, told by what its footer says of every column of every row group.

Pages may have checksums, and often have none; the footer has the least and the largest value and the number of nulls. A byte
that has changed within those bounds is not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet


class DamagedError(Exception):
    """A column holds other values than those that were written."""


def check_against(footer: parquet.FileMetaData, table: pyarrow.Table) -> None:
    """Raises DamagedError where a column is not what the footer says of it. Columns of lists and records are not looked at."""
    if footer.num_rows != table.num_rows:
        raise DamagedError(f"there are {table.num_rows} rows where {footer.num_rows} were written")
    start = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for at in range(group.num_columns):
            column = group.column(at)
            if column.path_in_schema in table.column_names and column.statistics is not None:
                held = table.column(column.path_in_schema).slice(start, group.num_rows)
                _check(column.path_in_schema, column.statistics, held, number)
        start += group.num_rows


def _check(name: str, said: parquet.Statistics, held: pyarrow.ChunkedArray, group: int) -> None:
    if said.has_null_count and said.null_count != held.null_count:
        counts = f"{held.null_count} nulls where {said.null_count} were written"
        raise DamagedError(f"the column `{name}` has {counts} (row group {group}): the file is damaged")
    if said.has_min_max and _is_ordered(held.type) and not _is_within(said, held):
        message = f"the column `{name}` holds values beyond those that were written (row group {group}): the file is damaged"
        raise DamagedError(message)


def _is_ordered(kind: Any) -> bool:
    """Whether values of a type are compared as Python compares them."""
    from pyarrow import types

    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string)
    return any(test(kind) for test in tests)


def _is_within(said: parquet.Statistics, held: pyarrow.ChunkedArray) -> bool:
    from pyarrow import compute

    found = compute.min_max(held)
    least, most = found["min"].as_py(), found["max"].as_py()
    values = (said.min, least, most, said.max)
    if any(value is None or value != value for value in values):
        return True
    return bool(said.min <= least and most <= said.max)
