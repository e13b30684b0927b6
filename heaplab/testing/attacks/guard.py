"""Calls that may never end, or take the laboratory down, made in a process of the host's own.

A timer of processor time ends the process, so a busy host never makes a slow call look like an endless one.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NoReturn

from heaplab.testing.attacks.judge import Outcome

#: seconds of processor time after which a call counts as one that never ends
LIMIT: Final = 0.2

_OUTCOMES: Final = tuple(Outcome)


def guarded(calls: Sequence[Callable[[], Outcome]]) -> Iterator[Outcome]:
    """Yield what each call returns; HANG for one that does not end, ERROR for one that kills its process.

    The calls see this process's memory as it is now, and change nothing in it.
    Raises: RuntimeError when a call raises, its traceback on standard error.
    """
    done = 0
    while done < len(calls):
        source, sink = os.pipe()
        worker = os.fork()
        if not worker:
            os.close(source)
            _work(calls[done:], sink)
        os.close(sink)
        with os.fdopen(source, "rb") as answers:
            while answer := answers.read(1):
                yield _OUTCOMES[answer[0]]
                done += 1
        status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        if status < 0:
            yield Outcome.HANG if status == -signal.SIGVTALRM else Outcome.ERROR
            done += 1
        elif status:
            raise RuntimeError("a guarded call raised: its traceback stands above")


def _work(calls: Sequence[Callable[[], Outcome]], sink: int) -> NoReturn:
    """Make the calls and write a byte for what each returns; never return."""
    status = 1
    try:
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
        for call in calls:
            signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
            os.write(sink, bytes([_OUTCOMES.index(call())]))
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    os._exit(status)
