"""Row programs: the computation around the sweeps over classes, as plain loops in double precision.

`derivatives` builds the gradient of values on rows as graphs; `row_program` turns any such graphs into one C function.
"""

from lossc.compiler.rows.c import RowProgram, row_program
from lossc.compiler.rows.faults import NoRowsError
from lossc.compiler.rows.lower import Output, Reading
from lossc.compiler.rows.reverse import derivatives

__all__ = ["NoRowsError", "Output", "Reading", "RowProgram", "derivatives", "row_program"]
