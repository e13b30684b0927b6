"""What the extension and a library that it loads must have in common: the headers of what both read."""

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
