"""lossc: the compiler for training objectives."""

from pathlib import Path as _Path

__version__ = "0.1.0"

if not (_Path(__file__).parent / "compiler").is_dir():  # a checkout without symbolic links
    __path__.append(str(_Path(__file__).resolve().parents[2]))
