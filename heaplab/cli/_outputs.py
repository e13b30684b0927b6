"""Where a command writes: better refused before the work than after it."""

import os
from pathlib import Path

from heaplab.errors import UsageError


def demand_writable_file(option: str, path: str | None) -> None:
    """Raise UsageError if no file can be written at `path`: better before the work than after it."""
    if path is None:
        return
    if Path(path).is_dir():
        raise UsageError(f"{option} {path}: this is a directory: name a file")
    if (Path(path).exists() and not Path(path).is_file()) or path.startswith("/dev/"):
        raise UsageError(f"{option} {path}: this is no regular file: name one to write")
    _demand_parent(option, path)


def demand_writable_folder(option: str, path: str | None) -> None:
    if path is None:
        return
    if Path(path).exists() and not Path(path).is_dir():
        raise UsageError(f"{option} {path}: this is no directory: name one, or a new one")
    if Path(path).is_dir():
        if not os.access(path, os.W_OK | os.X_OK):
            raise UsageError(f"{option} {path}: you may not write there")
    else:
        _demand_parent(option, path)


def _demand_parent(option: str, path: str) -> None:
    parent = Path(path).absolute().parent
    if not parent.is_dir():
        raise UsageError(f"{option} {path}: there is no directory {parent}: make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: you may not write in {parent}")
