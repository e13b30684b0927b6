"""A Hypothesis state machine over the kernel's calls: whatever a program does, the kernel does right.

After each step the kernel's own invariants are checked, and what its page tables show is compared with
`KernelModel`, frame by frame: contents, rights, which pages share a frame, and that a write by the last
owner kept its frame.  Loads go through the TLB, so that a flush forgotten shows up twice.

    class MyKernel(KernelMachine):
        FRAMES = 48

    TestMyKernel = MyKernel.TestCase
"""

import errno
import os
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from heaplab.abi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    Sys,
)
from heaplab.errors import OutOfMemory, SegmentationFault, WouldBlock
from heaplab.kernel import Kernel
from heaplab.machine import FrameKind, Pte
from heaplab.process import Process
from heaplab.testing.kernel_model import KernelModel, Page

PROTECTIONS = [PROT_READ | PROT_WRITE] * 4 + [PROT_READ, PROT_NONE, PROT_WRITE, PROT_READ | PROT_EXEC]
MOST_PROCESSES = 6
AREA = 16  # pages: most mappings fall into this much of the address space

some_process = st.integers(0, MOST_PROCESSES - 1)
some_pages = st.integers(1, 6)
some_place = st.integers(0, AREA - 1)
some_protection = st.sampled_from(PROTECTIONS)
#: which page to access: one that others hold too, one that was written, one that may be, or any
some_kind = st.sampled_from(["cow", "cow", "written", "writable", "writable", "wild"])


class KernelMachine(RuleBasedStateMachine):
    """Processes that fork, map, write, die and wait on a machine of FRAMES frames."""

    FRAMES: ClassVar[int] = 512
    FORK: ClassVar[str] = "copy-on-write"
    PAGE_SIZE: ClassVar[int] = 256
    TLB: ClassVar[int] = 32

    def __init__(self) -> None:
        super().__init__()
        ram = self.FRAMES * self.PAGE_SIZE
        self.kernel = Kernel(ram, page_size=self.PAGE_SIZE, tlb=self.TLB, poison=True, fork=self.FORK)
        init = self.kernel.init
        layout = self.kernel.system.init.mm.layout  # type: ignore[union-attr]
        self.model = KernelModel(
            self.PAGE_SIZE,
            init.sbrk(0),
            _pages_of(init.maps(), self.PAGE_SIZE),
            layout.mmap_base // self.PAGE_SIZE,
            layout.min_addr // self.PAGE_SIZE,
        )
        # where mmap would put things, so that chosen and given places meet
        self.area = layout.mmap_base // self.PAGE_SIZE - AREA
        self.oom_seen = 0
        self._fork(KernelModel.INIT)
        self.mmap_anywhere(0, 2, PROT_READ | PROT_WRITE, True)
        self.mmap_anywhere(0, 4, PROT_READ | PROT_WRITE, False)
        for page in range(4):
            self.store(0, page, 0, page, "writable")
        self.fork(0)

    # ---- choosing

    def _living(self) -> list[int]:
        return [pid for pid, process in self.model.processes.items() if process.alive]

    def _choose(self, number: int) -> Process:
        """A living process other than init, which must not die; forked if there is none."""
        others = self._living()[1:]
        if not others:
            self._fork(KernelModel.INIT)
            others = self._living()[1:]
        return self.kernel.process(others[number % len(others)])

    def _do(self, process: Process, call: Callable[..., Any], *args: Any) -> tuple[Any, str]:
        """Make a call; return its result and how it ended: done, segv, killed, sleeps, or an errno's name.

        Whom the OOM killer ended meanwhile is ended in the model.
        """
        result: Any = None
        try:
            result, how = call(*args), "done"
        except SegmentationFault:
            how = "segv"
        except OutOfMemory:
            how = "killed"
        except WouldBlock:
            how = "sleeps"
        except OSError as error:
            how = errno.errorcode[error.errno or 0]
        killed = self.kernel.system.oom_kills[self.oom_seen :]
        self.oom_seen += len(killed)
        assert (process.pid in killed) == (how == "killed")
        for pid in killed:
            self.model.exit(pid, 9)
        if killed:
            # whether a page was copied or reused may depend on who died in between
            for cell in self.model.cells():
                cell.frame = None
        return result, how

    # ---- processes

    def _fork(self, pid: int) -> None:
        parent = self.kernel.process(pid)
        child, how = self._do(parent, parent.fork)
        if how == "ENOMEM":
            assert len(self.model.processes[pid].pages) > self.FRAMES, "a fork was refused for nothing"
        elif how == "done":
            assert child.pid not in self.model.processes, "a pid in use was given again"
            self.model.fork(pid, child.pid)

    @precondition(lambda self: len(self._living()) <= MOST_PROCESSES)
    @rule(who=some_process)
    def fork(self, who: int) -> None:
        self._fork(self._choose(who).pid)

    @precondition(lambda self: len(self.model.processes) < 2 * MOST_PROCESSES)
    @rule(who=some_process, code=st.integers(0, 3))
    def fork_one_that_exits(self, who: int, code: int) -> None:
        self._fork_zombie(self._choose(who).pid, code)

    def _fork_zombie(self, pid: int, code: int) -> int | None:
        """Fork a child that exits at once; its pid, or None when memory ran out over it."""
        self._fork(pid)
        parent = self.model.processes.get(pid)
        if parent is None or not parent.alive or not parent.children:
            return None
        child = parent.children[-1]
        if self.model.processes[child].alive:
            self.kernel.process(child).exit(code)
            self.model.exit(child, code << 8)
        return child

    @precondition(lambda self: len(self._living()) > 2)
    @rule(who=some_process, code=st.integers(0, 300))
    def exit(self, who: int, code: int) -> None:
        process = self._choose(who)
        process.exit(code)
        self.model.exit(process.pid, code % 256 << 8)

    @precondition(lambda self: len(self._living()) > 3)
    @rule(who=some_process, whom=some_process)
    def kill(self, who: int, whom: int) -> None:
        killer, victim = self._choose(who), self._choose(whom)
        killer.kill(victim.pid, 15)
        self.model.exit(victim.pid, 15)

    @rule(who=some_process, which=st.sampled_from(["any", "first", "last", "stranger"]), hang=st.booleans())
    def wait(self, who: int, which: str, hang: bool) -> None:
        parents = [pid for pid in self._living()[1:] if self.model.processes[pid].children]
        process = self.kernel.process(parents[who % len(parents)]) if parents else self._choose(who)
        children = self.model.processes[process.pid].children
        pid = {"any": -1, "stranger": 1, "first": children[0] if children else 2}.get(
            which, children[-1] if children else 2
        )
        eligible = [child for child in children if pid in (-1, child)]
        dead = [child for child in eligible if not self.model.processes[child].alive]
        result, how = self._do(process, process.waitpid, pid, 0 if hang else os.WNOHANG)
        if not eligible:
            assert how == "ECHILD"
        elif dead:
            assert result == (dead[0], self.model.processes[dead[0]].status)
            self.model.collect(dead[0])
        elif hang:
            assert how == "sleeps"
        else:
            assert result == (0, 0)

    # ---- memory

    @rule(who=some_process, pages=some_pages, prot=some_protection, shared=st.booleans())
    def mmap_anywhere(self, who: int, pages: int, prot: int, shared: bool) -> None:
        process = self._choose(who)
        expected = self.model.place(process.pid, pages)
        address = process.mmap(pages * self.PAGE_SIZE, 0, prot, _flags(shared))
        assert address // self.PAGE_SIZE == expected, "mmap did not take the highest hole"
        self.model.map(process.pid, expected, pages, prot, shared=shared)

    @rule(who=some_process, place=some_place, pages=some_pages, prot=some_protection, shared=st.booleans())
    def mmap_fixed(self, who: int, place: int, pages: int, prot: int, shared: bool) -> None:
        process, first = self._choose(who), self.area + place
        process.mmap(pages * self.PAGE_SIZE, first * self.PAGE_SIZE, prot, _flags(shared) | MAP_FIXED)
        self.model.map(process.pid, first, pages, prot, shared=shared)

    @rule(who=some_process, place=some_place, pages=some_pages, kind=some_kind)
    def munmap(self, who: int, place: int, pages: int, kind: str) -> None:
        process = self._choose(who)
        first = self._page(process, place, kind)
        process.munmap(first * self.PAGE_SIZE, pages * self.PAGE_SIZE)
        self.model.unmap(process.pid, first, pages)

    @rule(who=some_process, place=some_place, pages=some_pages, prot=some_protection, kind=some_kind)
    def mprotect(self, who: int, place: int, pages: int, prot: int, kind: str) -> None:
        process = self._choose(who)
        first = self._page(process, place, kind)
        call = process.mprotect, first * self.PAGE_SIZE, pages * self.PAGE_SIZE, prot
        how = self._do(process, *call)[1]
        assert (how == "done") == self.model.protect(process.pid, first, pages, prot)

    @rule(who=some_process, to=st.integers(-100, 6 * 256))
    def brk(self, who: int, to: int) -> None:
        process = self._choose(who)
        old, wanted = self.model.processes[process.pid].brk, self.model.start_brk + to
        moved = self.model.set_brk(process.pid, wanted)
        assert process.brk(wanted) == (wanted if moved else old)

    @rule(who=some_process, pages=some_pages, gap=st.integers(0, 5))
    def mmap_near_the_break(self, who: int, pages: int, gap: int) -> None:
        process = self._choose(who)
        first = self.model.start_brk // self.PAGE_SIZE + gap
        process.mmap(pages * self.PAGE_SIZE, first * self.PAGE_SIZE, flags=_flags(False) | MAP_FIXED)
        self.model.map(process.pid, first, pages, PROT_READ | PROT_WRITE, shared=False)

    # ---- accesses

    def _page(self, process: Process, place: int, kind: str) -> int:
        """The number of a page to access, of the kind wanted if there is one."""
        fits: dict[str, Callable[[Page], bool]] = {
            "cow": lambda page: page.cell is not None and page.cell.holders > 1,
            "written": lambda page: page.shown is not None,
            "writable": lambda page: bool(page.prot & PROT_WRITE),
            "wild": lambda page: False,
        }
        pages = self.model.processes[process.pid].pages.items()
        wanted = [number for number, page in pages if fits[kind](page)]
        return wanted[place % len(wanted)] if wanted else self.area + place

    def _access(
        self, process: Process, number: int, write: bool, call: Callable[..., Any], *args: Any
    ) -> tuple[bool, Any]:
        """Make an access to one page; return (whether it was done, its result)."""
        allowed = self.model.may(process.pid, number, write=write)
        result, how = self._do(process, call, *args)
        if how == "segv":
            assert not allowed, "an access was refused that is allowed"
            self.model.exit(process.pid, 11)
        elif how == "done":
            assert allowed, "an access was allowed that is not"
        return how == "done", result

    @rule(
        who=some_process,
        place=some_place,
        offset=st.integers(0, 248),
        value=st.integers(0, (1 << 64) - 1),
        kind=some_kind,
    )
    def store(self, who: int, place: int, offset: int, value: int, kind: str) -> None:
        process = self._choose(who)
        number = self._page(process, place, kind)
        if self._access(process, number, True, process.store64, number * self.PAGE_SIZE + offset, value)[0]:
            self.model.write(process.pid, number, offset, value.to_bytes(8, "little"))

    @rule(who=some_process, place=some_place, offset=st.integers(0, 248), kind=some_kind)
    def load(self, who: int, place: int, offset: int, kind: str) -> None:
        process = self._choose(who)
        number = self._page(process, place, kind)
        done, value = self._access(process, number, False, process.load64, number * self.PAGE_SIZE + offset)
        if done:
            expected = self.model.read(process.pid, number)[offset : offset + 8]
            assert value == int.from_bytes(expected, "little"), "a load gave what was never stored there"

    @rule(who=some_process)
    def read_all(self, who: int) -> None:
        """Everything the process may read, through the TLB."""
        process = self._choose(who)
        for number in list(self.model.processes[process.pid].pages):
            if self.model.may(process.pid, number, write=False):
                call = process.read, number * self.PAGE_SIZE, self.PAGE_SIZE
                done, data = self._access(process, number, False, *call)
                if not done:
                    return
                assert data == self.model.read(process.pid, number), "a page reads what was never written"

    @precondition(lambda self: len(self._living()) <= MOST_PROCESSES)
    @rule(who=some_process, place=some_place, offset=st.integers(0, 252), kind=some_kind)
    def wait_into_memory(self, who: int, place: int, offset: int, kind: str) -> None:
        """A store by the kernel itself: it, too, must copy, and it makes no use of the TLB."""
        process = self._choose(who)
        child = self._fork_zombie(process.pid, 7)
        if child is None:
            return
        status = self.model.processes[child].status or 0
        number = self._page(process, place, kind)
        if self.model.may(process.pid, number, write=False):
            # now the TLB knows the page as it was
            if not self._access(process, number, False, process.load64, number * self.PAGE_SIZE)[0]:
                return
            self.model.read(process.pid, number)
        allowed = self.model.may(process.pid, number, write=True)
        call = process.syscall, Sys.WAIT4, child, number * self.PAGE_SIZE + offset, 0, 0
        result, how = self._do(process, *call)
        if how == "done":
            self.model.collect(child)
            assert result == (child if allowed else -errno.EFAULT)
            if allowed:
                self.model.write(process.pid, number, offset, status.to_bytes(4, "little"))

    # ---- what must hold

    @invariant()
    def kernel_is_sound(self) -> None:
        self.kernel.check()

    @invariant()
    def kernel_agrees_with_the_model(self) -> None:
        system, processes = self.kernel.system, self.model.processes
        assert set(system.tasks) == set(processes), "not the same processes"
        for pid, process in processes.items():
            task = system.tasks[pid]
            assert task.state == ("R" if process.alive else "Z")
            assert list(task.children) == process.children
            if process.alive:
                self._compare_memory(self.kernel.process(pid))
        used, written = self.kernel.machine.used, len(self.model.cells())
        assert used(FrameKind.ANON) == written, "more or fewer private frames than written pages"
        touched = sum(map(len, self.model.files()))
        assert used(FrameKind.FILE) == touched, "more or fewer shared frames than touched pages"
        if self.FRAMES >= KernelMachine.FRAMES:
            assert not system.oom_kills, "somebody was killed for want of frames that are there"

    def _compare_memory(self, process: Process) -> None:
        pages, space = self.model.processes[process.pid].pages, process.context.space
        assert space is not None
        seen = _pages_of(process.maps(), self.PAGE_SIZE)
        assert seen == {number: page.prot for number, page in pages.items()}, "maps differs"
        private = sum(page.cell is not None for page in pages.values())
        assert space.rss(FrameKind.ANON) == private, "resident private pages are not those written"
        for number, page in pages.items():
            self._compare_page(page, space.pte(number * self.PAGE_SIZE))

    def _compare_page(self, page: Page, entry: int) -> None:
        cell, frame = page.shown, Pte.frame(entry)
        if cell is None:
            assert entry == 0 or frame == self.kernel.system.zero_frame, "memory for a page never written"
        elif page.file is None or entry:
            assert entry, "a written page has no entry"
            cell.frame = frame if cell.frame is None else cell.frame
            assert cell.frame == frame, "a page changed its frame with nobody else to keep the old one"
            contents = self.kernel.machine.ram[frame].tobytes()
            assert contents == cell.data, "a frame holds what was not written"

    def teardown(self) -> None:
        """All but init end and are collected; then no frame may be missing."""
        for pid in self._living()[1:]:
            self.kernel.process(pid).exit(0)
            self.model.exit(pid, 0)
        self.kernel.check()
        assert list(self.kernel.system.tasks) == [KernelModel.INIT]
        machine = self.kernel.machine
        assert machine.frame_count - machine.free_frames == 2, "frames were lost"


def _flags(shared: bool) -> int:
    return (MAP_SHARED if shared else MAP_PRIVATE) | MAP_ANONYMOUS


def _pages_of(maps: str, page_size: int) -> dict[int, int]:
    """The pages that the text of maps says are there, and what they allow."""
    pages = {}
    for line in maps.splitlines():
        start, _, end = line.split()[0].partition("-")
        rights = line.split()[1]
        bits = (PROT_READ, PROT_WRITE, PROT_EXEC)
        prot = sum(bit for letter, bit in zip(rights[:3], bits, strict=True) if letter != "-")
        for number in range(int(start, 16) // page_size, int(end, 16) // page_size):
            pages[number] = prot
    return pages
