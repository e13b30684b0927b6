"""A tree of agent processes (csrc/conform/agent.c) on the real kernel, in a pid namespace of its own."""

import errno
import mmap
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from elftools.elf.elffile import ELFFile

from heaplab._core import ffi, lib
from heaplab.abi import PR_SET_NAME, Sys
from heaplab.errors import UsageError

#: seconds after which a call that has not come back is said to sleep
PATIENCE: Final = 5.0
#: where the agents' own memory starts and ends: slots, then one page of text
AGENT_START: Final = int(lib.AGENT_BASE)
AGENT_END: Final = int(lib.AGENT_END) + int(lib.AGENT_TEXT_SIZE)

_REGISTER: Final = (1 << 64) - 1
_SCRATCH: Final = int(ffi.offsetof("hl_agent_slot", "scratch"))
_DYING: Final = frozenset("ZX")
#: the agents belong to a user of their own, whose tasks nobody else counts
_FIRST_USER: Final = 1 << 28

# what the driver itself asks of pid 1: asm/unistd_64.h, linux/mount.h
_CLOSE, _FSOPEN, _FSCONFIG, _FSMOUNT = 3, 430, 431, 432
_FSCONFIG_CMD_CREATE: Final = 6
_SETRESUID, _SETRESGID, _PR_SET_PDEATHSIG = 117, 119, 1


def program() -> Path:
    """The agent, built with the package.  Raises: UsageError when it was not."""
    spec = find_spec("heaplab.testing.conform._agent")
    if spec is None or spec.origin is None:
        raise UsageError(
            "the agent was not built: run `pip install .`, or `setup.py build_ext --inplace`, on x86-64 Linux"
        )
    return Path(spec.origin)


@cache
def _section(name: str) -> bytes:
    with program().open("rb") as file:
        found = ELFFile(file).get_section_by_name(name)
        assert found is not None, f"the agent has no section {name}"
        return bytes(found.data())


def trampoline() -> bytes:
    """The code with which programs have to begin that agents exec."""
    return _section(".trampoline")


@cache
def _text() -> bytes:
    """The agent as it lies in memory, in its one page."""
    text = bytearray(int(lib.AGENT_TEXT_SIZE))
    with program().open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_LOAD"):
            at = segment["p_vaddr"] - int(lib.AGENT_END)
            text[at : at + segment["p_filesz"]] = segment.data()
    return bytes(text)


@contextmanager
def _without_cores() -> Iterator[None]:
    """Let programs that start meanwhile leave no cores: whether Linux makes one is the host's choice."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


class Stat(NamedTuple):
    """What /proc/PID/stat says of a task and its process."""

    comm: str
    state: str
    ppid: int
    pgid: int
    sid: int
    threads: int
    minflt: int
    cminflt: int


class TooManyTasks(UsageError):
    """There is no slot for one more agent."""


class Agents:
    """Tasks by their pids in the namespace; pid 1 is there from the start, and its end is everybody's.

    directory: where the agents are, for names of files.
    Whoever makes calls here must be bound to one CPU: the agents inherit it, and the two sides take turns.
    Raises: UsageError, with what the kernel refuses.
    """

    def __init__(self, directory: str = "/") -> None:
        slots_size = lib.AGENT_SLOTS * lib.AGENT_SLOT_SIZE
        size = slots_size + lib.AGENT_TEXT_SIZE
        slots = os.memfd_create("agents")
        try:
            os.ftruncate(slots, size)
            self._memory = mmap.mmap(slots, size)
            # in the page cache before anybody maps it
            self._memory[:] = bytes(slots_size) + _text()
            self._base = ffi.from_buffer(self._memory)
            self._slots = {1: 0}
            self._tgids = {1: 1}
            self._free = list(range(lib.AGENT_SLOTS - 2, 0, -1))  # the last one is for beginners
            self.slot(1).turn = lib.AGENT_AGENTS_TURN
            with _without_cores():
                self._launcher = subprocess.Popen(
                    [program()],
                    stdin=slots,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={},
                    cwd=directory,
                )
        finally:
            os.close(slots)
        self._proc = -1
        self._files: dict[tuple[int, str], int] = {}
        try:
            self._await_start()
            self._proc = self._mount_proc()
            self._become_ordinary()
        except BaseException:
            self.close()
            raise

    def _await_start(self) -> None:
        while lib.hl_agent_wait(self.slot(1), 10) or not self.slot(1).pid:
            if self._launcher.poll() is not None:
                assert self._launcher.stderr is not None
                said = self._launcher.stderr.read().decode().strip() or "the agent died at its start"
                raise UsageError(f"{said}: heaplab conform needs Linux and root, or CAP_SYS_ADMIN")

    def _mount_proc(self) -> int:
        """Return a descriptor of the namespace's own /proc, mounted nowhere (fsmount(2))."""
        context = self.call(1, _FSOPEN, self.put(1, b"proc\0"), 0)
        self.call(1, _FSCONFIG, context, _FSCONFIG_CMD_CREATE)
        mounted = self.call(1, _FSMOUNT, context)
        if mounted < 0:
            raise UsageError(f"no /proc can be mounted ({os.strerror(-mounted)}): heaplab conform needs root")
        proc = os.open(f"/proc/{self.slot(1).pid}/fd/{mounted}", os.O_RDONLY | os.O_DIRECTORY)
        self.call(1, _CLOSE, mounted)
        self.call(1, _CLOSE, context)
        return proc

    def _become_ordinary(self) -> None:
        """Let pid 1, and so all, be an ordinary user's, without capabilities; and have a name."""
        user = _FIRST_USER + self._launcher.pid
        for nr in (_SETRESGID, _SETRESUID):
            if self.call(1, nr, user, user, user):
                raise UsageError("the agents may not change their user: heaplab conform needs root")
        self.call(1, Sys.PRCTL, _PR_SET_PDEATHSIG, signal.SIGKILL)  # a new user loses it
        self.call(1, Sys.PRCTL, PR_SET_NAME, self.put(1, b"init\0"))

    def close(self) -> None:
        """End all agents: with pid 1 of a namespace all others go, and the launcher waits for it."""
        with suppress(ProcessLookupError):
            os.kill(self.slot(1).pid or self._launcher.pid, signal.SIGKILL)
        self._launcher.communicate()
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        if self._proc >= 0:
            os.close(self._proc)
            self._proc = -1

    # commands

    def slot(self, pid: int) -> Any:
        """The slot (struct hl_agent_slot) that a process serves."""
        return ffi.cast("hl_agent_slot *", self._base + self._slots[pid] * lib.AGENT_SLOT_SIZE)

    def tgid(self, pid: int) -> int:
        """Return the pid of the process that a task belongs to."""
        return self._tgids[pid]

    def scratch(self, pid: int) -> int:
        """Return the address, in every process, of the slot's memory for what calls read and write."""
        return AGENT_START + self._slots[pid] * int(lib.AGENT_SLOT_SIZE) + _SCRATCH

    def put(self, pid: int, data: bytes) -> int:
        """Put data into the slot's memory; return its address."""
        ffi.memmove(self.slot(pid).scratch, data, len(data))
        return self.scratch(pid)

    def call(self, pid: int, nr: int, *args: int) -> int:
        """Let a process make a system call that comes back; return its result, or a negative errno."""
        slot = self.command(pid, lib.AGENT_SYSCALL, nr, *args)
        while lib.hl_agent_run(slot, 1000) == -errno.EINTR:
            pass
        return int(slot.result)

    def command(self, pid: int, op: int, nr: int, *args: int) -> Any:
        """Write a command into a process's slot, and return the slot."""
        slot = self.slot(pid)
        slot.op = op
        slot.nr = nr
        for number in range(6):
            slot.args[number] = args[number] & _REGISTER if number < len(args) else 0
        return slot

    def run(self, pid: int, slot: Any) -> str:
        """Let a task do the command in its slot.

        Returns: "done", "dead", "stopped", or "sleeps" when time is up.
        """
        until = time.monotonic() + PATIENCE
        if lib.hl_agent_run(slot, 1) == 0:
            return "done"
        while time.monotonic() < until:
            state = self.state(pid)
            if state in _DYING:
                return "dead"
            if lib.hl_agent_wait(slot, 1) == 0:
                return "done"
            if state == "T":
                return "stopped"
        return "sleeps"

    def birth(self, pid: int, nr: int, *args: int, thread: bool = False) -> int:
        """Let a task make a call that returns twice, and wait for both; return the child's pid, or -errno.

        A parent that sleeps until the child execs or exits is not waited for.
        thread: whether the child is one of the same process.
        """
        if not self._free:
            raise TooManyTasks(f"more than {lib.AGENT_SLOTS} processes at once: let some be waited for first")
        slot = self.command(pid, lib.AGENT_FORK, nr, *args)
        slot.child = self._free[-1]
        child = ffi.cast("hl_agent_slot *", self._base + slot.child * lib.AGENT_SLOT_SIZE)
        child.turn = lib.AGENT_AGENTS_TURN
        child.caught_count = 0
        lib.hl_agent_run(slot, 1)
        until = time.monotonic() + PATIENCE
        while child.turn != lib.AGENT_DRIVERS_TURN:
            self._lose_patience(until, pid)
            if slot.turn == lib.AGENT_DRIVERS_TURN and slot.result < 0:
                return int(slot.result)
            lib.hl_agent_wait(child, 1)
        tid = int(child.tid)
        self._slots[tid] = self._free.pop()
        self._tgids[tid] = self._tgids[pid] if thread else tid
        while slot.turn != lib.AGENT_DRIVERS_TURN and self.state(pid) != "D":
            self._lose_patience(until, pid)
            lib.hl_agent_wait(slot, 1)
        return tid

    def _lose_patience(self, until: float, pid: int) -> None:
        if time.monotonic() > until:
            raise AssertionError(
                f"the agent with pid {pid} does not come back: its state is {self.state(pid)}"
            )

    def execve(self, pid: int, path: bytes, argv: Sequence[bytes]) -> tuple[str, int]:
        """Let a task exec a program that leads back to the agent's text.

        Returns: ("done", the stack pointer that the program began with, or -errno), or ("dead", 0).
        Whichever thread called, the process's pid is served by the new program.
        """
        at, pointers, strings = self.scratch(pid), b"", b""
        strings_at = at + 8 * (len(argv) + 1)
        for each in argv:
            pointers += (strings_at + len(strings)).to_bytes(8, "little")
            strings += each + b"\0"
        self.put(pid, pointers + bytes(8) + strings + path + b"\0")
        ffi.cast("hl_agent_slot *", self._base).execing = self._slots[pid]
        slot = self.command(pid, lib.AGENT_EXEC, Sys.EXECVE, strings_at + len(strings), at, 0)
        leader = self._tgids[pid]
        done = lib.hl_agent_run(slot, 1)
        until = time.monotonic() + PATIENCE
        while done:
            self._lose_patience(until, pid)
            if self.state(pid) in _DYING and (pid == leader or self.state(leader) in _DYING):
                return "dead", 0
            done = lib.hl_agent_wait(slot, 1)
        if 0 > slot.result > -4096:
            return "done", int(slot.result)
        for tid in (pid, leader):
            self.forget_files(tid)  # they show the old memory
        if pid != leader:
            self._free.append(self._slots[leader])
            self._slots[leader] = self._slots.pop(pid)
            del self._tgids[pid]
        return "done", int(slot.result)

    # what /proc says

    def pids(self) -> list[int]:
        """The processes that were there when last looked at."""
        return list(self._slots)

    def read(self, pid: int, name: str, size: int, offset: int = 0) -> bytes:
        """Read from /proc/PID/`name`.  Raises: ProcessLookupError when the process is gone."""
        file = self._files.get((pid, name))
        if file is None:
            try:
                file = os.open(f"{pid}/{name}", os.O_RDONLY, dir_fd=self._proc)
            except FileNotFoundError:
                raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone") from None
            self._files[pid, name] = file
        return os.pread(file, size, offset)

    def write(self, pid: int, name: str, data: bytes, offset: int) -> None:
        """Write to /proc/PID/`name`, and close it."""
        file = os.open(f"{pid}/{name}", os.O_WRONLY, dir_fd=self._proc)
        try:
            os.pwrite(file, data, offset)
        finally:
            os.close(file)

    def stat(self, pid: int) -> Stat:
        """Look at a task.  Raises: ProcessLookupError."""
        head, _, tail = self.read(pid, "stat", 512).decode().rpartition(") ")
        fields = tail.split(" ", 18)
        ppid, pgid, sid = map(int, fields[1:4])
        minflt, cminflt = int(fields[7]), int(fields[8])
        return Stat(head.partition("(")[2], fields[0], ppid, pgid, sid, int(fields[17]), minflt, cminflt)

    def state(self, pid: int) -> str:
        """Return the state's letter, X when the process is gone."""
        try:
            return self.stat(pid).state
        except ProcessLookupError:
            return "X"

    def forget(self, pid: int) -> None:
        """Free what is held for a task that is gone."""
        self._free.append(self._slots.pop(pid))
        del self._tgids[pid]
        self.forget_files(pid)

    def forget_files(self, pid: int) -> None:
        """Close what was opened in /proc/PID: a file there shows the memory of the time it was opened."""
        for key in [key for key in self._files if key[0] == pid]:
            os.close(self._files.pop(key))
