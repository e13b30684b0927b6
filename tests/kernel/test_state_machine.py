"""Random programs on the kernel; and mistakes planted in it, each of which they must find."""

import ast
import sys
from functools import cache
from pathlib import Path

import hypothesis.errors
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from heaplab import kernel as kernel_room
from heaplab.abi import P_ALL
from heaplab.kernel import exit as exiting
from heaplab.kernel import fault, fork, mprotect, vma
from heaplab.kernel import wait as waiting
from heaplab.kernel.inode import Inode
from heaplab.kernel.mm import Mm
from heaplab.kernel.pid import PidAllocator
from heaplab.kernel.vmas import VmaMap
from heaplab.machine import FrameKind, Machine, Pte, Space
from heaplab.testing.kernel_machine import KernelMachine


class Cramped(KernelMachine):
    """A machine on which memory runs out."""

    FRAMES = 40


class SharedTables(KernelMachine):
    """fork shares page tables; everything else must be as ever."""

    FORK = "shared-tables"


TestRoomy = KernelMachine.TestCase
TestRoomy.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCramped = Cramped.TestCase
TestCramped.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)

TestSharedTables = SharedTables.TestCase
TestSharedTables.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def assert_found(machine: type[KernelMachine] = KernelMachine) -> None:
    """Assert that random programs fail on the kernel as it is now; do not shrink."""
    search = settings(
        max_examples=1500,
        stateful_step_count=50,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(Exception) as caught:
        run_state_machine_as_test(machine, settings=search)
    assert not isinstance(caught.value, hypothesis.errors.HypothesisException), caught.value


# ---- flushes


FLUSHES = {"flush_range", "flush_all"}


@cache
def flush_sites() -> list[str]:
    """The functions of the kernel that flush, found in its source."""
    sites = []
    for path in sorted(Path(kernel_room.__file__).parent.glob("*.py")):
        text = path.read_text()
        if not any(name in text for name in FLUSHES):
            continue  # parsing takes a while, and every worker collects
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef) and not function.name.startswith("flush"):
                calls = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
                if calls & FLUSHES:
                    sites.append(function.name)
    return sites


def test_the_sites_that_flush_are_known():
    known = ["_free", "_move", "_protect_entries", "_take_references", "_write_protected"]
    known += ["clean", "dup_mm", "zap"]
    assert sorted(flush_sites()) == known


#: what random programs do not make the kernel do: test_madvise, test_mremap, test_reclaim, test_mmap_file
ELSEWHERE = {"_free", "_move", "_take_references", "clean"}


@pytest.mark.parametrize("site", sorted({*flush_sites()} - ELSEWHERE))
def test_a_missing_flush_is_found(monkeypatch, site):
    def but_not_there(honest):
        def flush(mm, *args):
            if sys._getframe(1).f_code.co_name != site:
                honest(mm, *args)

        return flush

    for name in ("flush_range", "flush_all"):
        monkeypatch.setattr(Mm, name, but_not_there(getattr(Mm, name)))
    assert_found()


# ---- other mistakes: what is replaced, by what


def no_write_protection(space, child, start, end, *, cow):
    return _fork_range(space, child, start, end, cow=False)


_fork_range, _map_zeroed, _update = Space.fork_range, Space.map_zeroed, Space.update
_protect_range, _alloc, _release, _put = Space.protect_range, Machine.alloc, exiting.release, Mm.put
_page = Inode.make_page


def copy_of_nothing(space, va, flags):
    return _map_zeroed(space, va, FrameKind.ANON, flags)


def last_owner_copies(space, va, *, clear=0, set=0):
    return space.map_copy(va, set) is not None


def writable_for_all(space, start, end, *, having=0, clear=0, set=0):
    return _protect_range(space, start, end, clear=clear, set=set)


def no_zero_frame(mm, vma_, va):
    mm.prepare_anon_vma(vma_)
    return _map_zeroed(mm.space, va, FrameKind.ANON, vma_.written_prot) is not None


def keeps_its_number(group):
    _release(group)
    group.leader.system.pids.in_use.add(group.tgid)


def by_time_of_death(caller, idtype, number, options):
    dead = [child.group for child in caller.children.values() if not child.group.living]
    if idtype == P_ALL and dead:
        return waiting._collect(caller, dead[-1], options)
    return _look(caller, idtype, number, options)


_look = waiting._look


def private_page(file, pgoff):
    file.pages.pop(pgoff, None)
    return _page(file, pgoff)


def never_frees_the_file(file):
    file.users -= 1


def nearest_hole(vmas, length, low, high):
    return _lowest(vmas, length, low, high)


_lowest = VmaMap.lowest_hole

MISTAKES = {
    "fork leaves the parent's pages writable": (Space, "fork_range", no_write_protection),
    "fork copies no pages": (Space, "fork_range", lambda *_, **__: 0),
    "copy-on-write forgets the contents": (Space, "map_copy", copy_of_nothing),
    "the last owner copies": (Space, "update", last_owner_copies),
    "mprotect makes shared frames writable": (Space, "protect_range", writable_for_all),
    "mprotect changes no entries": (mprotect, "_protect_entries", lambda *_: None),
    "reading makes memory": (fault, "_map_zero_frame", no_zero_frame),
    "the zero frame may be written": (vma, "_PRESENT", vma._PRESENT | int(Pte.WRITE)),
    "everybody is taken for the last owner": (fault, "_EXCLUSIVE", int(Pte.PRESENT)),
    "munmap keeps the pages": (Mm, "zap", lambda *_: None),
    "wait keeps the pid's entry": (exiting, "release", lambda group: group.parent.children.pop(group.tgid)),
    "orphans keep their dead parent": (exiting, "_reparent", lambda child, reaper: None),
    "wait takes the youngest": (waiting, "_look", by_time_of_death),
    "shared pages are made anew": (Inode, "make_page", private_page),
    "shared pages are never freed": (Inode, "put", never_frees_the_file),
    "an exit gives nothing back": (Mm, "put", lambda _: None),
    "mmap takes the lowest hole": (VmaMap, "highest_hole", nearest_hole),
    "a pid in use is given again": (PidAllocator, "alloc", lambda _: 2),
    "VMAs with different rights merge": (vma, "VM_ACCESS", 0),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(monkeypatch, name):
    place, attribute, wrong = MISTAKES[name]
    honest = getattr(place, attribute)
    for module in (place, *kernel_modules()):
        if getattr(module, attribute, None) is honest:
            monkeypatch.setattr(module, attribute, wrong)
    assert_found()


def still_writable_through(parent, child, start, end):
    """Share tables, and leave the entries above them as they are in tables of one's own."""
    shared = _fork_tables(parent, child, start, end)
    tables = parent.machine.ram.view(np.uint64)
    for space in (parent, child):
        for va in range(start, end, parent.machine.page_size):
            walk = space.walk(va)
            if len(walk) == 4:
                table = walk[2][0]
                tables[table][tables[table] & np.uint64(Pte.PRESENT) != 0] |= np.uint64(Pte.WRITE)
    return shared


_fork_tables = Space.fork_tables

MISTAKES_WITH_TABLES = {
    "shared tables are written": (Space, "fork_tables", still_writable_through),
    "a page in a shared table is taken for one's own": (Space, "own_range", lambda *_: True),
    "the parent still writes where its table is shared": (Mm, "flush_all", lambda _: None),
}


@pytest.mark.parametrize("name", MISTAKES_WITH_TABLES)
def test_a_planted_mistake_with_shared_tables_is_found(monkeypatch, name):
    monkeypatch.setattr(*MISTAKES_WITH_TABLES[name])
    assert_found(SharedTables)


def kernel_modules():
    """The kernel's modules: a function imported by name has to be replaced in each."""
    return [module for name, module in sys.modules.items() if name.startswith("heaplab.kernel.")]


def test_a_victim_that_takes_its_children_along_is_found(monkeypatch):
    def kill_family(group, signum):
        for child in list(group.children.values()):
            exiting.exit_group(child.group, signum)
        exiting.exit_group(group, signum)

    monkeypatch.setattr(kernel_room.kernel, "exit_group", kill_family)
    assert_found(Cramped)


def test_a_fork_that_fails_and_keeps_its_frames_is_found(monkeypatch):
    honest = fork.dup_mm

    def keeps_what_it_had(old):
        put = Mm.put
        try:
            Mm.put = lambda _: None
            return honest(old)
        finally:
            Mm.put = put

    monkeypatch.setattr(fork, "dup_mm", keeps_what_it_had)
    assert_found(Cramped)
