"""Reading texts, and writing files such that an interruption leaves either the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.grammar.source import Source, Span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BYTES = 1 << 20
"""What a spec or a run file may hold; data are not read here."""


def write_text(path: Path, text: str) -> None:
    """Replaces the content of a file at once.

    Raises E830 where the folder cannot be written to, E831 where the disk is full.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_png(figure: Figure, path: Path) -> None:
    """Replaces a file by a picture of `figure` at once, with the same errors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; it replaces `path` when the block succeeds, and is removed otherwise."""
    with reporting_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(_mode_of(path))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _mode_of(path: Path) -> int:
    """The permissions of the file to be replaced, or those that a new file would get."""
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


@contextlib.contextmanager
def reporting_names(path: Path | str) -> Iterator[None]:
    """Turns what Python raises for a name that no file can have into the OSError raised for other names."""
    try:
        yield
    except UnicodeEncodeError as failure:
        raise OSError(errno.EINVAL, "it is no name of a file") from failure
    except ValueError as failure:
        if "\0" not in str(path):
            raise
        raise OSError(errno.EINVAL, "no name of a file holds a character 0") from failure


@contextlib.contextmanager
def reporting_writes(path: Path) -> Iterator[None]:
    """Turns a failure to write below `path` into E830 (not allowed) or E831 (no space left)."""
    try:
        with reporting_names(path):
            yield
    except OSError as failure:
        raise LosscError([write_problem(path, failure)]) from failure


def write_problem(path: Path, failure: OSError) -> Diagnostic:
    where = path_span(path)
    if failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error(
            "E831", f"no space left to write `{path}`", where, help="free some space; what was saved before is whole"
        )
    reason = (failure.strerror or str(failure)).lower()
    return error("E830", f"cannot write `{path}`: {reason}", where, help="choose a folder that you may write to")


def path_span(path: Path | str) -> Span:
    """A path as a place in a message: the path itself, underlined."""
    return value_span(str(path))


GIVEN = "<given>"


def value_span(text: str, start: int = 0) -> Span:
    """A value of a run file or of the command line, underlined; the reader of a run file puts in its line."""
    return Span(Source(GIVEN, text), start, len(text))


def read_source(path: str) -> Source:
    """The text of a file, of stdin for `-`, or of a work of the zoo for `zoo/family/name`.

    Raises E801 where it cannot be read.
    """
    try:
        with reporting_names(path):
            data = sys.stdin.buffer.read(MAX_BYTES + 1) if path == "-" else _read_bytes(_located(path))
        text = data.decode("utf-8")
    except OSError as failure:
        raise LosscError([unreadable(path, failure)]) from None
    except UnicodeDecodeError as failure:
        reason = f"byte {failure.start} is not UTF-8"
        raise LosscError([error("E801", f"cannot read `{path}`: {reason}", path_span(path))]) from None
    return Source("<stdin>" if path == "-" else path, text)


def _located(path: str) -> Path:
    if not path.startswith("zoo"):
        return Path(path)
    from lossc.compiler.zoo import located

    return located(path)


def _read_bytes(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return path.read_bytes()


def unreadable(path: str, failure: OSError) -> Diagnostic:
    """E801, with the file of that folder whose name is closest."""
    help_lines: list[str] = []
    if failure.errno == errno.ENOENT:
        help_lines = _similar_files(Path(path))
    reason = (failure.strerror or str(failure)).lower()
    return error("E801", f"cannot read `{path}`: {reason}", path_span(path), help=help_lines)


def _similar_files(path: Path) -> list[str]:
    from difflib import get_close_matches

    if path.parts[:1] == ("zoo",):
        return _similar_works(path)
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    except OSError:
        return []
    close = get_close_matches(path.name, names, n=1)
    return [f"did you mean `{path.parent / close[0]}`?"] if close else []


def _similar_works(path: Path) -> list[str]:
    from lossc.compiler.zoo import zoo_files
    from lossc.grammar.suggest import did_you_mean

    works = {reference.rpartition("/")[2]: reference for reference in zoo_files()}
    same = works.get(path.stem)
    if same is not None:
        return [f"did you mean `{same}`?"]
    return list(did_you_mean(path.as_posix(), zoo_files()) or ("`lossc list --zoo` lists the works of the zoo",))
