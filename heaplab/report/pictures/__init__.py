"""Pictures of kernels and heaps, drawn from what they hold at the moment; nothing here simulates.

process_tree(kernel)                       who is whose child, and in which state
address_spaces(kernel, process, ...)       areas, their pages, and the frames these are in
page_walk(kernel, process, address)        how the processor finds the frame of an address
program_file(kernel, path)                 what of a program stands in its file, and what in memory only
timeline([(call, process_tree), ...])      lives of processes: fork, exec, exit, wait
heap(heap)                                 blocks in address order, the free structure, pages and the break
filmstrip(designs, requests)               the heap of each design after each request
"""

from collections.abc import Sequence

from heaplab.allocators import Allocator, Spec
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.process import Process
from heaplab.report.pictures import (
    draw_film,
    draw_heap,
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
from heaplab.traces import Event
from heaplab.views.film import Film, film
from heaplab.views.heap import HeapView, heap_view

__all__ = [
    "Picture",
    "address_spaces",
    "filmstrip",
    "heap",
    "page_walk",
    "process_tree",
    "program_file",
    "timeline",
]


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


def heap(heap: Allocator | HeapView) -> Picture[HeapView]:
    """Return a picture of a heap: its blocks in address order, the links of its free structure, its pages.

    heap: a heap, which is looked at now, or a view of one.  Raises: UsageError for anything else.

    >>> from heaplab import allocators
    >>> alive = allocators.create("freelist", Kernel(ram="1 MiB", aslr=False).init.fork())
    >>> p, q = alive.malloc(400), alive.malloc(100)
    >>> alive.free(p)
    >>> [block.name for block in heap(alive).data.blocks]
    ['metadata', 'free', 'allocated', 'free', 'metadata']
    """
    if not isinstance(heap, Allocator | HeapView):
        raise UsageError(f"{heap!r} is no heap: give one that `create` made, or a view of one")
    return Picture(heap if isinstance(heap, HeapView) else heap_view(heap), draw_heap.draw)


def filmstrip(
    designs: Film | str | Sequence[str | Spec],
    requests: str | Sequence[Event] = "",
    language: str = "python",
    *,
    seed: int = 1,
) -> Picture[Film]:
    """Return a picture of a few requests on each design: a row for each request, a column for each design.

    designs, requests, language, seed: as `heaplab.views.film.film` takes them; one design may stand alone.
    Or a film that was made before.

    >>> strip = filmstrip(["freelist:fit=first", "freelist:fit=best"], "a0 400; a1 100; f0; a2 280")
    >>> [reel.stills[-1].view.place(reel.stills[-1].address) for reel in strip.data.reels]
    ['+0x60', '+0x60']
    """
    if isinstance(designs, Film):
        return Picture(designs, draw_film.draw)
    listed = [designs] if isinstance(designs, str) else designs
    return Picture(film(listed, requests, language, seed=seed), draw_film.draw)
