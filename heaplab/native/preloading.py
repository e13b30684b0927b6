"""Starting programs with a library preloaded."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def preloadable(path: Path) -> Iterator[Path]:
    """Give a path to the file `path` that LD_PRELOAD, which is split at spaces and colons, can name."""
    if not set(" :") & set(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        link = Path(directory) / path.name
        link.symlink_to(path)
        yield link


def with_preload(env: Mapping[str, str], library: Path) -> dict[str, str]:
    """Return the environment of a program that is to load `library` before all others.

    >>> with_preload({"LD_PRELOAD": "b.so"}, Path("/a.so"))
    {'LD_PRELOAD': '/a.so:b.so'}
    """
    return {**env, "LD_PRELOAD": ":".join(filter(None, [str(library), env.get("LD_PRELOAD")]))}
