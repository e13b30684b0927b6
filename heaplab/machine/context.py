"""What of a CPU belongs to one task: its loads and stores, and the traps they raise.

Reader        loads, counted and bounded by a budget
  Context     of a task: stores too, and the order of all references
  Looking     of somebody who looks: heaplab.machine.look
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from heaplab._core import ffi, lib
from heaplab.errors import OutOfFuel, Unreadable, UsageError
from heaplab.machine.machine import Machine
from heaplab.machine.space import Space
from heaplab.units import counted

# An exception cannot travel through C frames: it waits here from the trap handler's raising it until the
# call that led into C has returned.  One thread of Python runs the model, so there is at most one.
_waiting: list[BaseException] = []

#: what a register holds: addresses, values and lengths wrap as in C
REGISTER: Final = (1 << 64) - 1


def _checked(size: int) -> int:
    if size not in (1, 2, 4, 8):
        raise UsageError(f"a load or store of {size} bytes: make it 1, 2, 4 or 8, or use read and write")
    return size


_IN_VAIN: Final = (
    "the access faulted again and again, and was to be tried again each time: who answers the trap, like a "
    "handler of SIGSEGV, has to mend what was wrong"
)


_MOST_FUEL: Final = (1 << 63) - 1
_MOST_KEPT: Final = 1 << 32


class TrapHandler(Protocol):
    """Who answers a context's traps: the kernel's side of a task."""

    def fault(self, va: int, error_code: int) -> int:
        """Make the access possible and return 0, or raise: then the access fails with that exception.

        error_code: bit 0 an entry forbids the access (else there is none), bit 1 a write, bit 2 user.
        """

    def syscall(self, nr: int, *args: int) -> int:
        """Do system call `nr` with six arguments; the result or a negative errno."""


def keep_raised(_type: Any, value: BaseException, _traceback: Any) -> None:
    """Keep what a callback of the C side raised until `Reader.check`."""
    _waiting.append(value)


@ffi.def_extern(error=-1, onerror=keep_raised)  # type: ignore[untyped-decorator]
def hl_py_fault(handle: Any, va: int, error_code: int) -> int:
    return ffi.from_handle(handle).fault(va, error_code)  # type: ignore[no-any-return]


@ffi.def_extern(error=lib.ENV_TRAP_RAISED, onerror=keep_raised)  # type: ignore[untyped-decorator]
def hl_py_syscall(handle: Any, nr: int, *args: int) -> int:
    return ffi.from_handle(handle).syscall(nr, *args)  # type: ignore[no-any-return]


class Reference(NamedTuple):
    """One memory reference: a load, or a store, of the 1 to 8 bytes at `address`."""

    address: int
    is_store: bool


class Reader:
    """Loads from the memory that a context of the C side sees.

    raw: the C side's hl_context, which goes with this object.
    """

    def __init__(self, machine: Machine, raw: Any) -> None:
        self.machine = machine
        self.raw = ffi.gc(raw, lib.hl_context_delete)
        #: load 8 bytes; bound here because every allocator in Python lives on it
        self.load64: Callable[[int], int] = self._make_load64()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {counted(self.loads, 'load')}, {counted(self.stores, 'store')}>"

    def _make_load64(self) -> Callable[[int], int]:
        def load64(
            va: int,
            raw: Any = self.raw,
            load: Callable[[Any, int], int] = lib.hl_load64,
            bad: int = lib.HL_BAD_LOAD,
        ) -> int:
            try:
                value = load(raw, va)
            except OverflowError:
                value = load(raw, va & REGISTER)
            if value == bad and raw.failed:
                self.check()
            return value

        return load64

    def check(self) -> None:
        """Raise what made the last access fail, if it failed: what the trap handler raised.

        Raises: OutOfFuel when the budget is spent; Unreadable for a look at what nobody may read.
        """
        why, self.raw.failed = self.raw.failed, 0
        if why == lib.HL_OUT_OF_FUEL:
            raise OutOfFuel(int(self.raw.budget))
        if why == lib.HL_UNREADABLE:
            raise Unreadable(int(self.raw.fault_address))
        if why == lib.HL_LOOKS_ONLY:
            raise UsageError(
                f"a store at {self.raw.fault_address:#x} through a look, which changes nothing: make it "
                "through the process"
            )
        if why:
            raise _waiting.pop() if _waiting else MemoryError(_IN_VAIN)

    def load(self, va: int, size: int = 8) -> int:
        """Return the `size` (1, 2, 4, 8) bytes at `va`."""
        value: int = lib.hl_load(self.raw, va & REGISTER, _checked(size))
        if value == lib.HL_BAD_LOAD:
            self.check()
        return value

    def read(self, va: int, n: int) -> bytes:
        """Return n bytes from `va` on."""
        out = ffi.new("uint8_t[]", n)
        if lib.hl_read(self.raw, va & REGISTER, out, n):
            self.check()
        return bytes(ffi.buffer(out))

    @property
    def fuel(self) -> int | None:
        """How many references may still be made; None, as it begins: any number.

        A load or store that finds none left is not made and raises OutOfFuel, in Python and in C.  Copying,
        filling, reading or writing n bytes is no reference, but takes 1 + n // 4096 all the same, or all that
        is left.  Setting it lets the counters go on.  A forked child has no limit.
        Raises on setting: UsageError for less than 0.
        """
        left: int = lib.hl_fuel(self.raw)
        return None if left == lib.HL_NO_LIMIT else left

    @fuel.setter
    def fuel(self, references: int | None) -> None:
        if references is not None and references < 0:
            raise UsageError(f"a budget of {references} references: make it 0 or more, or None for no limit")
        lib.hl_set_fuel(self.raw, lib.HL_NO_LIMIT if references is None else min(references, _MOST_FUEL))

    @property
    def loads(self) -> int:
        """Loads of 1, 2, 4 or 8 bytes so far."""
        return int(lib.hl_loads(self.raw))

    @property
    def stores(self) -> int:
        """Stores of 1, 2, 4 or 8 bytes so far."""
        return int(self.raw.stores)

    @property
    def mems(self) -> int:
        """Memory references so far, Knuth's measure: loads and stores.  Bulk bytes are counted apart."""
        return self.loads + self.stores

    @property
    def bulk(self) -> int:
        """Bytes moved so far by copy, fill, read and write."""
        return int(self.raw.bulk)


class Context(Reader):
    """The memory as one task sees it: every access goes through the MMU and is counted.

    load64(va) -> int and store64(va, value) are the fast ones; sizes 1, 2, 4, 8 by load and store.
    Values are unsigned and little-endian; addresses need not be aligned; what is beyond 64 bits wraps,
    as in C.
    Raises: what the trap handler raised, when an access cannot be made.

    >>> from heaplab.machine import FrameKind, Pte
    >>> machine = Machine("64 KiB")
    >>> space = Space(machine)
    >>> class Kernel:
    ...     def fault(self, va, error_code):
    ...         space.map_zeroed(va & ~0xFFF, FrameKind.ANON, Pte.USER | Pte.WRITE)
    ...         return 0
    ...     def syscall(self, nr, *args):
    ...         return -38
    >>> context = Context(machine, space, Kernel())
    >>> context.store64(0x5FFC, 0x1122334455667788)     # crosses into the next page
    >>> hex(context.load(0x6000, 4)), context.faults, context.mems
    ('0x11223344', 2, 2)

    A budget of references ends what would go on for ever, at the same reference every time:

    >>> context.fuel = 1000
    >>> while True:
    ...     context.store64(0x5000, context.load64(0x5000) + 1)
    Traceback (most recent call last):
    heaplab.errors.OutOfFuel: the budget of 1,000 memory references is spent: ...
    >>> context.fuel, context.mems
    (0, 1002)
    >>> context.fuel = None

    Two programs make the same references in the same order if their orders are equal:

    >>> context.observe(True)
    >>> context.store64(0x5000, 7), context.load64(0x5000)
    (None, 7)
    >>> context.recent(2)
    [Reference(address=20480, is_store=True), Reference(address=20480, is_store=False)]
    >>> first = context.order
    >>> context.observe(True)                           # from the beginning
    >>> context.load64(0x5000), context.store64(0x5000, 7)
    (7, None)
    >>> context.order == first
    False
    >>> context.observe(False)
    """

    def __init__(self, machine: Machine, space: Space, handler: TrapHandler) -> None:
        #: who answers the traps
        self.handler = handler
        self._handle = ffi.new_handle(handler)
        super().__init__(machine, lib.hl_context_new(space.raw, self._handle))
        self.space: Space | None = space
        #: store 8 bytes
        self.store64: Callable[[int, int], None] = self._make_store64()

    def _make_store64(self) -> Callable[[int, int], None]:
        def store64(
            va: int, value: int, raw: Any = self.raw, store: Callable[[Any, int, int], int] = lib.hl_store64
        ) -> None:
            try:
                failed = store(raw, va, value)
            except OverflowError:
                failed = store(raw, va & REGISTER, value & REGISTER)
            if failed:
                self.check()

        return store64

    def switch(self, space: Space | None) -> None:
        """Make `space` the address space (CR3).  None: of a task that has died; every access faults."""
        self.space = space
        lib.hl_context_switch(self.raw, space.raw if space else ffi.NULL)

    def store(self, va: int, value: int, size: int = 8) -> None:
        """Store the low `size` (1, 2, 4, 8) bytes of `value` at `va`."""
        if lib.hl_store(self.raw, va & REGISTER, value & REGISTER, _checked(size)):
            self.check()

    def cas64(self, va: int, old: int, new: int) -> bool:
        """Store 8 bytes if `old` stands at `va`, as one step; return whether they were stored.

        A load, and a store if it stores.  It needs a page that may be written in any case, as in hardware.
        """
        done = lib.hl_cas64(self.raw, va & REGISTER, old & REGISTER, new & REGISTER)
        if done < 0:
            self.check()
        return bool(done > 0)

    def write(self, va: int, data: bytes) -> None:
        """Write `data` from `va` on; the pages before a failing one are written."""
        if lib.hl_write(self.raw, va & REGISTER, data, len(data)):
            self.check()

    def copy(self, dst: int, src: int, n: int) -> None:
        """Copy n bytes as memmove does."""
        if lib.hl_copy(self.raw, dst & REGISTER, src & REGISTER, n & REGISTER):
            self.check()

    def fill(self, dst: int, byte: int, n: int) -> None:
        """Set n bytes, as memset does."""
        if lib.hl_fill(self.raw, dst & REGISTER, byte & 0xFF, n & REGISTER):
            self.check()

    @property
    def thread(self) -> int:
        """The number of the thread that runs, for allocators: 0 until whoever drives the process sets it."""
        return int(self.raw.thread)

    @thread.setter
    def thread(self, number: int) -> None:
        self.raw.thread = number

    # the order of references

    def observe(self, on: bool, *, keep: int = 4096) -> None:
        """Begin to observe the references, or end it: `order`, and with `recent` at least the last `keep`.

        It begins anew each time; what was found can be asked for until then.  All counts and faults are the
        same as unobserved.  A forked child is not observed.
        Cost: about 10 ns a reference; none while nobody observes.
        Raises: UsageError for a `keep` below 0.
        """
        if not on:
            lib.hl_observe_stop(self.raw)
        elif keep < 0:
            raise UsageError(f"the last {keep} references: keep 0 or more")
        elif keep > _MOST_KEPT or lib.hl_observe(self.raw, keep):
            raise MemoryError(f"this computer has no memory for the last {keep} references")

    @property
    def order(self) -> int:
        """A hash of 64 bits over all references observed, in their order: the address, and load or store."""
        return int(lib.hl_order(self.raw))

    def recent(self, n: int) -> list[Reference]:
        """Return the last n references observed, oldest first; fewer if fewer were kept."""
        n = max(0, min(n, _MOST_KEPT))
        kept = lib.hl_recent(self.raw, n, ffi.NULL, ffi.NULL)
        addresses, is_store = ffi.new("uint64_t[]", kept), ffi.new("uint8_t[]", kept)
        lib.hl_recent(self.raw, kept, addresses, is_store)
        return [Reference(addresses[i], bool(is_store[i])) for i in range(kept)]

    # counters

    @property
    def tlb_misses(self) -> int:
        """Page walks so far."""
        return int(self.raw.tlb_misses)

    @property
    def faults(self) -> int:
        """Faults handed to the trap handler so far, those it could not mend included."""
        return int(self.raw.faults)
