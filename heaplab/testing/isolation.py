"""Work in a child process: a design that crashes it, or loops in it, costs one answer.

A `Child` is a fork of this process, so that the work may be any function, also of classes that no other
process could import.  It answers one question after another.  While it works it notes in shared memory how
far it is.  When the notes stand still for too long the child is killed; the next question goes to a new one.
"""

import ctypes
import faulthandler
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Self

from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.failure import NO_END, Failure, Seen, seen_on
from heaplab.testing.limits import starved
from heaplab.testing.steps import KINDS, Step
from heaplab.testing.trials import Note, Trial

#: steps of a script that a journal has room for
MOST_STEPS: Final = 100_000
#: a clock within the child ends most loops by itself, and knows more to tell: it gets this much longer
_GRACE: Final = 0.3
#: seconds that a child has to start, and to read a question: nothing of a design runs
_READING: Final = 60.0
#: seconds between two looks at the notes, at most
_LOOK_EVERY: Final = 0.25
_PR_SET_PDEATHSIG: Final = 1  # Linux, include/uapi/linux/prctl.h

_HEAD: Final = struct.Struct("=QQQ")
_RECORD: Final = struct.Struct("=7Q")
_KINDS: Final = tuple(KINDS.values())
_NAMES: Final = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS}
_VALUES: Final = {kind: attrgetter(*names) for kind, names in _NAMES.items()}
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}


class Journal:
    """How far a child is, in memory that its parent sees, whatever becomes of the child.

    at: of the steps, how many have begun.  beats: how many notes there were.

    >>> from heaplab.testing.steps import Aligned
    >>> journal = Journal()
    >>> journal.append(Aligned(0, 64, 100, process=2))
    >>> journal.note(1)
    >>> print(*journal.steps(), journal.at)
    aligned 0 100 64 (process 2, thread 0) 1
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _HEAD.size + MOST_STEPS * _RECORD.size)
        self._written = 0
        self._beats = 0

    @property
    def at(self) -> int:
        """Steps that have begun."""
        return int(_HEAD.unpack_from(self._shared)[0])

    @property
    def beats(self) -> int:
        """Notes so far."""
        return int(_HEAD.unpack_from(self._shared)[1])

    def note(self, at: int) -> None:
        """Note that so many steps have begun."""
        self._beats += 1
        _HEAD.pack_into(self._shared, 0, at, self._beats, self._written)

    def append(self, step: Step) -> None:
        """Write down a step of the script; those above MOST_STEPS are not."""
        if self._written == MOST_STEPS:
            return
        kind = type(step)
        values = _VALUES[kind](step)
        record = (_NUMBERS[kind], *values, *(0,) * (6 - len(values)))
        _RECORD.pack_into(self._shared, _HEAD.size + self._written * _RECORD.size, *record)
        self._written += 1

    def steps(self) -> list[Step]:
        """Return the script as it was at the last note."""
        written = _HEAD.unpack_from(self._shared)[2]
        return [self._step(number) for number in range(written)]

    def _step(self, number: int) -> Step:
        kind, *values = _RECORD.unpack_from(self._shared, _HEAD.size + number * _RECORD.size)
        made: Step = _KINDS[kind](**dict(zip(_NAMES[_KINDS[kind]], values, strict=False)))
        return made

    def begin(self) -> None:
        """Forget the script."""
        self._written = 0
        self._beats = self.beats  # the other side has counted too
        self.note(0)


@dataclass(frozen=True)
class Lost:
    """What became of a child that gave no answer.

    at: how many steps had begun.  why: a sentence.  hung: whether it was killed because nothing went on.
    """

    at: int
    why: str
    hung: bool

    def failure(self, steps: Sequence[Step]) -> Failure:
        """Return it as the failure of the step that the child was at."""
        begun = tuple(steps[: self.at])
        last = str(begun[-1]) if begun else "the start"
        return Failure(begun, NO_END if self.hung else self.why, f"{last}: {self.why}")


Work = Callable[[Any, Journal], Any]


class Child:
    """A process that carries out `work(question, journal)`; use it in a `with`, whose end ends it.

    seconds: that may pass between two notes.  What a question and its answer are must be something that can
    be pickled.  What work remembers is lost with a child that is lost.

    >>> with Child(lambda number, journal: 100 // number, seconds=5) as child:
    ...     child.ask(4)
    25
    >>> with Child(lambda signal, journal: os.kill(os.getpid(), signal), seconds=5) as child:
    ...     child.ask(11)
    Lost(at=0, why='its process was ended by SIGSEGV', hung=False)
    """

    def __init__(self, work: Work, seconds: float) -> None:
        self.journal = Journal()
        self._work = work
        self._seconds = seconds
        self._pid = 0
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, question: Any) -> Any:
        """Return the answer, or the `Lost` that the child became; raise what the work raised."""
        if self._connection is None:
            self._connection = self._start()
        self.journal.begin()
        begun = self.journal.beats
        try:
            self._connection.send(question)
            if not self._wait(self._connection, begun):
                at = self.journal.at
                self._end()
                return Lost(at, f"{NO_END} after {self._seconds:g} s", True)
            raised, answer = self._connection.recv()
        except (EOFError, ConnectionError):
            return self._buried()
        if raised:
            raise answer
        return answer

    def _wait(self, connection: Connection, begun: int) -> bool:
        """Wait for an answer, or the end of the child; False when nothing goes on any more.

        begun: the beats before the child had the question.  While the child waits for a processor, time
        does not count: on a busy computer a sound design is slow, and not hung.
        """
        beats, since = begun, self._clock()
        look = min(_LOOK_EVERY, self._seconds / 4)
        while not connection.poll(look):
            now = self._clock()
            allowed = _READING if beats == begun else self._seconds + _GRACE
            if (seen := self.journal.beats) != beats:
                beats, since = seen, now
            elif now - since >= allowed:
                return False
        return True

    def _clock(self) -> float:
        return time.monotonic() - starved(self._pid)

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        sys.stdout.flush()
        self._pid = os.fork()
        if not self._pid:
            try:
                ours.close()
                self._serve(theirs)
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 1)
            finally:
                os._exit(1)
        theirs.close()
        return ours

    def _serve(self, connection: Connection) -> None:
        """The child's life."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a loop must not outlive its parent
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(EOFError, ConnectionError):  # the parent needs no more
            while True:
                question = connection.recv()
                self.journal.begin()
                connection.send(self._answer(question))

    def _answer(self, question: Any) -> tuple[bool, Any]:
        try:
            return False, self._work(question, self.journal)
        except Exception as error:
            with suppress(Exception):  # some exceptions take more than their text to be made again
                pickle.loads(pickle.dumps(error))
                return True, error
            return True, RuntimeError(traceback.format_exc())

    def _buried(self) -> Lost:
        at = self.journal.at
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        self._end()
        code = os.waitstatus_to_exitcode(status)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return Lost(at, f"its process {how}", False)

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def once(work: Callable[[Note], Any], seconds: float) -> Any:
    """Return what `work(note)` returns in a process of its own, or the `Lost` that this process became.

    >>> once(lambda note: sum(range(10)), seconds=5)
    45
    """
    with Child(lambda _, journal: work(journal.note), seconds) as child:
        return child.ask(None)


class Apart:
    """A trial whose steps are played in a process of their own; use it in a `with`.

    seconds: that one step may take.

    >>> from heaplab.testing.checked_heap import CheckedHeap
    >>> from heaplab.testing.steps import Malloc
    >>> from heaplab.testing.trials import played
    >>> with Apart(played(lambda: CheckedHeap("freelist")), seconds=5) as trial:
    ...     trial([Malloc(0, 100)]) is None
    True
    """

    def __init__(self, trial: Trial, seconds: float) -> None:
        def work(steps: Sequence[Step], journal: Journal) -> tuple[int, str, str, str] | None:
            failure = trial(steps, journal.note)
            if failure is None:
                return None
            return (
                len(failure.steps),
                failure.kind,
                failure.sentence,
                failure.place,
            )  # the parent has the steps

        self._child = Child(work, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.__exit__(None, None, None)

    def __call__(self, steps: Sequence[Step], note: Note = lambda at: None) -> Failure | None:
        answer = self._child.ask(steps)
        if answer is None:
            return None
        if isinstance(answer, Lost):
            return answer.failure(steps)
        at, kind, sentence, place = answer
        return Failure(tuple(steps[:at]), kind, sentence, place)


def seen_apart(fresh: Callable[[], CheckedHeap], seconds: float) -> Seen:
    """Return what carries steps out in a process of its own, and draws the heap there."""

    def apart(steps: Sequence[Step], process: int) -> list[str]:
        def seen(note: Note) -> list[str]:
            heap = fresh()
            heap.note = note
            return seen_on(lambda: heap)(steps, process)

        answer = once(seen, seconds)
        return [f"nothing can be seen: {answer.why}"] if isinstance(answer, Lost) else answer

    return apart
