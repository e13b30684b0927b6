"""The entry: numbers, registers, errno."""

import errno
import re
from pathlib import Path

import pytest

from heaplab.abi import MAP_ANONYMOUS, MAP_PRIVATE, Sys

PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS


def test_the_numbers_are_x86_64s():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip(f"needs the system's list of numbers, {header}")
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    assert {call.name: call.value for call in Sys} == {
        call.name: int(numbers[call.name.lower()]) for call in Sys
    }


def test_a_raw_call_gives_a_result_or_a_negative_errno(process):
    page = process.syscall(9, 0, 100, 3, PRIVATE, (1 << 64) - 1, 0)
    assert page % process.page_size == 0
    assert process.syscall(11, page, 100) == 0
    assert process.syscall(11, page + 1, 100) == -errno.EINVAL
    assert process.syscall(39) == process.pid
    assert process.errno == 0  # that is libc's, not the kernel's


def test_an_unknown_number_is_enosys(process):
    assert process.syscall(999) == -errno.ENOSYS
    assert process.syscalls == {}


def test_ints_are_the_low_halves_of_registers(kernel, process):
    child = process.fork()
    child.exit(0)
    assert process.syscall(61, 0xFFFF_FFFF, 0, 0, 0) == child.pid
    assert process.syscall(61, (1 << 64) - 1, 0, 0, 0) == -errno.ECHILD


@pytest.mark.parametrize("name", ["mmap", "munmap", "mprotect", "brk", "getpid", "getppid", "fork", "kill"])
def test_each_call_is_counted_under_its_name(process, name):
    arguments = {"mmap": (256,), "munmap": (0x1000, 256), "mprotect": (0, 0, 0), "brk": (0,), "kill": (2, 0)}
    getattr(process, name)(*arguments.get(name, ()))
    assert process.syscalls == {name: 1}


def test_failed_calls_count_too_and_set_errno(process):
    with pytest.raises(ChildProcessError):
        process.wait()
    with pytest.raises(OSError):
        process.munmap(1, 1)
    assert process.syscalls == {"wait4": 1, "munmap": 1}
    assert process.errno == errno.EINVAL


def test_who_looks_on_is_told_of_each_call_and_its_result(kernel, process):
    told = []
    kernel.system.on_call = lambda task, name, registers, result: told.append(
        (task.pid, name, registers[:2], result)
    )
    page = process.mmap(256)
    process.munmap(page, 256)
    with pytest.raises(OSError):
        process.munmap(page + 1, 256)
    kernel.system.on_call = None
    process.brk(0)
    assert told == [
        (process.pid, "mmap", (0, 256), page),
        (process.pid, "munmap", (page, 256), 0),
        (process.pid, "munmap", (page + 1, 256), -errno.EINVAL),
    ]
