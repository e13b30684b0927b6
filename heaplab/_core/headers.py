"""What the extension was built from: hashes that it keeps, so that others see whether they fit."""

import hashlib
from pathlib import Path

_HEADERS = (
    "machine/machine.h",
    "machine/mmu.h",
    "env/env.h",
    "env/model.h",
    "heap/heap.h",
    "entry/written.h",
)


def fingerprint(csrc: Path) -> str:
    """Return a hash of the headers below the folder csrc.

    The extension keeps the one that it was built with (`hl_headers`): a library that is compiled later, with
    the headers that stand there now, fits only if the two are equal.
    """
    return hashlib.sha256(b"\0".join((csrc / name).read_bytes() for name in _HEADERS)).hexdigest()[:32]


def sources_hash(csrc: Path) -> str:
    """Return a hash of all C below the folder csrc; the extension keeps that of its build (`hl_sources`)."""
    files = sorted(csrc.rglob("*.[ch]"))
    parts = (part for file in files for part in (str(file.relative_to(csrc)).encode(), file.read_bytes()))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
