"""What processes can see of each other's memory, in plain dictionaries: the judge of the kernel.

No page table, no VMA, no TLB: a process is a dictionary of pages.  A page shows a cell, or zeros while it
has none.  Cells are shared by fork and copied by the first of several that writes; so there is one cell for
each frame that the kernel should use, and which frame it is may not change while the cell lives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from heaplab.abi import PROT_EXEC, PROT_READ, PROT_WRITE


class Cell:
    """The contents of one frame.  holders: pages of processes that show it; frame: once it was seen."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.holders = 0
        self.frame: int | None = None


@dataclass
class Page:
    """A page of a process: what it allows, and what it shows."""

    prot: int
    cell: Cell | None = None
    file: dict[int, Cell] | None = None  # of a shared mapping: the cells of all its pages
    index: int = 0  # this page's place in the file

    @property
    def shown(self) -> Cell | None:
        """The cell whose contents a read sees."""
        return self.file.get(self.index) if self.file is not None else self.cell

    @property
    def readable(self) -> bool:
        """Whether a read is allowed: on x86-64, where anything is."""
        return bool(self.prot & (PROT_READ | PROT_WRITE | PROT_EXEC))


@dataclass
class ModelProcess:
    """A process.  Addresses are in pages but for brk, which is in bytes."""

    pid: int
    parent: int
    brk: int
    pages: dict[int, Page] = field(default_factory=dict)
    children: list[int] = field(default_factory=list)
    status: int | None = None  # once it is a zombie

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.status is None


class KernelModel:
    """All processes, by pid, those included that are dead and not collected."""

    INIT = 1

    def __init__(self, page_size: int, brk: int, layout: dict[int, int], mmap_base: int, lowest: int) -> None:
        """layout: page -> prot, what init has mapped; mmap_base, lowest: where mmap looks, in pages."""
        self.page_size = page_size
        self.start_brk = brk
        self.mmap_base = mmap_base
        self.lowest = lowest
        self.processes = {self.INIT: ModelProcess(self.INIT, 0, brk)}
        self.processes[self.INIT].pages = {page: Page(prot) for page, prot in layout.items()}

    def cells(self) -> set[Cell]:
        """The cells of private memory."""
        return {
            page.cell
            for process in self.processes.values()
            for page in process.pages.values()
            if page.cell is not None
        }

    def files(self) -> Iterator[dict[int, Cell]]:
        """The shared mappings, each once."""
        seen: set[int] = set()
        for process in self.processes.values():
            for page in process.pages.values():
                if page.file is not None and id(page.file) not in seen:
                    seen.add(id(page.file))
                    yield page.file

    # processes

    def fork(self, pid: int, child_pid: int) -> None:
        """A child that shows the same cells."""
        parent = self.processes[pid]
        child = ModelProcess(child_pid, pid, parent.brk)
        for number, page in parent.pages.items():
            child.pages[number] = Page(page.prot, page.cell, page.file, page.index)
            if page.cell is not None:
                page.cell.holders += 1
        parent.children.append(child_pid)
        self.processes[child_pid] = child

    def exit(self, pid: int, status: int) -> None:
        """Its memory goes, its children go to init, and init collects the dead."""
        process, init = self.processes[pid], self.processes[self.INIT]
        for number in list(process.pages):
            self.unmap_page(process, number)
        process.status = status
        for child in process.children:
            self.processes[child].parent = self.INIT
        init.children += process.children
        process.children = []
        for child in [child for child in init.children if not self.processes[child].alive]:
            self.collect(child)

    def collect(self, pid: int) -> None:
        """Forget a zombie."""
        self.processes[self.processes[pid].parent].children.remove(pid)
        del self.processes[pid]

    # memory

    def map(self, pid: int, first: int, count: int, prot: int, *, shared: bool) -> None:
        """New pages, in place of what was there."""
        process = self.processes[pid]
        file: dict[int, Cell] | None = {} if shared else None
        self.unmap(pid, first, count)
        for index in range(count):
            process.pages[first + index] = Page(prot, None, file, index)

    def unmap(self, pid: int, first: int, count: int) -> None:
        """Pages gone, those that are there."""
        for number in range(first, first + count):
            if number in self.processes[pid].pages:
                self.unmap_page(self.processes[pid], number)

    def unmap_page(self, process: ModelProcess, number: int) -> None:
        """One page gone."""
        cell = process.pages.pop(number).cell
        if cell is not None:
            cell.holders -= 1

    def protect(self, pid: int, first: int, count: int, prot: int) -> bool:
        """New rights up to a hole; whether there was none."""
        for number in range(first, first + count):
            page = self.processes[pid].pages.get(number)
            if page is None:
                return False
            page.prot = prot
        return True

    def place(self, pid: int, count: int) -> int | None:
        """Where mmap puts `count` pages: as high as they fit."""
        pages = self.processes[pid].pages
        room = 0
        for number in range(self.mmap_base - 1, self.lowest - 1, -1):
            room = 0 if number in pages else room + 1
            if room == count:
                return number
        return None

    def set_brk(self, pid: int, wanted: int) -> bool:
        """Move the break; whether that can be."""
        process, size = self.processes[pid], self.page_size
        old, new = -(-process.brk // size), -(-wanted // size)
        if wanted < self.start_brk:
            return False
        if new > old:
            if any(number in process.pages for number in range(old, new + 1)):
                return False
            self.map(pid, old, new - old, PROT_READ | PROT_WRITE, shared=False)
        elif new < old:
            if not any(number in process.pages for number in range(new, old)):
                return False
            self.unmap(pid, new, old - new)
        process.brk = wanted
        return True

    def may(self, pid: int, number: int, *, write: bool) -> bool:
        """Whether an access is allowed."""
        page = self.processes[pid].pages.get(number)
        return page is not None and bool(page.prot & PROT_WRITE if write else page.readable)

    def read(self, pid: int, number: int) -> bytes:
        """What a page shows.  A page of a shared mapping is made by a read already."""
        page = self.processes[pid].pages[number]
        if page.file is not None:
            page.file.setdefault(page.index, Cell(bytes(self.page_size)))
        return bytes(page.shown.data) if page.shown is not None else bytes(self.page_size)

    def write(self, pid: int, number: int, offset: int, data: bytes) -> None:
        """Write into one page: the first of several holders gets a cell of its own."""
        page = self.processes[pid].pages[number]
        before = self.read(pid, number)
        if page.file is not None:
            cell = page.file[page.index]
        elif page.cell is not None and page.cell.holders == 1:
            cell = page.cell
        else:
            cell = Cell(before)
            cell.holders = 1
            if page.cell is not None:
                page.cell.holders -= 1
            page.cell = cell
        cell.data[offset : offset + len(data)] = data
