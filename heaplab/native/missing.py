"""What a recording lacks, in sentences, and why."""

import os
import stat
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from heaplab.native.monitoring import Sight
from heaplab.native.raw import Image

_MAX_SCRIPTS = 4
_CAPABILITIES = "security.capability"


def missing(sight: Sight, images: Sequence[Image]) -> list[str]:
    """Return a sentence for everything that the recording of `images` lacks, or that had to be mended."""
    sentences = [
        f"{path} was not recorded{_times(number)}: {obstacle(path)}"
        for path, number in Counter(sight.unseen).items()
    ]
    sentences += [
        f"{path} was not recorded{_times(number)}: it was run where it cannot open the recorder's "
        "library, in another root directory or without the rights to read it"
        for path, number in Counter(sight.unreachable).items()
    ]
    sentences += [
        f"{path} was to run without the recorder in its environment{_times(number)}: it was put back, and "
        "recorded"
        for path, number in Counter(sight.restored).items()
    ]
    sentences += [
        f"{image.program} (process {image.pid}) is recorded up to its call {len(image.words):,} only: "
        + os.strerror(image.failed)
        for image in images
        if image.failed
    ]
    sentences += [
        f"a part of what a process did could not be written down: {os.strerror(error)}"
        for error in set(sight.lost.values())
    ]
    if sight.left:
        number = len(sight.left)
        still = "1 process was" if number == 1 else f"{number} processes were"
        sentences.append(f"{still} still running when the recording ended: what followed is missing")
    return sentences


def _times(number: int) -> str:
    return "" if number == 1 else f" ({number} times)"


def obstacle(path: str) -> str:
    """Return why the recorder is not loaded into the program `path`.

    >>> obstacle("/nowhere/at/all")
    'the recorder was not loaded into it'
    """
    return next(_obstacles(path, _MAX_SCRIPTS), "the recorder was not loaded into it")


def _obstacles(path: str, scripts: int) -> Iterator[str]:
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & stat.S_ISUID or (mode & stat.S_ISGID and mode & stat.S_IXGRP):
                yield "it is setuid"
            if _CAPABILITIES in os.listxattr(file.fileno()):
                yield "its file has capabilities"
            line = file.readline(256)
            if line.startswith(b"#!") and scripts:
                interpreter = os.fsdecode(line[2:].split()[0]) if line[2:].split() else ""
                yield from (f"{why} ({interpreter})" for why in _obstacles(interpreter, scripts - 1))
                return
            file.seek(0)
            program = ELFFile(file)
            if program.elfclass != 8 * struct.calcsize("P"):
                yield f"it is a program of {program.elfclass} bits"
            if not any(segment["p_type"] == "PT_INTERP" for segment in program.iter_segments()):
                yield "it is statically linked"
    except (OSError, ELFError, ValueError):
        return
