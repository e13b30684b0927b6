"""Programs for agents: each is what its name says, and begins with the trampoline."""

import struct
from pathlib import Path

import pytest

from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.elf import Elf
from heaplab.testing.conform.agents import trampoline
from heaplab.testing.conform.images import images, what_lies_on
from heaplab.testing.conform.shared_files import SharedFiles, contents

NAMES = [image.path.partition("/")[2] for image in images()]


@pytest.fixture(scope="module", autouse=True)
def _built():
    try:
        trampoline()
    except UsageError as error:
        pytest.skip(str(error))


def test_names_are_there_once():
    assert len(set(NAMES)) == len(NAMES) > 25


@pytest.mark.parametrize("image", images(), ids=NAMES)
def test_what_runs_begins_with_the_trampoline(image):
    elf = Elf.parse(image.data) if image.data else None
    if elf is None or elf.interpreter is not None:
        return
    text = next(each for each in elf.segments if each.vaddr <= elf.entry < each.vaddr + each.filesz)
    at = elf.entry - text.vaddr + text.offset
    assert image.data[at : at + len(trampoline())] == trampoline()


def test_the_model_execs_them_and_what_it_puts_on_the_stack_is_told():
    kernel = Kernel("8 MiB", aslr=False)
    for path, data in contents():
        kernel.write_file(path, data, disk=False)
    done = {}
    for image, name in zip(images(), NAMES, strict=True):
        process = kernel.init.fork()
        try:
            process.execve(image.path, [each.decode() for each in image.arguments(2)])
        except OSError as error:
            done[name] = error.errno
            continue
        top = kernel.task(process.pid).memory.layout.stack_top
        done[name] = what_lies_on(process.read(process.stack, top - process.stack), process.stack)
        process.exit(0)
    assert "argc 2, " in done["plain"]
    assert "argc 4, " in done["script-with-option"]
    assert "7=0x7fff" in done["dynamic"]  # AT_BASE
    assert "strings b'x86_64\\x00" in done["plain"]
    assert {type(done[name]) for name in ("absent", "text", "no-linker", "script-of-itself")} == {int}


def test_the_stack_is_told_without_what_depends_on_the_computer():
    def stack(random, hwcap):
        at = 0x7000
        words = [1, at + 200, 0, 0, 16, hwcap, 9, 0x400000, 25, at + 96, 0, 0]
        return struct.pack("<12Q", *words) + random + b"x86_64\0".ljust(88, b"\0") + b"name\0\0\0\0"

    told = what_lies_on(stack(b"r" * 16, 5), 0x7000)
    assert told == what_lies_on(stack(b"s" * 16, 6), 0x7000)
    assert told.startswith("argc 1, pointers 0x70c8 0x0, auxv 9=0x400000 25=0x7060, strings b'x86_64")


def test_files_are_there_and_go():
    try:
        files = SharedFiles()
    except UsageError as error:
        pytest.skip(str(error))
    here, there = SharedFiles(), files
    assert here.directory != there.directory
    for each in (here, there):
        for path, data in contents():
            assert Path(each.directory, path).read_bytes() == data
        each.remove()
        assert not Path(each.directory).exists()
