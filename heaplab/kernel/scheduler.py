"""The scheduler: programs take turns, one call at a time; a call that has to wait, waits.

A step makes one pending call, or starts one handler.  Which thread makes the next step is a choice, and all
chance there is: the same choices give the same run.

    threads that can go on    their call would not sleep, or a signal interrupts it
    asleep                    state S: what they wait for has not happened (WouldBlock.ready)
    D, T                      asleep in vfork; stopped
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

from heaplab.abi import SA_RESTART, SIG_SETMASK
from heaplab.errors import ProcessDied, UsageError, WouldBlock
from heaplab.kernel import signals
from heaplab.kernel.elf import make_elf
from heaplab.kernel.kernel import Kernel
from heaplab.kernel.program import Call, Calls, Caught, Execution, Program, Result, method
from heaplab.kernel.task import Task
from heaplab.process import Process

__all__ = ["Calls", "Outcome", "Scheduler", "Thread", "run"]


class Outcome(NamedTuple):
    """What a run came to: what was written to the console, the first program's status, who sleeps forever."""

    output: str
    status: int | None
    asleep: tuple[str, ...] = ()


class Thread:
    """A task with its program.

    path        which it is, whatever its pid: the steps of its ancestors at which each was made
    is_thread   its end is not the process's: spawn_thread made it
    steps       it has made
    blocked     why its pending call sleeps
    interrupted a handler ran while it slept: the call fails with EINTR
    interruptions   what `interrupted` will be when the handlers that run now return
    """

    def __init__(
        self, task: Task, process: Process, execution: Execution, path: tuple[int, ...], *, is_thread: bool
    ) -> None:
        self.task = task
        self.process = process
        self.execution = execution
        self.path = path
        self.is_thread = is_thread
        self.steps = 0
        self.blocked: WouldBlock | None = None
        self.interrupted = False
        self.interruptions: list[bool] = []
        task.scheduled = True

    @property
    def can_go_on(self) -> bool:
        """Whether a step of it would do something."""
        task = self.task
        if not task.may_run:
            return False
        return self.blocked is None or self.blocked.ready() or signals.has_caught(task)


#: choose one of the threads that can go on, given in the order of their birth
Choose = Callable[[Sequence[Thread]], Thread]


class Scheduler:
    """Runs programs on a kernel.

    kernel: on which; without it one of its own.  seed: of the choices; choose: instead of chance.

    >>> def main(sys):
    ...     child = yield sys.fork()
    ...     if child == 0:
    ...         yield sys.write(1, "child ")
    ...         yield sys.exit(3)
    ...     pid, status = yield sys.wait()
    ...     yield sys.write(1, f"parent: {status >> 8}")
    ...     yield sys.exit(0)
    >>> Scheduler(seed=1).run(main)
    Outcome(output='child parent: 3', status=0, asleep=())
    """

    def __init__(self, kernel: Kernel | None = None, *, seed: int = 0, choose: Choose | None = None) -> None:
        self.kernel = kernel if kernel is not None else Kernel(ram="4 MiB", seed=seed)
        self.threads: list[Thread] = []
        self._choose = choose or random.Random(seed).choice
        self._started = 0
        self._programs: dict[str, Program] = {}

    def install(self, path: str, program: Program, *, data: bytes = b"", bss: int = 0) -> None:
        """Put a program into a file, so that it can be exec'ed; its arguments are the strings of argv.

        data, bss: of the file, as in make_elf.
        """
        self.kernel.write_file(path, make_elf(data=data, bss=bss, page_size=self.kernel.machine.page_size))
        self._programs[path] = program

    def start(self, program: Program, *args: object) -> Process:
        """Make a process that runs a program, a child of pid 1; return its handle."""
        process = self.kernel.init.fork()
        name = f"/bin/{getattr(program, '__name__', 'program')}"
        if name not in self.kernel.system.files:
            self.install(name, program)
        process.execve(name, [name])
        self._started += 1
        self._add(process.tid, Execution(program, args), (self._started,))
        return process

    def run(self, program: Program | None = None, *args: object, most_steps: int = 100_000) -> Outcome:
        """Start a program, if one is given, and run all until nobody can go on.

        Raises: UsageError after `most_steps` steps.
        """
        first = self.kernel.task(self.start(program, *args).pid).group if program is not None else None
        for _ in range(most_steps):
            if not self.step():
                break
        else:
            raise UsageError(f"the programs still run after {most_steps} steps: pass most_steps for more")
        status = first.exit_code if first is not None and not first.living else None
        asleep = tuple(
            f"{thread.execution.name}({thread.task.pid}): {thread.execution.pending}"
            for thread in self.threads
        )
        return Outcome(self.kernel.console.output.decode(errors="replace"), status, asleep)

    def step(self) -> bool:
        """Let one thread make a step; False when none can."""
        ready = [thread for thread in self.threads if thread.can_go_on]
        if not ready:
            return False
        thread = self._choose(ready)
        thread.steps += 1
        self._step(thread)
        self._bury()
        return True

    # one step

    def _step(self, thread: Thread) -> None:
        # what a call slept for is looked at first: then it does not matter that a signal came too
        woken = thread.blocked is not None and thread.blocked.ready()
        caught = signals.caught(thread.task) if not woken else None
        if caught is not None:
            info, action = caught
            handler = cast(Program, action.handler)
            restarted = action.flags & SA_RESTART and thread.execution.pending != Call("pause")
            thread.interruptions.append(thread.blocked is not None and not restarted)
            thread.interrupted = False
            thread.blocked, thread.task.waiting = None, False
            before = frozenset(thread.task.blocked)
            thread.task.blocked |= signals.handler_mask(info, action)
            self._unblock(thread, thread.execution.interrupt(Caught(handler, info, before)))
            return
        if thread.task.mm is None:
            return
        call = thread.execution.pending
        try:
            if call is None:
                _return(thread)
                return
            result = self._make(thread, call)
        except WouldBlock as sleep:
            thread.blocked = sleep
            thread.task.waiting = True
            return
        except ProcessDied:
            return
        except InterruptedError as error:
            if not thread.interrupted or call is None:
                return  # an access that faulted: its handler runs next, and then it is made again
            thread.interrupted = False
            result = Result(call, None, error)
        except OSError as error:
            assert call is not None
            result = Result(call, None, error)
        thread.blocked, thread.task.waiting = None, False
        if thread.task.mm is not None and (call.name != "execve" or result.error is not None):
            self._unblock(thread, thread.execution.resume(result))

    def _unblock(self, thread: Thread, blocked: frozenset[int] | None) -> None:
        """If a handler has returned: block what was blocked before, go on with what it interrupted."""
        if blocked is not None:
            thread.interrupted = thread.interruptions.pop()
            signals.sigprocmask(thread.task, SIG_SETMASK, blocked)

    def _make(self, thread: Thread, call: Call) -> Result:
        """Make a call.  Raises: OSError, WouldBlock, ProcessDied."""
        if thread.interrupted:
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
        process, path = thread.process, (*thread.path, thread.steps)
        args, options = call.args, dict(call.options)
        if call.name in ("fork", "vfork"):
            copy = thread.execution.fork()
            child = getattr(process, call.name)()
            thread_of_child = self._add(child.tid, copy, path)
            thread_of_child.interruptions = list(thread.interruptions)
            self._unblock(thread_of_child, copy.resume(Result(call, 0)))
            return Result(call, child.pid)
        if call.name == "spawn_thread":
            function, *given = args
            execution = Execution(function, tuple(given))
            created = process.spawn_thread(**options)
            self._add(created.tid, execution, path, is_thread=True)
            return Result(call, created.tid)
        if call.name == "execve":
            self._exec(thread, *args, **options)
            return Result(call, None)
        if call.name in ("write", "poke") and isinstance(args[-1], str):
            args = (*args[:-1], args[-1].encode())
        return Result(call, getattr(process, method(call))(*args, **options))

    def _exec(
        self, thread: Thread, path: str, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> None:
        """Make the call, and go on with the program that the file stands for."""
        if path in self.kernel.system.files and path not in self._programs:
            raise UsageError(
                f"execve of {path}: no program was installed there, and machine code is not run: "
                "call Scheduler.install first"
            )
        thread.process.execve(path, argv, env)
        if thread.task.mm is not None:
            thread.execution.close()
            thread.execution = Execution(self._programs[path], tuple(argv))
            thread.is_thread, thread.interruptions = False, []

    # threads come and go

    def _add(
        self, tid: int, execution: Execution, path: tuple[int, ...], *, is_thread: bool = False
    ) -> Thread:
        thread = Thread(self.kernel.task(tid), self.kernel.process(tid), execution, path, is_thread=is_thread)
        self.threads.append(thread)
        return thread

    def _bury(self) -> None:
        """Close the programs of tasks that have died."""
        for thread in self.threads:
            if thread.task.mm is None:
                thread.execution.close()
        self.threads = [thread for thread in self.threads if thread.task.mm is not None]


def _return(thread: Thread) -> None:
    """Return from the function that the thread began with: of one that spawn_thread made, into its exit.

    The program's first function was called by nobody, so there is no address to return to: ret pops what
    lies there, which is argc, and the CPU fetches its next instruction from that address (rule 50).
    """
    process = thread.process
    if thread.is_thread:
        process.exit_thread(0)
    else:
        process.load(process.load64(process.stack), 1)


def run(program: Program, *args: object, seed: int = 0) -> Outcome:
    """Run a program on a kernel of its own, in one of its interleavings; see `explore` for all of them."""
    return Scheduler(seed=seed).run(program, *args)
