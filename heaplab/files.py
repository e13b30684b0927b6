"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from heaplab.errors import UsageError


@contextmanager
def naming(path: str | os.PathLike[str], *others: Path) -> Iterator[None]:
    """Let an OSError that names no file, or one of `others`, name `path`: what the user knows."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, *map(str, others)):
            error.filename = os.fspath(path)
            error.filename2 = None
        raise


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a file to write that takes `path`'s place when the block ends, and vanishes when it fails.

    Until then it stands beside `path`, so the two are on one file system and the change is atomic.
    Raises: UsageError when `path` can be no regular file; OSError, naming `path`, when writing fails.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise UsageError(f"{path}: is not a regular file: name one to write")
    draft = target.with_name(f".{target.name[:200]}.{os.getpid()}.tmp")
    with naming(path, draft):
        try:
            with draft.open("xb") as file:
                yield file
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
