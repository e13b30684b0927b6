"""What of a CPU belongs to one task: its loads and stores, and the traps they raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from heaplab._core import ffi, lib
from heaplab.errors import UsageError
from heaplab.machine.machine import Machine
from heaplab.machine.space import Space

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


class TrapHandler(Protocol):
    """Who answers a context's traps: the kernel's side of a task."""

    def fault(self, va: int, error_code: int) -> int:
        """Make the access possible and return 0, or raise: then the access fails with that exception.

        error_code: bit 0 an entry forbids the access (else there is none), bit 1 a write, bit 2 user.
        """

    def syscall(self, nr: int, *args: int) -> int:
        """Do system call `nr` with six arguments; the result or a negative errno."""


def _keep(_type: Any, value: BaseException, _traceback: Any) -> None:
    _waiting.append(value)


@ffi.def_extern(error=-1, onerror=_keep)  # type: ignore[untyped-decorator]
def hl_py_fault(handle: Any, va: int, error_code: int) -> int:
    return ffi.from_handle(handle).fault(va, error_code)  # type: ignore[no-any-return]


@ffi.def_extern(error=lib.ENV_TRAP_RAISED, onerror=_keep)  # type: ignore[untyped-decorator]
def hl_py_syscall(handle: Any, nr: int, *args: int) -> int:
    return ffi.from_handle(handle).syscall(nr, *args)  # type: ignore[no-any-return]


class Context:
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
    """

    def __init__(self, machine: Machine, space: Space, handler: TrapHandler) -> None:
        self.machine = machine
        #: who answers the traps
        self.handler = handler
        self._handle = ffi.new_handle(handler)
        self.raw = ffi.gc(lib.hl_context_new(space.raw, self._handle), lib.hl_context_delete)
        self.space: Space | None = space
        #: load 8 bytes; bound here because every allocator in Python lives on it
        self.load64: Callable[[int], int] = self._make_load64()
        #: store 8 bytes
        self.store64: Callable[[int, int], None] = self._make_store64()

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

    def check(self) -> None:
        """Raise what the trap handler raised, if the last access failed."""
        if self.raw.failed:
            self.raw.failed = 0
            raise _waiting.pop() if _waiting else MemoryError(_IN_VAIN)

    def load(self, va: int, size: int = 8) -> int:
        """Return the `size` (1, 2, 4, 8) bytes at `va`."""
        value: int = lib.hl_load(self.raw, va & REGISTER, _checked(size))
        if value == lib.HL_BAD_LOAD:
            self.check()
        return value

    def store(self, va: int, value: int, size: int = 8) -> None:
        """Store the low `size` (1, 2, 4, 8) bytes of `value` at `va`."""
        if lib.hl_store(self.raw, va & REGISTER, value & REGISTER, _checked(size)):
            self.check()

    def read(self, va: int, n: int) -> bytes:
        """Return n bytes from `va` on."""
        out = ffi.new("uint8_t[]", n)
        if lib.hl_read(self.raw, va & REGISTER, out, n):
            self.check()
        return bytes(ffi.buffer(out))

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
    def loads(self) -> int:
        """Loads of 1, 2, 4 or 8 bytes so far."""
        return int(self.raw.loads)

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

    @property
    def tlb_misses(self) -> int:
        """Page walks so far."""
        return int(self.raw.tlb_misses)

    @property
    def faults(self) -> int:
        """Faults handed to the trap handler so far, those it could not mend included."""
        return int(self.raw.faults)
