"""Address spaces side by side: what is drawn is what the page tables hold."""

import os
import re

import pytest

from heaplab.abi import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.elf import make_elf
from heaplab.machine import Pte
from heaplab.report import address_spaces


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(ram="4 MiB", seed=1)


def rows_of(picture, space=0):
    return [row for area in picture.data.spaces[space].areas for row in area.rows]


def test_areas_are_those_of_maps(kernel):
    process = kernel.init.fork()
    process.sbrk(8192)
    process.mmap(4096, prot=PROT_READ, flags=MAP_SHARED | MAP_ANONYMOUS)
    kernel.write_file("/bin/lesson", make_elf(data=b"values", bss=9000))
    other = kernel.init.fork()
    other.execve("/bin/lesson", ["lesson"])
    for each in (process, other):
        lines = [re.split(r"\s+", line.strip()) for line in each.maps().splitlines()]
        expected = [(line[0], line[1], " ".join(line[5:])) for line in lines]
        areas = address_spaces(kernel, each).data.spaces[0].areas
        assert [(f"{area.start:08x}-{area.end:08x}", area.rights, area.name) for area in areas] == expected


def test_every_page_leads_to_its_frame(kernel):
    parent = kernel.init.fork()
    base = parent.mmap(6 * 4096)
    for page in (0, 1, 4):
        parent.store64(base + page * 4096, 1)
    parent.load64(base + 5 * 4096)
    child = parent.fork()
    child.store64(base + 4096, 2)
    picture = address_spaces(kernel, parent, child, most=4)
    for number, process in enumerate((parent, child)):
        space = kernel.task(process.pid).mm.space
        for row in rows_of(picture, number):
            if row.frame is not None:
                entry = space.pte(row.address)
                assert (row.frame, row.writable) == (Pte.frame(entry), bool(entry & Pte.WRITE))
    frames = {frame.number: frame for frame in picture.data.frames}
    kinds = [frames[row.frame].kind for row in rows_of(picture)[:5] if row.frame is not None]
    assert kinds == ["data", "data", "data", "zero"]
    shared = [frame.mapped for frame in picture.data.frames if len(picture.data.users(frame.number)) == 2]
    assert shared == [2, 2, 2]


def test_rows_and_runs_cover_each_area_without_gap(kernel):
    process = kernel.init.fork()
    base = process.mmap(100 * 4096)
    for page in (3, 4, 50, 51, 52, 53, 98):
        process.store64(base + page * 4096, 1)
    for most in (1, 2, 5, 7, 50):
        for area in address_spaces(kernel, process, most=most).data.spaces[0].areas:
            at = area.start
            for row in area.rows:
                assert row.address == at
                at += row.count * 4096
            assert at == area.end
            assert sum(row.frame is not None for row in area.rows) <= most


def test_what_is_not_drawn_is_counted(kernel):
    process = kernel.init.fork()
    base = process.mmap(100 * 4096)
    for page in (3, 4, 50, 51, 52, 53, 98):
        process.store64(base + page * 4096, 1)
    process.load64(base + 60 * 4096)
    notes = [row.note for row in rows_of(address_spaces(kernel, process, most=3)) if row.note]
    assert notes[:2] == ["3 pages without a frame", "95 pages not drawn: 1 zero, 5 data, 89 without"]


def test_pages_of_files_are_named_and_shared_tables_counted():
    kernel = Kernel(ram="4 MiB", seed=1, fork="shared-tables")
    kernel.write_file("/note", b"x" * 5000)
    process = kernel.init.fork()
    fd = process.open("/note", os.O_RDWR)
    shared = process.mmap(8192, flags=MAP_SHARED, fd=fd)
    private = process.mmap(8192, flags=MAP_PRIVATE, fd=fd)
    process.store64(shared, 1)
    process.load64(private + 4096)
    data = process.mmap(4096)
    process.store64(data, 1)
    child = process.fork()  # takes over the data, in a shared table; pages of files it can find again
    frames = address_spaces(kernel, process, child).data.frames
    assert [(frame.kind, frame.content, frame.mapped) for frame in frames] == [
        ("file", "/note, page 0, dirty", 2),
        ("file", "/note, page 1", 1),
        ("data", "", 2),
    ]


def test_tasks_of_one_space_have_it_once_and_stacks_are_named(kernel):
    process = kernel.init.fork()
    threads = [process.spawn_thread() for _ in range(2)]
    data = address_spaces(kernel, process, *threads).data
    assert [space.name for space in data.spaces] == ["init, process 2, 3 tasks"]
    names = [area.name for area in data.spaces[0].areas if area.name]
    assert names == ["stack of task 4", "stack of task 3", "[stack]"]
    lender = kernel.init.fork()
    child = lender.vfork()
    assert len(address_spaces(kernel, lender, child).data.spaces) == 1


def test_a_dead_process_and_none_at_all_are_refused(kernel):
    shell = kernel.init.fork()
    child = shell.fork()
    child.exit(0)
    with pytest.raises(UsageError, match="process 3 is dead"):
        address_spaces(kernel, child)
    with pytest.raises(UsageError, match="needs a process"):
        address_spaces(kernel)
    with pytest.raises(UsageError, match="at least"):
        address_spaces(kernel, shell, most=0)


def test_looking_changes_nothing(kernel):
    process = kernel.init.fork()
    process.store64(process.mmap(8192), 1)
    before = process.minflt, kernel.machine.free_frames, process.context.tlb_misses
    assert address_spaces(kernel, process) == address_spaces(kernel, process)
    assert (process.minflt, kernel.machine.free_frames, process.context.tlb_misses) == before


@pytest.mark.parametrize("page_size", [64, 4096])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_it_is_legible(legible, count, page_size):
    kernel = Kernel(ram=4096 * page_size, seed=2, page_size=page_size)
    kernel.write_file("/a/rather/long/name/of/a/file", b"x" * 3 * page_size)
    parent = kernel.init.fork()
    heap = parent.sbrk(40 * page_size)
    fd = parent.open("/a/rather/long/name/of/a/file", os.O_RDWR)
    file = parent.mmap(3 * page_size, flags=MAP_SHARED, fd=fd)
    parent.mmap(page_size, prot=PROT_NONE)
    for page in range(0, 24, 2):
        parent.store64(heap + page * page_size, 1)
    parent.load64(heap + page_size)
    family = [parent, *(parent.fork() for _ in range(count - 1))]
    for number, process in enumerate(family):
        process.store64(heap + number * page_size, number)
        process.load64(file + page_size)
    legible(address_spaces(kernel, *family))
