"""The walk to an address: as the machine walks, for pages and tables of any size."""

import pytest

from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.report import page_walk


@pytest.mark.parametrize("page_size", [64, 256, 1024, 4096])
def test_it_leads_where_a_load_leads(page_size, legible):
    kernel = Kernel(ram=256 * page_size, seed=3, page_size=page_size)
    process = kernel.init.fork()
    page = process.mmap(2 * page_size)
    address = page + page_size + 37
    process.store(address, 0xAB, 1)
    picture = page_walk(kernel, process, address)
    walk = picture.data
    assert walk.physical is not None
    assert kernel.machine.ram.reshape(-1)[walk.physical] == walk.content == 0xAB
    assert [step.level for step in walk.steps] == [3, 2, 1, 0]
    assert [step.table for step in walk.steps[1:]] == [step.frame for step in walk.steps[:-1]]
    joined = "".join(f"{step.index:0{walk.index_bits}b}" for step in walk.steps)
    assert int(joined + f"{walk.offset:0{walk.page_shift}b}", 2) == address
    entries = kernel.machine.ram[walk.steps[-1].table].view("<u8")
    assert int(entries[walk.steps[-1].index]) == walk.steps[-1].entry
    assert walk.steps[-1].used == int((entries != 0).sum())
    assert walk.steps[-1].letters == "PWUADXN"
    legible(picture)


def test_copy_on_write_shows_in_the_bits():
    kernel = Kernel(ram="1 MiB", seed=1)
    parent = kernel.init.fork()
    page = parent.mmap(4096)
    parent.store64(page, 1)
    child = parent.fork()
    letters = [page_walk(kernel, each, page).data.steps[-1].letters for each in (parent, child)]
    assert letters == ["PUADN", "PUDN"]  # neither may write; the child has not looked at it yet


def test_a_walk_that_ends_early_says_so(legible):
    kernel = Kernel(ram="1 MiB", seed=1, aslr=False)
    process = kernel.init.fork()
    process.store64(process.mmap(4096), 1)
    picture = page_walk(kernel, process, 0x1000_0000_0000)
    assert (len(picture.data.steps), picture.data.frame, picture.data.physical) == (1, None, None)
    assert "level 3: entry 32" in str(picture)
    assert "page fault" in str(picture)
    legible(picture)


def test_every_place_in_a_table_is_legible(legible):
    kernel = Kernel(ram="64 KiB", page_size=64, seed=1, aslr=False)
    process = kernel.init.fork()
    base = process.mmap(10 * 64)
    for page in range(10):
        process.store64(base + page * 64, 1)
        legible(page_walk(kernel, process, base + page * 64 + page * 7))


def test_a_dead_process_and_an_impossible_address_are_refused():
    kernel = Kernel(ram="1 MiB", seed=1)
    shell = kernel.init.fork()
    child = shell.fork()
    for address in (-1, 1 << 48):
        with pytest.raises(UsageError, match="48 bits"):
            page_walk(kernel, child, address)
    child.exit(0)
    with pytest.raises(UsageError, match="process 3 is dead"):
        page_walk(kernel, child, 0)
