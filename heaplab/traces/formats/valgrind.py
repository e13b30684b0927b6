"""What valgrind prints with --trace-malloc=yes.

    --PID-- malloc(100) = 0x1000               --PID-- memalign(al 64, size 50) = 0x1000
    --PID-- calloc(3,7) = 0x1000               --PID-- _ZnwmSt11align_val_t(size 128, al 128) = 0x1000
    --PID-- realloc(0x1000,300) = 0x2000       --PID-- realloc(0x0,10)malloc(10) = 0x1000
    --PID-- free(0x2000)                       --PID-- realloc(0x1000,0)free(0x1000)

Other lines are valgrind's and the program's own.  `==PID== Command:` begins a program.  With --time-stamp=yes
the time since the start stands in front of PID, in milliseconds.
"""

import re
from collections.abc import Hashable

from heaplab.traces.calls import EXEC, Call
from heaplab.traces.formats.base import Format
from heaplab.traces.formats.c_calls import allocates, call_of, pointer, releases

_WHO = rb"(?:(\d\d):(\d\d):(\d\d):(\d\d)\.(\d{3}) )?(\d+)"
_CALL = re.compile(
    rb"--" + _WHO + rb"-- (?:realloc\(0x0,\d+\)|realloc\(0x[0-9a-fA-F]+,0\)(?=free))?(\w+)\(([^()]*)\)"
    rb"(?: = (0x[0-9a-fA-F]+))?\s*"
)
_COMMAND = re.compile(rb"==" + _WHO + rb"== Command: ")
_START = re.compile(rb"^(--|==)" + _WHO + rb"(-- \w+\([^()]*\)|== (Memcheck|Command|Using Valgrind))", re.M)


class Valgrind(Format):
    """The grammar of valgrind's malloc traces."""

    name = "valgrind"
    shape = "of valgrind's --trace-malloc=yes"
    start = _START
    lost = "it tells no threads"

    def process_of(self, who: Hashable) -> Hashable:
        return who

    def parse(self, piece: bytes) -> Call | None:
        found = _CALL.match(piece)
        if found is None:
            command = _COMMAND.match(piece)
            return command and (EXEC, command[6], 0, 0, 0, _time(command))
        name, result = found[7], found[9]
        if not (releases(name) or allocates(name)):
            return None
        if found.end() != len(piece) or (result is None) == allocates(name):
            raise ValueError
        arguments = [_unlabelled(word) for word in found[8].split(b",")]
        return call_of(name, arguments, pointer(result or b"0"), found[6], _time(found))


def _unlabelled(argument: bytes) -> bytes:
    """`64` of `al 64`."""
    return argument.split()[-1]


def _time(found: re.Match[bytes]) -> int:
    """Nanoseconds since valgrind began, 0 if the line has no time."""
    if found[1] is None:
        return 0
    days, hours, minutes, seconds, milliseconds = map(int, found.group(1, 2, 3, 4, 5))
    return ((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + milliseconds) * 10**6
