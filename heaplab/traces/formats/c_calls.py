"""Calls as C and C++ programs write them: `name(arguments) = result`, in the logs of several tools."""

import re
from collections.abc import Hashable, Sequence

from heaplab.traces.calls import ALIGNED, BAD_SIZES, CALLOC, FREE, MALLOC, REALLOC, Call, Refusal

_PAGE = 4096
_NULLS = {b"(nil)", b"nil", b"NULL", b"0x0", b"0", b"#0"}
_NEW = re.compile(rb"_Zn[wa][mj](RKSt9nothrow_t)?|operator new(\[\])?\((?![^()]*align_val_t)[^()]*\)")
_NEW_ALIGNED = re.compile(
    rb"_Zn[wa][mj]St11align_val_t(RKSt9nothrow_t)?|operator new(\[\])?\([^()]*align_val_t[^()]*\)"
)
_DELETE = re.compile(rb"_Zd[la]Pv\w*|operator delete(\[\])?\([^()]*\)")

_ALLOCATING = {
    *(b"malloc", b"calloc", b"realloc", b"reallocarray", b"memalign", b"aligned_alloc", b"posix_memalign"),
    *(b"valloc", b"pvalloc"),
}
_ALIGNING = {b"memalign", b"aligned_alloc", b"posix_memalign"}


def pointer(word: bytes) -> int:
    """The address that C's %p printed.  Raises: ValueError if it is none.

    >>> pointer(b"0x1f"), pointer(b"(nil)"), pointer(b"0")
    (31, 0, 0)
    """
    word = word.strip()
    return 0 if word in _NULLS else int(word, 16)


def allocates(name: bytes) -> bool:
    """Return True if a function of this name returns a block."""
    return name in _ALLOCATING or _NEW.fullmatch(name) is not None or _NEW_ALIGNED.fullmatch(name) is not None


def releases(name: bytes) -> bool:
    """Return True if a function of this name frees a block."""
    return name in (b"free", b"cfree") or _DELETE.fullmatch(name) is not None


def call_of(
    name: bytes, arguments: Sequence[bytes], result: int, who: Hashable, time: int = 0
) -> Call | None:
    """Return the call of the function `name`, None if it is no function of the heap.

    arguments: as they are printed; more than the function has are left aside.  result: the address, or 0.
    Raises: ValueError or IndexError when they are no arguments of that function.

    >>> call_of(b"reallocarray", [b"0x10", b"3", b"8"], 0x20, "me")
    (3, 'me', 32, 24, 16, 0)
    """
    if releases(name):
        return (FREE, who, pointer(arguments[0]), 0, 0, time)
    if name == b"malloc" or _NEW.fullmatch(name):
        return (MALLOC, who, result, natural(arguments[0]), 0, time)
    if name == b"calloc":
        return (CALLOC, who, result, natural(arguments[0]) * natural(arguments[1]), 0, time)
    if name == b"realloc":
        return (REALLOC, who, result, natural(arguments[1]), pointer(arguments[0]), time)
    if name == b"reallocarray":
        size = natural(arguments[1]) * natural(arguments[2])
        return (REALLOC, who, result, size, pointer(arguments[0]), time)
    if name in _ALIGNING:
        return (ALIGNED, who, result, natural(arguments[1]), natural(arguments[0]), time)
    if name in (b"valloc", b"pvalloc"):
        return (ALIGNED, who, result, natural(arguments[0]), _PAGE, time)
    if _NEW_ALIGNED.fullmatch(name):
        return (ALIGNED, who, result, natural(arguments[0]), natural(arguments[1]), time)
    return None


def natural(word: bytes) -> int:
    """The size, count or alignment that `word` says.  Raises: Refusal below 0; ValueError."""
    number = int(word)
    if number < 0:
        raise Refusal("has a size that no allocation can have", BAD_SIZES)
    return number
