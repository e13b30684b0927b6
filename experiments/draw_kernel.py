"""Redraw the pictures of the pages in docs/: run their sessions, and keep what they save.

python experiments/draw_kernel.py [DIRECTORY [PAGE ...]]       default: docs/img, and all pages
"""

import contextlib
import doctest
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def draw(page: Path, directory: Path) -> None:
    """Run the sessions of a page where what they save falls into `directory`."""
    with contextlib.chdir(directory):
        doctest.testfile(
            str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE, raise_on_error=True
        )


def pages() -> list[Path]:
    """The pages whose sessions save pictures."""
    return [page for page in sorted(DOCS.glob("*.md")) if ".save(" in page.read_text()]


if __name__ == "__main__":
    into = Path(sys.argv[1] if len(sys.argv) > 1 else DOCS / "img")
    into.mkdir(exist_ok=True)
    for page in pages():
        if page.name in sys.argv[2:] or not sys.argv[2:]:
            draw(page, into)
            print(page.name)
