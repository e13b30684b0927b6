"""Programs: generator functions that yield system calls and are sent their results.

    def main(sys):
        child = yield sys.fork()
        if child == 0:
            yield sys.write(1, "child\\n")
            yield sys.exit(3)
        pid, status = yield sys.wait()
        yield sys.write(1, "parent\\n")
        yield sys.exit(0)

`sys` has every call and every access of heaplab.process.Process; a call that fails raises its OSError at the
yield.  fork returns twice.  A generator cannot be copied, so its copy is made by running the function again
and sending it the results that the original got; which demands that a program is a deterministic function
of its results: no clock, no chance, no variable outside of it that changes.  Where a copy yields other calls
than the original did, it is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from heaplab.abi import SigInfo
from heaplab.errors import UsageError
from heaplab.process import Process

#: a program: called with `sys` and its arguments, it yields calls
Program = Callable[..., Generator["Call", Any, Any]]


class Call(NamedTuple):
    """A system call or an access that a program wants made."""

    name: str
    args: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        given = [repr(arg) for arg in self.args] + [f"{name}={value!r}" for name, value in self.options]
        return f"{self.name}({', '.join(given)})"


#: names as programs know them -> as a Process has them, where they differ
_METHOD = {"read": "read_fd", "write": "write_fd", "peek": "read", "poke": "write"}
_NOT_CALLS = {"syscall"}
_CALLS = {
    name
    for name, member in vars(Process).items()
    if callable(member) and not name.startswith("_") and name not in _NOT_CALLS
} | {"load64", "store64", "load", "store", "copy", "fill", "peek", "poke", "read", "write"}


def method(call: Call) -> str:
    """Return the name of the method of Process that makes a call."""
    return _METHOD.get(call.name, call.name)


class Calls:
    """What a program calls: `sys.NAME(...)` is a Call to yield, for NAME of Process.

    read and write are those of descriptors; memory is read and written by peek and poke.

    >>> str(Calls().kill(7, 9))
    'kill(7, 9)'
    """

    def __getattr__(self, name: str) -> Callable[..., Call]:
        if name not in _CALLS:
            near = difflib.get_close_matches(name, _CALLS, 1)
            raise UsageError(
                f"sys.{name}: there is no such call" + (f", did you mean sys.{near[0]}?" if near else "")
            )
        return lambda *args, **options: Call(name, args, tuple(options.items()))


def _alike(one: Call, other: Call) -> bool:
    """Whether two calls are the same; each run makes inner functions anew, so these are if their code is."""

    def plain(call: Call) -> list[object]:
        values = (call.name, *call.args, *(part for option in call.options for part in option))
        return [getattr(value, "__code__", value) for value in values]

    return plain(one) == plain(other)


class Result(NamedTuple):
    """What a program was told: the value of a call, or the exception it raised."""

    call: Call
    value: Any
    error: OSError | None = None


class Caught(NamedTuple):
    """A signal whose handler was started; it gets the signal's number and its SigInfo.

    blocked: what was blocked before, and is again when the handler returns.
    """

    handler: Program
    info: SigInfo
    blocked: frozenset[int]


class _Frame(NamedTuple):
    """A function that runs: the program, or a handler on top of what it interrupted."""

    generator: Generator[Call, Any, Any]
    interrupted: Call | None
    blocked: frozenset[int]


class Execution:
    """One thread of a program: its generators, and all that they were told since the start.

    pending    the call it wants made next; None: it has returned
    """

    def __init__(self, function: Program, args: tuple[Any, ...] = ()) -> None:
        self.function = function
        self.args = args
        self.history: list[Result | Caught] = []
        self.pending: Call | None = None
        self._frames: list[_Frame] = []
        self._begin(function, args, None, frozenset())

    @property
    def name(self) -> str:
        """What its author calls it."""
        return getattr(self.function, "__name__", repr(self.function))

    def _begin(
        self, function: Program, args: tuple[Any, ...], interrupted: Call | None, blocked: frozenset[int]
    ) -> None:
        generator = function(Calls(), *args)
        if not isinstance(generator, Generator):
            raise UsageError(
                f"program {self.name}: it is no generator function: make it yield its calls, as in "
                "`pid = yield sys.fork()`"
            )
        self._frames.append(_Frame(generator, interrupted, blocked))
        self._go_on(None, None)

    def resume(self, result: Result) -> frozenset[int] | None:
        """Tell the program a result; return what is blocked from now on, if a handler returned."""
        self.history.append(result)
        return self._go_on(result.value, result.error)

    def interrupt(self, caught: Caught) -> frozenset[int] | None:
        """Start a handler; the call that was to be made waits until it returns.  Returns: as resume."""
        self.history.append(caught)
        depth = len(self._frames)
        self._begin(caught.handler, (caught.info.signo, caught.info), self.pending, caught.blocked)
        return caught.blocked if len(self._frames) == depth else None

    def _go_on(self, value: Any, error: OSError | None) -> frozenset[int] | None:
        """Run on to the next call."""
        frame = self._frames[-1]
        try:
            if error is not None:
                # a new one each time: a traceback must not tie a program to its copies
                call = frame.generator.throw(type(error)(*error.args))
            else:
                call = frame.generator.send(value)
        except StopIteration:
            self._frames.pop()
            self.pending = frame.interrupted
            return frame.blocked if self._frames else None
        if not isinstance(call, Call):
            raise UsageError(f"program {self.name}: it yields {call!r}, which is no call of sys")
        self.pending = call
        return None

    def fork(self) -> Execution:
        """Return a copy, made by telling the function again what it was told."""
        copy = Execution(self.function, self.args)
        for event in self.history:
            if isinstance(event, Caught):
                copy.interrupt(event)
            else:
                if copy.pending is None or not _alike(copy.pending, event.call):
                    raise UsageError(
                        f"program {self.name}: run again with the same results it calls {copy.pending} "
                        f"instead of {event.call}: make it depend on nothing but the results of its calls"
                    )
                copy.resume(event)
        return copy

    def close(self) -> None:
        """End it where it stands; what it has in `finally` does not run calls."""
        for frame in reversed(self._frames):
            try:
                frame.generator.close()
            except RuntimeError:  # it yielded once more
                continue
        self._frames.clear()
        self.pending = None
