"""Where heaplab's C sources are: in a checkout beside the package, in an installed package within it."""

from pathlib import Path

from heaplab.errors import HeaplabError

_PACKAGE = Path(__file__).resolve().parent


def c_sources() -> Path:
    """Return the folder csrc.

    setup.py copies it into what is installed, as heaplab/_csrc.
    Raises: HeaplabError when it is in neither place.

    >>> (c_sources() / "heap" / "heap.h").is_file()
    True
    """
    for folder in (_PACKAGE / "_csrc", _PACKAGE.parent / "csrc"):
        if folder.is_dir():
            return folder
    raise HeaplabError("heaplab was installed without its C sources: install it anew")
