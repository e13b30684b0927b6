"""A design in Python and in C, step by step: equal in every address, count, reference and byte."""

from collections import Counter
from collections.abc import Callable, Iterator

from heaplab.allocators import Allocator, Trait
from heaplab.machine import Pte
from heaplab.machine.context import Reference
from heaplab.process import Process
from heaplab.testing.checked_heap import CheckedHeap, Payload
from heaplab.testing.limits import MOST_MEMS, MOST_SECONDS
from heaplab.testing.steps import Step


def resident(process: Process) -> Iterator[tuple[int, bytes]]:
    """Yield the address and the bytes of each page of a process that has a frame."""
    machine, size = process.context.machine, process.page_size
    space = process.context.space
    assert space is not None, "the process has no address space any more"
    for line in process.maps().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        for page, entry in enumerate(space.ptes(start, (end - start) // size).tolist()):
            if entry:
                frame = Pte.frame(entry)
                yield start + page * size, machine.ram[frame].tobytes()


class Twins:
    """The same steps on a design in Python and in C: equal in every address, count, reference and byte.

    >>> from heaplab.testing.steps import Malloc
    >>> twins = Twins("rbtree")
    >>> twins.do(Malloc(0, 100))
    >>> twins.verify_bytes()
    """

    def __init__(
        self,
        design: str,
        *,
        ram: str = "16 MiB",
        page_size: int = 4096,
        mems: int = MOST_MEMS,
        seconds: float = MOST_SECONDS,
    ) -> None:
        self.python, self.c = (
            CheckedHeap(design, language, ram=ram, page_size=page_size, mems=mems, seconds=seconds)
            for language in ("python", "c")
        )
        self.note: Callable[[int], None] = lambda at: None

    @property
    def heaps(self) -> dict[int, Allocator]:
        """The heaps of the one in Python."""
        return self.python.heaps

    @property
    def live(self) -> dict[int, dict[int, Payload]]:
        """The blocks of the one in Python."""
        return self.python.live

    @property
    def traits(self) -> Trait:
        """What the design promises."""
        return self.python.traits

    def do(self, step: Step) -> None:
        """Carry out the step on both, and compare all that can be counted."""
        self.note(len(self.python.steps) + 1)
        for heap in (self.python, self.c):
            heap.process(step.process).context.observe(True, keep=MOST_MEMS // 4)
            heap.carry_out(step)
        for number in self.heaps:
            python, c = self._seen(self.python, number), self._seen(self.c, number)
            for what in python:
                assert python[what] == c[what], (
                    f"{step}: {what} differ: {python[what]} in Python, {c[what]} in C"
                )
        self._verify_order(step)
        for heap in (self.python, self.c):
            heap.process(step.process).context.observe(False)
            heap.verify(step.process)

    def _verify_order(self, step: Step) -> None:
        contexts = [heap.process(step.process).context for heap in (self.python, self.c)]
        if contexts[0].order == contexts[1].order:
            return
        python, c = (context.recent(MOST_MEMS // 4) for context in contexts)
        at = next(n for n, pair in enumerate(zip(python, c, strict=False)) if pair[0] != pair[1])
        raise AssertionError(
            f"{step}: references differ from number {at + 1} on: a {_words(python[at])} in Python, "
            f"a {_words(c[at])} in C"
        )

    @staticmethod
    def _seen(heap: CheckedHeap, number: int) -> dict[str, object]:
        process = heap.process(number)
        context = process.context
        return {
            "blocks": heap.live[number],
            "loads": context.loads,
            "stores": context.stores,
            "bytes copied and filled": context.bulk,
            "system calls": Counter(process.syscalls),
            "breaks": process.sbrk(0),
            "errors": process.errno,
        }

    def verify_bytes(self) -> None:
        """Compare the mappings of all processes, and every page that has a frame."""
        for number in self.heaps:
            python, c = self.python.process(number), self.c.process(number)
            assert python.maps() == c.maps(), f"process {number}: the mappings differ"
            pages = [dict(resident(process)) for process in (python, c)]
            assert pages[0].keys() == pages[1].keys(), f"process {number}: other pages were touched"
            for address, content in pages[0].items():
                assert content == pages[1][address], f"process {number}: the page at {address:#x} differs"


def _words(reference: Reference) -> str:
    return f"{'store' if reference.is_store else 'load'} at {reference.address:#x}"
