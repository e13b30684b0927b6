"""Ends this process when a replay in it makes no progress any more.

A thread looks now and then at what the replay is doing.  Calls into C let other threads run, and Python
switches between them by itself, so the thread gets its turn whatever an allocator does.  The one exception is
an allocator in Python that stays within one long operation of the interpreter (10**10**10): faulthandler ends
that process, and leaves a text with TIMEOUT in it.  The thread winds it up again at every look.
"""

import faulthandler
import os
import threading
import time
from collections.abc import Callable

from heaplab.lab.replay import Replay

#: what faulthandler writes to standard error
TIMEOUT = "Timeout ("
#: seconds between two looks, at most
_LOOK_EVERY = 0.25
#: status of a process that was ended
STATUS = 9


class Watchdog:
    """A thread that watches a replay until `end`.

    seconds: that one event, or one walk over the heaps, may take.  busy: held by the thread of the replay
    while it waits for the parent; that time does not count.  tell: called, while `busy` is held, with where
    the replay stood and the number of events done, before the process ends.
    """

    def __init__(self, seconds: float, busy: threading.Lock, tell: Callable[[str, int], None]) -> None:
        self._seconds = seconds
        self._busy = busy
        self._tell = tell
        self._replay: Replay | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def watch(self, replay: Replay) -> None:
        """Watch this replay from now on."""
        self._replay = replay

    def end(self) -> None:
        """Watch no longer."""
        self._over.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _look(self) -> None:
        seen: tuple[int, str] | None = None
        since, mems = 0.0, 0
        while True:
            faulthandler.dump_traceback_later(2 * self._seconds + 1, exit=True)
            if self._over.wait(min(_LOOK_EVERY, self._seconds / 4)):
                return
            replay, now = self._replay, time.monotonic()
            if replay is None:
                continue
            stands = (replay.done, replay.doing)
            if stands != seen:
                seen, since, mems = stands, now, replay.mems()
            elif now - since >= self._seconds:
                if not self._busy.acquire(blocking=False):
                    since = now
                    continue
                made = replay.mems() - mems
                after = f"and {made:,} memory references" if made else "without a memory reference"
                self._tell(f"{replay.where()}: no end after {self._seconds:g} s {after}", replay.done)
                os._exit(STATUS)
