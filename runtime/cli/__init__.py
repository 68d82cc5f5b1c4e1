"""The command line: `lossc`, one file a command, and the boundary that no traceback crosses."""

from lossc.runtime.cli.boundary import main

__all__ = ["main"]
