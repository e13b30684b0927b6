"""An end to what may go on for ever: a limit of memory references, and one of seconds."""

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from heaplab.errors import OutOfFuel
from heaplab.process import Process

#: references that one step on a heap may make: far more than a design needs for a heap of some hundred blocks
MOST_MEMS: Final = 1_000_000
#: the same for a heap of some tens of blocks: shrinking plays a step without an end often
FEW_MEMS: Final = 100_000
#: seconds of the clock on the wall that one step may take
MOST_SECONDS: Final = 30.0
#: the same while a failure is made minimal, which plays a step without an end often
FEW_SECONDS: Final = 0.5


@contextmanager
def limited(
    process: Process, what: object, mems: int = MOST_MEMS, seconds: float = MOST_SECONDS
) -> Iterator[None]:
    """Let the block make so many references through `process`, and take so many seconds.

    A loop that touches memory ends at the same reference every time, in Python and in C.  A loop in Python
    that does not ends by the clock (SIGALRM, so only in the main thread; an alarm that was set before is set
    again).  No signal handler reaches a loop in C without a reference.

    Raises: AssertionError, which names `what` and the limit.

    >>> from heaplab.kernel import Kernel
    >>> process = Kernel(ram="1 MiB", seed=1).init.fork()
    >>> p = process.sbrk(4096)
    >>> with limited(process, "free 3", mems=1000):
    ...     while process.load64(p) == 0:
    ...         pass
    Traceback (most recent call last):
    AssertionError: free 3: no end after 1,000 memory references
    """
    context = process.context
    context.fuel = mems
    try:
        with _clock(what, seconds):
            yield
    except OutOfFuel:
        raise AssertionError(f"{what}: no end after {mems:,} memory references") from None
    finally:
        context.fuel = None


def starved(pid: int | None = None) -> float:
    """Return how many seconds a process was ready to run while others ran, on its first thread.

    pid: None is this process.  0 where Linux does not say.
    Source: Linux, Documentation/scheduler/sched-stats.rst.
    """
    try:
        return int(Path(f"/proc/{pid or 'self'}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


@contextmanager
def progress_demanded(done: Callable[[], int], within: str, seconds: float) -> Iterator[None]:
    """Let the block go on for as long as `done()`, asked every so many seconds, has grown since.

    By the clock on the wall (SIGALRM), like `limited`, and with its bounds, but without the time that this
    process waited for a processor (`starved`).  within: a function's name; the error is raised inside of it
    alone, where it is expected.
    Raises: TimeoutError.
    """
    seen, since = done(), time.monotonic() - starved()

    def look(number: int, frame: FrameType | None) -> None:
        nonlocal seen, since
        now, own = done(), time.monotonic() - starved()
        if now != seen:
            seen, since = now, own
        elif own - since >= 0.9 * seconds and any(
            each.f_code.co_name == within for each, _ in traceback.walk_stack(frame)
        ):
            raise TimeoutError(f"no end after {seconds:g} s")

    with _alarm(look, seconds, seconds):
        yield


@contextmanager
def _clock(what: object, seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError(f"{what}: no end after {seconds:g} s")

    with _alarm(ring, seconds):
        yield


@contextmanager
def _alarm(ring: Callable[[int, FrameType | None], None], seconds: float, again: float = 0) -> Iterator[None]:
    """Have `ring` called after so many seconds of the block, and then every `again` seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGALRM, ring)
    before, _ = signal.setitimer(signal.ITIMER_REAL, seconds, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, before)
        signal.signal(signal.SIGALRM, handler)
