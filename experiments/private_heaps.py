"""Private heaps: a free list a thread and size class, and nothing that ever leaves a thread.

    heaplab compare git-grep --allocators experiments/private_heaps.py:freed=home,spans

    block (8 mod 16)                        freed
    | thread << 8 | class | payload         | thread << 8 | class | next |

    root -> +40  lists: the first free block of each thread and class

freed=here   a block goes to the thread that frees it: pure private heaps.  A consumer gathers blocks that no
             producer gets back, so the two need memory without bound.
freed=home   a block goes back to the thread that allocated it: private heaps with ownership.  Each thread may
             hold as much as the program ever needed at once, so P threads need P times as much.

Classes are powers of two from 16 bytes; nothing is merged, nothing goes back to the kernel, and alignments
above 16 bytes are refused.  Source: Berger, McKinley, Blumofe and Wilson, Hoard: A Scalable Memory Allocator
for Multithreaded Applications, ASPLOS 2000.
"""

import errno
from collections.abc import Iterator, Mapping

from heaplab.allocators import Span, State, Trait
from heaplab.allocators.base import Option, round_up
from heaplab.allocators.design import ROOT_DESIGN, Design
from heaplab.allocators.sources import brk
from heaplab.errors import Rule
from heaplab.process import Process

HEADER = 8
LEAST_ORDER, MOST_ORDER = 4, 40
THREADS = 64
CLASSES = MOST_ORDER - LEAST_ORDER + 1
FREE = 1 << 7  # of a header, beside the class


class PrivateHeaps(Design):
    """Blocks of powers of two, on the lists of threads."""

    NAME = "private"
    MAGIC = int.from_bytes(b"private", "little")
    TRAITS = Trait.REUSES | Trait.ANY_ORDER | Trait.HEADERS | Trait.CONTIGUOUS
    OPTIONS = (*brk.OPTIONS, Option("freed", "here", "whose list a freed block goes to", ("here", "home")))
    ROOT_SIZE = round_up(ROOT_DESIGN + 8 * (1 + THREADS * CLASSES), 16)

    def __init__(self, process: Process, options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        self._brk = brk.Brk(process, self.options, root)
        self._fresh = root + ROOT_DESIGN  # the first byte that no block has had
        self._lists = self._fresh + 8
        self._first = root + self.ROOT_SIZE + HEADER  # so that payloads are at multiples of 16
        self._home = options["freed"] == 1

    @classmethod
    def _begin(cls, process: Process, options: Mapping[str, int]) -> int:
        return brk.begin(process, options, cls.ROOT_SIZE, cls.MAGIC)

    def _init(self) -> None:
        self._store(self._fresh, self._first)

    def _list(self, thread: int, order: int) -> int:
        return self._lists + 8 * (thread % THREADS * CLASSES + order - LEAST_ORDER)

    def _malloc(self, size: int, alignment: int) -> int:
        order = max(LEAST_ORDER, (size - 1).bit_length()) if size > 1 else LEAST_ORDER
        if order > MOST_ORDER or alignment > 16:
            self.process.errno = errno.ENOMEM
            return 0
        thread = self.process.context.thread
        head = self._list(thread, order)
        p = self._load(head)
        if p:
            self._store(head, self._load(p))
        else:
            p = self._load(self._fresh) + HEADER
            end = self._brk.end()
            if p + (1 << order) + HEADER > end and not self._brk.grow(p + (1 << order) + HEADER - end):
                return 0
            self._store(self._fresh, p + (1 << order) + HEADER)
        self._store(p - HEADER, thread << 8 | order)
        return p

    def _header(self, p: int) -> int:
        header = self._load(p - HEADER)
        if p % 16 or header & FREE or not LEAST_ORDER <= header & 127 <= MOST_ORDER:
            self._corrupt(p, Rule.FOREIGN_POINTER)
        return header

    def _free(self, p: int) -> None:
        header = self._header(p)
        thread = header >> 8 if self._home else self.process.context.thread
        head = self._list(thread, header & 127)
        self._store(p - HEADER, header | FREE)
        self._store(p, self._load(head))
        self._store(head, p)

    def _usable(self, p: int) -> int:
        return 1 << (self._header(p) & 127)

    def _resize(self, p: int, size: int) -> bool:
        return size <= self._usable(p)

    def _walk(self) -> Iterator[Span]:
        first, fresh = self._first, self._load(self._fresh)
        yield Span.metadata(self.root, first - self.root)
        while first < fresh:
            header = self._load(first)
            size = 1 << (header & 127)
            state = State.FREE if header & FREE else State.ALLOCATED
            yield Span(first, size + 2 * HEADER, first + HEADER, size, state)
            first += size + 2 * HEADER
        if first < (end := self._brk.end()):
            yield Span(first, end - first, first, end - first, State.FREE)

    def _check(self) -> None:
        for span in self._walk():
            if span.state == State.ALLOCATED and span.payload % 16:
                self._corrupt(span.payload, Rule.BROKEN_HEADER)
