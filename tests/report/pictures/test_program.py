"""A program's file and its memory: sizes are those of the file and of what exec maps."""

import sys

import pytest

from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.elf import make_elf
from heaplab.report import program_file


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(ram="4 MiB", seed=1)


def test_bss_is_in_memory_only(kernel, legible):
    image = make_elf(text=b"\x90" * 5000, data=b"values", bss=1_000_000)
    kernel.write_file("/bin/lesson", image)
    picture = program_file(kernel, "/bin/lesson")
    text, data = picture.data.parts
    assert (picture.data.size, text.zeros, data.stored, data.zeros) == (len(image), 0, 6, 1_000_000)
    assert image[data.offset : data.offset + data.stored] == b"values"
    process = kernel.init.fork()
    process.execve("/bin/lesson", ["lesson"])
    assert process.read(data.address, 6) == b"values"
    assert process.entry == picture.data.entry
    legible(picture)


@pytest.mark.parametrize("image", [make_elf(), make_elf(bss=10)], ids=["code alone", "no data"])
def test_small_programs(kernel, legible, image):
    kernel.write_file("/bin/a_rather_long_name_for_a_program_of_this_kind", image)
    legible(program_file(kernel, "/bin/a_rather_long_name_for_a_program_of_this_kind"))


def test_a_real_program(kernel, legible):
    with open(sys.executable, "rb") as file:
        kernel.write_file("/bin/real", file.read())
    picture = program_file(kernel, "/bin/real")
    assert picture.data.parts == tuple(sorted(picture.data.parts, key=lambda part: part.address))
    legible(picture)


def test_what_is_no_program_is_refused(kernel):
    kernel.write_file("/note", b"good morning")
    with pytest.raises(UsageError, match="no ELF file"):
        program_file(kernel, "/note")
    with pytest.raises(FileNotFoundError):
        program_file(kernel, "/nothing")
