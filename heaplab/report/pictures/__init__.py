"""Pictures of a kernel, drawn from what it holds at the moment; nothing here simulates.

process_tree(kernel)                       who is whose child, and in which state
address_spaces(kernel, process, ...)       areas, their pages, and the frames these are in
page_walk(kernel, process, address)        how the processor finds the frame of an address
program_file(kernel, path)                 what of a program stands in its file, and what in memory only
timeline([(call, process_tree), ...])      lives of processes: fork, exec, exit, wait
"""

from collections.abc import Sequence

from heaplab.kernel import Kernel
from heaplab.process import Process
from heaplab.report.pictures import (
    draw_lives,
    draw_program,
    draw_spaces,
    draw_tree,
    draw_walk,
    lives,
    program,
    spaces,
    tree,
    walk,
)
from heaplab.report.pictures.lives import Timeline
from heaplab.report.pictures.picture import Picture
from heaplab.report.pictures.program import ProgramFile
from heaplab.report.pictures.spaces import AddressSpaces
from heaplab.report.pictures.tree import ProcessTree
from heaplab.report.pictures.walk import PageWalk

__all__ = ["Picture", "address_spaces", "page_walk", "process_tree", "program_file", "timeline"]


def process_tree(kernel: Kernel, before: Picture[ProcessTree] | None = None) -> Picture[ProcessTree]:
    """Return a picture of the tree of processes: states, how zombies ended, threads, who sleeps in vfork.

    before: an earlier one; who has another parent now is marked as an orphan, and who is gone is named.

    >>> kernel = Kernel(ram="1 MiB")
    >>> kernel.init.fork().fork().exit(3)
    >>> print(process_tree(kernel))
    init(1) R: running
    `-init(2) R: running
       `-init(3) Z: zombie, exit code 3
    """
    return Picture(tree.look(kernel, before.data if before is not None else None), draw_tree.draw)


def address_spaces(kernel: Kernel, *processes: Process, most: int = 8) -> Picture[AddressSpaces]:
    """Return a picture of the address spaces of processes and the frames that they show, side by side.

    most: pages of one area that are drawn one by one, from the lowest up; the others are counted.
    Tasks of one address space (threads, a child of vfork) have it once.  O(frames + pages)
    Raises: UsageError for a process that is dead, or none at all.

    >>> kernel = Kernel(ram="1 MiB", aslr=False)
    >>> parent = kernel.init.fork()
    >>> parent.store64(parent.mmap(8192), 1)
    >>> child = parent.fork()
    >>> picture = address_spaces(kernel, parent, child)
    >>> [(frame.kind, frame.mapped) for frame in picture.data.frames]
    [('data', 2)]
    """
    return Picture(spaces.look(kernel, processes, most), draw_spaces.draw)


def page_walk(kernel: Kernel, process: Process, address: int) -> Picture[PageWalk]:
    """Return a picture of the walk through the page tables to an address of a process.

    Right for any machine: sizes of pages and tables are the machine's.  Nothing is touched by looking.
    Raises: UsageError for a process that is dead, and for an address that the machine cannot have.

    >>> kernel = Kernel(ram="1 MiB", page_size=64, aslr=False)
    >>> process = kernel.init.fork()
    >>> page = process.mmap(64)
    >>> process.store64(page, 1)
    >>> walk = page_walk(kernel, process, page + 5).data
    >>> [step.level for step in walk.steps], walk.physical == walk.frame * 64 + 5
    ([3, 2, 1, 0], True)
    """
    return Picture(walk.look(kernel, process, address), draw_walk.draw)


def program_file(kernel: Kernel, path: str) -> Picture[ProgramFile]:
    """Return a picture of an executable: what of it stands in the file, and what in memory only.

    Raises: FileNotFoundError, UsageError when it is no executable.

    >>> from heaplab.kernel.elf import make_elf
    >>> kernel = Kernel(ram="1 MiB")
    >>> kernel.write_file("/bin/lesson", make_elf(data=b"values", bss=1000))
    >>> [(part.rights, part.zeros) for part in program_file(kernel, "/bin/lesson").data.parts]
    [('r-x', 0), ('rw-', 1000)]
    """
    return Picture(program.look(kernel, path), draw_program.draw)


def timeline(moments: Sequence[tuple[str, Picture[ProcessTree]]]) -> Picture[Timeline]:
    """Return a picture of the lives of processes, from trees taken after some calls.

    moments: (the call, the tree after it), in the order of time.

    >>> kernel = Kernel(ram="1 MiB")
    >>> moments = [("", process_tree(kernel))]
    >>> child = kernel.init.fork()
    >>> moments.append(("fork()", process_tree(kernel)))
    >>> [(lane.pid, lane.parent) for lane in timeline(moments).data.lanes]
    [(1, 0), (2, 1)]
    """
    return Picture(lives.look([(call, picture.data) for call, picture in moments]), draw_lives.draw)
