"""Starting programs with a library preloaded."""

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile


@contextmanager
def preloadable(path: Path) -> Iterator[Path]:
    """Give a path to the file `path` that LD_PRELOAD, which is split at spaces and colons, can name."""
    if not set(" :") & set(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        link = Path(directory) / path.name.translate({ord(" "): "_", ord(":"): "_"})
        link.symlink_to(path)
        yield link


def why_not(program: str | os.PathLike[str]) -> str | None:
    """Return why the loader would preload nothing into the executable `program`; None: it would.

    Of a script, and of what may not be read, nothing is known.

    >>> import sys
    >>> why_not(sys.executable)
    """
    mode = os.stat(program)
    if (mode.st_mode & stat.S_ISUID and mode.st_uid != os.getuid()) or (
        mode.st_mode & stat.S_ISGID and mode.st_gid != os.getgid()
    ):
        return "it runs as another user or group, and keeps its own malloc"
    try:
        with open(program, "rb") as file:
            elf = ELFFile(file)
            if elf.elfclass != 64:
                return "it is a 32-bit program, and the designs are compiled for 64 bits"
            if not any(segment["p_type"] == "PT_INTERP" for segment in elf.iter_segments()):
                return "it is statically linked, and keeps its own malloc"
    except (ELFError, OSError):
        return None
    return None


def with_preload(env: Mapping[str, str], library: Path) -> dict[str, str]:
    """Return the environment of a program that is to load `library` before all others.

    >>> with_preload({"LD_PRELOAD": "b.so"}, Path("/a.so"))
    {'LD_PRELOAD': '/a.so:b.so'}
    """
    return {**env, "LD_PRELOAD": ":".join(filter(None, [str(library), env.get("LD_PRELOAD")]))}
