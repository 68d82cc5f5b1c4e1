"""The edge of the program: every failure leaves as a message and an exit status, never as a traceback.

| status | meaning                                                      |
|--------|--------------------------------------------------------------|
| 0      | done                                                         |
| 1      | problems were found in a file, a batch or a run; all printed |
| 2      | the command line itself is wrong                             |
| 70     | a fault of lossc; `LOSSC_DEBUG=1` shows the traceback        |
| 130    | interrupted                                                  |
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lossc.grammar.diagnostics import LosscError
from lossc.runtime.cli.report import print_problems

PROBLEMS, USAGE, FAULT, INTERRUPTED = 1, 2, 70, 130
_USAGE_CODES = frozenset({"E802", "E805", "E806"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its status."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the status is returned."""
    from lossc.runtime.cli.application import application

    try:
        application(args=arguments, prog_name="lossc")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except LosscError as failure:
        print_problems(failure.diagnostics, stream=sys.stderr)
        return USAGE if {problem.code for problem in failure.diagnostics} <= _USAGE_CODES else PROBLEMS
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as fault:
        return _report_fault(fault)
    return 0


def _report_fault(fault: Exception) -> int:
    if os.environ.get("LOSSC_DEBUG"):
        raise fault
    print(
        f"lossc: internal fault ({type(fault).__name__}: {str(fault).splitlines()[0] if str(fault) else ''})\n"
        "This is a fault of lossc, not of your file. Please report it with the command and the file;\n"
        "LOSSC_DEBUG=1 shows where it happened.",
        file=sys.stderr,
    )
    return FAULT
