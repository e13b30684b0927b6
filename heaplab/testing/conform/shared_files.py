"""The files that are there when a sequence begins, on the real kernel and in the model.

They lie in shared memory (tmpfs), where pages are as those of a memfd: a disk's file system would read ahead,
and map large folios.
"""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from heaplab.errors import UsageError
from heaplab.testing.conform.images import images
from heaplab.testing.conform.steps import FILES

_MEMORY: Final = Path("/dev/shm")


@cache
def contents() -> tuple[tuple[str, bytes], ...]:
    """Return each file: its path, relative to where the agents are, and what it holds."""
    numbered = [
        (f"f{number}", bytes(1 + index % 251 for index in range(size))) for number, size in enumerate(FILES)
    ]
    return *numbered, *((image.path, image.data) for image in images() if image.data is not None)


class SharedFiles:
    """A directory with these files, on this computer, for one sequence.

    Raises: UsageError where there is no shared memory with names.
    """

    def __init__(self) -> None:
        if not _MEMORY.is_dir() or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
            raise UsageError(f"heaplab conform needs {_MEMORY}, mounted as tmpfs without noexec")
        self.directory = tempfile.mkdtemp(prefix="heaplab-", dir=_MEMORY)
        root = Path(self.directory)
        root.chmod(0o755)
        (root / "bin").mkdir()
        (root / "bin").chmod(0o755)
        for path, data in contents():
            (root / path).write_bytes(data)
            (root / path).chmod(0o777)

    def remove(self) -> None:
        """Take the files away."""
        shutil.rmtree(self.directory, ignore_errors=True)
