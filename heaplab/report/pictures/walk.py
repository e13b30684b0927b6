"""A walk through the page tables as plain data: which entry of which table, and where it leads."""

from dataclasses import dataclass

from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.machine import Pte
from heaplab.process import Process

#: the bits of an entry, from the lowest: a letter, the name, what it says
BITS = (
    (Pte.PRESENT, "P", "present"),
    (Pte.WRITE, "W", "may be written"),
    (Pte.USER, "U", "for user programs"),
    (Pte.ACCESSED, "A", "accessed"),
    (Pte.DIRTY, "D", "dirty: written to"),
    (Pte.EXCLUSIVE, "X", "exclusive: never shared"),
    (Pte.NO_EXEC, "N", "not to be executed"),
)
LEVELS = 4


@dataclass(frozen=True)
class Step:
    """One level of the walk.

    level       3 for the root, 0 for the table whose entries are pages
    index       the entry that the address chooses
    table       the frame the table is in
    entry       what it holds; 0: nothing
    used        how many entries of the table hold something
    """

    level: int
    index: int
    table: int
    entry: int
    used: int

    @property
    def frame(self) -> int | None:
        """The frame that the entry names; None: the walk ends here."""
        return Pte.frame(self.entry) if self.entry & Pte.PRESENT else None

    @property
    def letters(self) -> str:
        """The bits that are set, as letters of BITS."""
        return "".join(letter for bit, letter, _ in BITS if self.entry & bit)


@dataclass(frozen=True)
class PageWalk:
    """The walk to one address.

    process                         whose address
    page_shift, index_bits          how many bits of the address are the offset, and each index
    steps                           root first; fewer than four when the walk ends early
    content                         the byte there; None without a frame
    """

    process: str
    address: int
    page_shift: int
    index_bits: int
    steps: tuple[Step, ...]
    content: int | None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.title}>"

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return f"The walk to {self.address:#x} through the page tables of {self.process}"

    @property
    def entries(self) -> int:
        """How many entries a table has."""
        return 1 << self.index_bits

    @property
    def page_size(self) -> int:
        """Bytes."""
        return 1 << self.page_shift

    @property
    def offset(self) -> int:
        """The byte within the page."""
        return self.address & (self.page_size - 1)

    def lowest_bit(self, level: int) -> int:
        """Return the lowest bit of a level's index in the address."""
        return self.page_shift + self.index_bits * level

    def index(self, level: int) -> int:
        """Return the index that the address holds for a level, walked or not."""
        return self.address >> self.lowest_bit(level) & (self.entries - 1)

    @property
    def frame(self) -> int | None:
        """The frame of the page; None: there is none, and an access faults."""
        return self.steps[-1].frame if len(self.steps) == LEVELS else None

    @property
    def physical(self) -> int | None:
        """The address in physical memory."""
        return None if self.frame is None else self.frame * self.page_size + self.offset

    def __str__(self) -> str:
        lines = [f"{self.process}: address {self.address:#x}, offset {self.offset}"]
        for step in self.steps:
            to = "nothing: a page fault" if step.frame is None else f"frame {step.frame}, {step.letters}"
            place = f"entry {step.index} of the table in frame {step.table} ({step.used} in use)"
            lines.append(f"level {step.level}: {place}: {step.entry:#x}, {to}")
        if self.physical is not None:
            lines.append(f"physical address {self.physical:#x}, which holds {self.content}")
        return "\n".join(lines) + "\n"


def look(kernel: Kernel, process: Process, address: int) -> PageWalk:
    """Return the walk as it is now; nothing is touched, and the TLB is not asked."""
    machine = kernel.machine
    task = kernel.task(process.tid)
    if task.mm is None:
        raise UsageError(f"process {task.tgid} is dead and has no address space any more")
    if not 0 <= address < 1 << machine.va_bits:
        raise UsageError(f"{address:#x} has more than the {machine.va_bits} bits of this machine's addresses")
    steps = []
    for level, (table, entry) in zip(range(LEVELS - 1, -1, -1), task.mm.space.walk(address), strict=False):
        index = address >> (machine.page_shift + machine.index_bits * level) & ((1 << machine.index_bits) - 1)
        steps.append(Step(level, index, table, entry, int(machine.mapcount[table])))
    frame = steps[-1].frame if len(steps) == LEVELS else None
    content = int(machine.ram[frame, address & (machine.page_size - 1)]) if frame is not None else None
    name = f"process {task.tgid}"
    return PageWalk(name, address, machine.page_shift, machine.index_bits, tuple(steps), content)
