"""smaps and pagemap: what is in memory, whose it is, and that Linux says the same."""

import json
import subprocess
import sys

import numpy as np
import pytest

from heaplab.abi import (
    MADV_DONTDUMP,
    MADV_FREE,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MAP_ANONYMOUS,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from heaplab.kernel.procfs.memory import PM_FILE, PM_MMAP_EXCLUSIVE, PM_PRESENT

PAGE = 4096


def blocks(smaps):
    """The text of smaps as {start: {field: KiB, or text}}."""
    found = {}
    for line in smaps.splitlines():
        name, _, value = line.partition(":")
        if "-" in name.split()[0] and " " in name:
            fields = found[int(line.split("-")[0], 16)] = {}
        else:
            fields[name] = int(value.split()[0]) if value.endswith(" kB") else value.strip()
    return found


#: eight pages written, four read, the first two written by a child, then the first by the parent
SCENARIO = """
import ctypes, json, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p] + [ctypes.c_size_t] * 5
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.prctl(41, 1, 0, 0, 0)  # no huge pages
def area(flags):
    base = libc.mmap(None, 18 * 4096, 0, flags, 2**64 - 1, 0)
    assert libc.mprotect(base + 4096, 16 * 4096, 3) == 0
    return base + 4096
areas = [area(0x22), area(0x21)]
for base in areas:
    for page in range(8):
        ctypes.c_char.from_address(base + page * 4096).value = b"x"
    for page in range(8, 12):
        ctypes.c_char.from_address(base + page * 4096).value
ready, done = os.pipe(), os.pipe()
if os.fork() == 0:
    for page in range(2):
        ctypes.c_char.from_address(areas[0] + page * 4096).value = b"y"
    ctypes.c_char.from_address(areas[1]).value
    os.write(ready[1], b"!")
    os.read(done[0], 1)
    os._exit(0)
os.read(ready[0], 1)
ctypes.c_char.from_address(areas[0]).value = b"z"
print(json.dumps([areas, open("/proc/self/smaps").read()]))
os.write(done[1], b"!")
os.wait()
"""


def model_scenario(kernel):
    parent = kernel.init.fork()
    areas = []
    for flags in (None, MAP_SHARED | MAP_ANONYMOUS):
        extra = {} if flags is None else {"flags": flags}
        base = parent.mmap(18 * PAGE, prot=PROT_NONE, **extra) + PAGE
        parent.mprotect(base, 16 * PAGE, PROT_READ | PROT_WRITE)
        areas.append(base)
        for page in range(8):
            parent.store(base + page * PAGE, 1, 1)
        for page in range(8, 12):
            parent.load(base + page * PAGE, 1)
    child = parent.fork()
    for page in range(2):
        child.store(areas[0] + page * PAGE, 2, 1)
    child.load(areas[1], 1)
    parent.store(areas[0], 3, 1)
    return parent, areas


@pytest.mark.parametrize("policy", ["copy-on-write", "shared-tables"])
def test_smaps_says_what_linux_says(linux, real, policy):
    done = subprocess.run([sys.executable, "-c", SCENARIO], capture_output=True, text=True, check=True)
    real_areas, real_text = json.loads(done.stdout)
    kernel = linux(fork=policy)
    parent, areas = model_scenario(kernel)
    for real_base, base in zip(real_areas, areas, strict=True):
        theirs, ours = blocks(real_text)[real_base], blocks(kernel.smaps(parent.pid))[base]
        assert list(theirs) == list(ours)
        theirs["VmFlags"] = [flag for flag in theirs["VmFlags"].split() if flag != "sd"]  # soft-dirty
        ours["VmFlags"] = ours["VmFlags"].split()
        for without in ("Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty"):
            if base is areas[1]:  # pages of shared memory that were only read: dirty in Linux's cache
                assert theirs.pop(without) >= 0
                ours.pop(without)
        assert theirs == ours


def test_a_page_is_divided_by_those_who_map_it(linux):
    for policy in ("copy-on-write", "shared-tables"):
        kernel = linux(fork=policy)
        parent = kernel.init.fork()
        base = parent.mmap(6 * PAGE)
        parent.fill(base, 1, 6 * PAGE)
        children = [parent.fork(), parent.fork()]
        children[0].store64(base, 2)
        every = [blocks(kernel.smaps(process.pid))[base] for process in (parent, *children)]
        assert [fields["Rss"] for fields in every] == [24, 24, 24]
        assert [fields["Pss"] for fields in every] == [20 // 3 + 2, 20 // 3 + 4, 20 // 3 + 2]
        assert every[1]["Private_Dirty"] == 4
        assert every[1]["Shared_Dirty"] == 20


def test_a_page_of_a_file_is_clean_until_written(linux):
    kernel = linux()
    kernel.write_file("/data", bytes(4 * PAGE))
    process = kernel.init.fork()
    descriptor = process.open("/data", 2)
    shared = process.mmap(4 * PAGE, flags=MAP_SHARED, fd=descriptor)
    process.load64(shared)
    before = blocks(kernel.smaps(process.pid))[shared]
    process.store64(shared + PAGE, 1)
    after = blocks(kernel.smaps(process.pid))[shared]
    assert (before["Rss"], before["Private_Clean"], before["Private_Dirty"]) == (4, 4, 0)
    assert (after["Rss"], after["Private_Clean"], after["Private_Dirty"]) == (8, 4, 4)
    assert "RssFile:\t       8 kB" in kernel.status(process.pid)


def fields(kernel, process, va):
    return blocks(kernel.smaps(process.pid))[va]


def test_shared_memory_stays_dirty_whoever_wrote_it(linux):
    kernel = linux()
    process = kernel.init.fork()
    fd = process.memfd_create("data")
    process.ftruncate(fd, 4 * PAGE)
    first, second = (process.mmap(4 * PAGE, flags=MAP_SHARED, fd=fd) for _ in range(2))
    for page in range(4):
        process.load64(first + page * PAGE)
        process.load64(second + page * PAGE)
    assert fields(kernel, process, second)["Shared_Dirty"] == 0
    process.store64(first, 1)  # through an entry that could be written: nobody heard of it
    assert fields(kernel, process, second)["Shared_Dirty"] == 0
    process.munmap(first, 4 * PAGE)  # now the page itself is dirty
    assert fields(kernel, process, second)["Private_Dirty"] == 4
    process.pwrite(fd, b"x", PAGE)
    assert fields(kernel, process, second)["Private_Dirty"] == 8
    process.ftruncate(fd, 2 * PAGE + 5)
    assert fields(kernel, process, second)["Private_Dirty"] == 12


def test_what_is_populated_to_be_written_counts_as_written(linux):
    kernel = linux()
    process = kernel.init.fork()
    shared = process.mmap(PAGE, flags=MAP_SHARED | MAP_ANONYMOUS)
    process.load64(shared)
    assert fields(kernel, process, shared)["Private_Clean"] == 4
    process.madvise(shared, PAGE, MADV_POPULATE_WRITE)
    assert fields(kernel, process, shared)["Private_Dirty"] == 4


def test_pages_given_up_are_lazily_free_until_written(linux):
    kernel = linux()
    process = kernel.init.fork()
    area = process.mmap(3 * PAGE)
    process.fill(area, 7, 3 * PAGE)
    child = process.fork()
    process.madvise(area, 3 * PAGE, MADV_FREE)
    assert [fields(kernel, who, area)["LazyFree"] for who in (process, child)] == [12, 0]
    process.store(area, 8, 1)
    assert fields(kernel, process, area)["LazyFree"] == 8
    child.exit(0)
    process.madvise(area + PAGE, PAGE, MADV_POPULATE_WRITE)
    assert fields(kernel, process, area)["LazyFree"] == 4


def test_what_another_has_locked_is_not_lazily_free(linux):
    """Measured, Linux 6.18: such pages are on no list from which they could be taken."""
    kernel = linux()
    process = kernel.init.fork()
    area = process.mmap(PAGE)
    process.mlock(area, PAGE)
    child = process.fork()
    child.madvise(area, PAGE, MADV_FREE)
    assert [fields(kernel, child, area)[name] for name in ("LazyFree", "Shared_Clean")] == [0, 4]


def test_advice_is_among_the_flags(linux):
    kernel = linux()
    process = kernel.init.fork()
    area = process.mmap(PAGE)
    for advice, letters in ((MADV_SEQUENTIAL, "sr"), (MADV_RANDOM, "rr"), (MADV_DONTDUMP, "dd")):
        process.madvise(area, PAGE, advice)
        assert letters in fields(kernel, process, area)["VmFlags"].split()


def test_pagemap(linux):
    kernel = linux()
    process = kernel.init.fork()
    base = process.mmap(4 * PAGE)
    shared = process.mmap(PAGE, flags=MAP_SHARED | MAP_ANONYMOUS)
    for page in range(2):
        process.store64(base + page * PAGE, 1)
    process.load64(base + 2 * PAGE)
    process.store64(shared, 1)
    child = process.fork()
    child.store64(base, 2)
    words = np.frombuffer(kernel.pagemap(process.pid, base, base + 4 * PAGE), "<u8").tolist()
    low = (1 << 55) - 1
    flags, frames = [word & ~low for word in words], [word & low for word in words]
    # the first is the parent's alone again, the second has two owners, the zero frame has none
    assert flags == [PM_PRESENT | PM_MMAP_EXCLUSIVE, PM_PRESENT, PM_PRESENT, 0]
    assert frames[2] == kernel.system.zero_frame
    assert kernel.machine.ram[frames[0]][:8].view("<u8")[0] == 1
    (word,) = np.frombuffer(kernel.pagemap(process.pid, shared, shared + PAGE), "<u8").tolist()
    assert word & ~low == PM_PRESENT | PM_FILE | PM_MMAP_EXCLUSIVE


def test_a_zombie_has_no_memory(linux):
    kernel = linux()
    process = kernel.init.fork()
    child = process.fork()
    child.exit(0)
    assert kernel.smaps(child.pid) == kernel.maps(child.pid) == ""
    assert kernel.pagemap(child.pid, 0, PAGE) == b""
    assert kernel.statm(child.pid) == "0 0 0 0 0 0 0\n"
    assert "VmSize" not in kernel.status(child.pid)
