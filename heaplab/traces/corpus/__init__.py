"""The bundled traces: recorded from real programs by experiments/record_corpus.py."""

from pathlib import Path


def directory() -> Path:
    """Where they are."""
    return Path(__file__).parent


def names() -> list[str]:
    """The names of the bundled traces, sorted; `open_trace` takes them.

    >>> from heaplab.traces import corpus, open_trace
    >>> all(open_trace(name).header.name == name for name in corpus.names())
    True
    """
    return sorted(path.stem for path in directory().glob("*.hlt"))


def path(name: str) -> Path:
    """The file of the bundled trace `name`."""
    return directory() / f"{name}.hlt"
