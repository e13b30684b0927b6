"""What ltrace prints.

    [pid N] TIME prog->malloc(100) = 0x1000         with -f, with -t, -tt, -ttt or -r, with -e
    N malloc(100 <unfinished ...>                   with -f and -o; other threads' lines may follow
    N <... malloc resumed> ) = 0x1000
    N <... fork resumed> ) = 0                      the beginning of a forked process
    N --- Called exec() ---
    N +++ exited (status 0) +++

A free takes effect where it begins, everything else where it ends.  A call inside another call of the heap,
such as operator new's malloc, is the same block again and left aside.  posix_memalign's block is not printed.
"""

import re
from collections.abc import Iterator

from heaplab.traces.calls import (
    BEGIN,
    EXEC,
    EXIT,
    REALLOC,
    REALLOC_BEGIN,
    REALLOC_END,
    THREAD_EXIT,
    Call,
)
from heaplab.traces.formats.base import Format
from heaplab.traces.formats.c_calls import allocates, call_of, pointer, releases

_PREFIX = re.compile(
    rb"(?:\[pid (\d+)\] |(\d+) )?"
    rb"(?:\s*(?:(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?|(\d{1,12})\.(\d{1,9})) )?\s*(?:[^\s()<>\"]+->)?"
)
_RETURNED = re.compile(rb"(.*)\(([^()]*)\)\s+= (.*)")
_UNFINISHED = re.compile(rb"(.*)\(([^()]*) <(?:unfinished|no return) \.\.\.>")
_RESUMED = re.compile(rb"<\.\.\. (.*) resumed> ([^()]*)\)\s+= (.*)")
_START = re.compile(
    rb"^[^\n]*((\b(malloc|calloc|realloc|free|memalign|_Zn[wa]m)(@\S+)?|operator new[^\n(]*\([^\n]*\))"
    rb"\([^\n]*(\)\s+= (0x[0-9a-f]+|0|<void>)|<unfinished \.\.\.>)"
    rb"|\)\s+= <void>|\+\+\+ exited \(status \d+\) \+\+\+)\r?$",
    re.M,
)
_FORKS = {b"fork", b"vfork", b"__libc_fork"}
_EPOCH = 10**8  # seconds; a clock that shows less than three years counts from the line before (-r)


class LTrace(Format):
    """The grammar of ltrace; it keeps the calls that each thread has begun, and the processes."""

    name = "ltrace"
    shape = "of ltrace"
    start = _START
    lost = "posix_memalign's blocks are not in it"

    def __init__(self) -> None:
        self._open: dict[bytes, list[tuple[bytes, list[bytes]]]] = {}  # by pid
        self._processes: set[bytes] = set()
        self._first: bytes | None = None
        self._clock = 0
        self._unseen = 0  # calls of posix_memalign

    def parse(self, piece: bytes) -> Call | None:
        line = piece.strip(b"\r")
        found = _PREFIX.match(line)
        assert found is not None, "the prefix may be empty"
        pid = found[1] or found[2] or b""
        time = self._time(found)
        text = line[found.end() :]
        if self._first is None:
            self._first = pid
            self._processes.add(pid)
        if text.startswith(b"<... "):
            resumed = _RESUMED.fullmatch(text)
            return resumed and self._resumed(pid, _name(resumed[1]), resumed[2], resumed[3], time)
        if text.startswith((b"--- Called exec()", b"+++ ")):
            return self._passed(pid, text, time)
        if unfinished := _UNFINISHED.fullmatch(text):
            return self._begun(pid, _name(unfinished[1]), unfinished[2].split(b","), time)
        returned = _RETURNED.fullmatch(text)
        if returned is None or self._open.get(pid):
            return None
        return self._call(pid, _name(returned[1]), returned[2].split(b","), returned[3], time)

    def _who(self, pid: bytes) -> tuple[bytes, bytes]:
        process = pid if pid in self._processes else self._first
        assert process is not None
        return (process, pid)

    def _call(self, pid: bytes, name: bytes, arguments: list[bytes], result: bytes, time: int) -> Call | None:
        """A call from its beginning to its end."""
        if name == b"posix_memalign":
            self._unseen += 1
        elif allocates(name):
            return call_of(name, arguments, pointer(result), self._who(pid), time)
        elif releases(name):
            return call_of(name, arguments, 0, self._who(pid), time)
        return None

    def _begun(self, pid: bytes, name: bytes, arguments: list[bytes], time: int) -> Call | None:
        calls = self._open.setdefault(pid, [])
        if not (allocates(name) or releases(name)):
            return None
        calls.append((name, arguments))
        if len(calls) > 1 or name == b"posix_memalign":
            return None
        if releases(name):
            return call_of(name, arguments, 0, self._who(pid), time)
        call = call_of(name, arguments, 0, self._who(pid), time)
        if call and call[0] == REALLOC:
            return (REALLOC_BEGIN, self._who(pid), call[4], 0, 0, time)
        return None

    def _resumed(self, pid: bytes, name: bytes, rest: bytes, result: bytes, time: int) -> Call | None:
        if name in _FORKS and result.strip() == b"0":
            self._processes.add(pid)
            return (BEGIN, self._who(pid), 0, 0, 0, time)
        calls = self._open.get(pid)
        if not calls or calls[-1][0] != name:
            return None
        name, arguments = calls.pop()
        if calls or releases(name):
            return None
        if name == b"posix_memalign":
            self._unseen += 1
            return None
        call = call_of(name, arguments, pointer(result), self._who(pid), time)
        if call and call[0] == REALLOC:
            return (REALLOC_END, self._who(pid), call[2], call[3], 0, time)
        return call

    def _passed(self, pid: bytes, text: bytes, time: int) -> Call | None:
        """The thread passes into another program, or ends."""
        self._open.pop(pid, None)
        if text.startswith(b"--- "):
            self._processes.add(pid)
            return (EXEC, self._who(pid), 0, 0, 0, time)
        if text.startswith((b"+++ exited", b"+++ killed")):
            return (EXIT if pid in self._processes else THREAD_EXIT, self._who(pid), 0, 0, 0, time)
        return None

    def _time(self, found: re.Match[bytes]) -> int:
        """Nanoseconds by whatever clock the line has; 0 without."""
        if found[3] is not None:
            seconds = (int(found[3]) * 60 + int(found[4])) * 60 + int(found[5])
            return seconds * 10**9 + int((found[6] or b"0").ljust(9, b"0"))
        if found[7] is None:
            return 0
        nanoseconds = int(found[7]) * 10**9 + int(found[8].ljust(9, b"0"))
        if int(found[7]) >= _EPOCH:
            return nanoseconds
        self._clock += nanoseconds
        return self._clock

    def remarks(self) -> Iterator[str]:
        if self._unseen:
            yield f"lacks the blocks of {self._unseen} calls of posix_memalign, which ltrace does not print"


def _name(text: bytes) -> bytes:
    """The function's name, without the library that has it."""
    return text.partition(b"@")[0]
