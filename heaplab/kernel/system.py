"""What all parts of the kernel share: the machine, the settings, and the table of tasks."""

from __future__ import annotations

import itertools
import os
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from heaplab.kernel.pid import PidAllocator
from heaplab.machine import Machine

if TYPE_CHECKING:
    from heaplab.kernel.filesystem import FileSystem
    from heaplab.kernel.inode import DiskInode
    from heaplab.kernel.mm import Mm
    from heaplab.kernel.task import Group, Task

#: user and group of every process, pid 1 included: an ordinary user's
UID: Final = 1000


@dataclass(frozen=True)
class Settings:
    """What an administrator sets (Linux: /proc/sys), with Linux's defaults."""

    max_map_count: int = 65530  # VMAs of one address space
    overcommit_memory: int = 0  # 0: refuse the obviously excessive; 1: nothing; 2: more than the ratio
    overcommit_ratio: int = 50  # percent of memory that may be promised, under 2
    user_reserve: int = 128 << 20  # bytes; what 2 keeps back of it (user_reserve_kbytes)
    pid_namespace: bool = False  # pid 1 is that of a container, to process groups a parent like any other
    fork: str = "copy-on-write"  # what becomes of written pages: a key of fork_policy.POLICIES
    fault_around_pages: int = 16  # mapped at once by a read of a file


class System:
    """The state the kernel's parts share.

    fixed at boot: machine, settings, chance (every random choice of the kernel), secrets (the random bytes
    that new programs get: apart, so that they move nothing else), layout_chance (the same as chance, or
    None: address spaces are not randomised), zero_frame (the one frame that all unwritten memory reads; its
    owner is the kernel)
    while it runs: pids; tasks, by pid, in the order of their birth, the dead not yet waited for included;
    places, numbers for what is to be found in the order in which it came; process_groups, by number, the
    processes of each, zombies included; init, the task with pid 1; current, the task that entered the
    kernel last; init_reaps, whether init collects its dead children by itself; oom_kills, the pids that the
    OOM killer ended, in order; kill, how it ends a process: the memory system, which needs it, stands below
    what exit does; signalled, the tasks with signals to act upon before any program goes on; files, by
    name; committed, pages promised to programs (Committed_AS); disk_reads, pages of files read in;
    reclaimable, the pages of files on disk that are in memory, in the order in which they will be given up;
    lazily_freed, whether MADV_FREE found pages to free
    for whoever looks on: on_call, told of each system call that returns: the task, the call's name, its
    registers, and the result, negative for an error; on_copy, told of each page that a write copies because
    others have its frame: the address space, the address that is written, and the frame that is left to the
    others; they change nothing, but while on_copy is set, each first write goes to the kernel, which takes
    longer
    """

    def __init__(
        self,
        machine: Machine,
        settings: Settings,
        chance: random.Random,
        secrets: random.Random,
        zero_frame: int,
        *,
        pid_max: int,
        init_reaps: bool,
    ) -> None:
        self.machine = machine
        self.settings = settings
        self.chance = chance
        self.secrets = secrets
        self.zero_frame = zero_frame
        self.pids = PidAllocator(pid_max)
        self.tasks: dict[int, Task] = {}
        self.places = itertools.count()
        self.process_groups: dict[int, dict[Group, None]] = {}
        self.init: Task
        self.current: Task | None = None
        self.init_reaps = init_reaps
        self.oom_kills: list[int] = []
        self.kill: Callable[[Group, int], None]
        self.signalled: dict[Task, None] = {}
        self.committed = 0
        self.disk_reads = 0
        self.lazily_freed = False
        self.reclaimable: OrderedDict[tuple[DiskInode, int], None] = OrderedDict()
        self.files: FileSystem
        self.layout_chance: random.Random | None = chance
        self.on_call: Callable[[Task, str, tuple[int, ...], int], None] | None = None
        self.on_copy: Callable[[Mm, int, int], None] | None = None
        self._inodes = 0

    def new_inode(self) -> int:
        """Return the number of a new file without a name."""
        self._inodes += 1
        return self._inodes - 1

    def living(self) -> Iterator[Task]:
        """Yield the tasks that have not died, in the order of their birth."""
        return (task for task in self.tasks.values() if task.mm is not None)

    def groups(self) -> list[Group]:
        """Return the processes, zombies included, in the order of their birth."""
        return [task.group for task in self.tasks.values() if task is task.group.leader]

    def members(self, pgid: int) -> list[Group]:
        """Return the processes of a process group, zombies included: who entered it last comes first."""
        return list(reversed(self.process_groups.get(pgid, {})))


def fail(code: int) -> NoReturn:
    """Raise the OSError of an errno: how the kernel's parts refuse."""
    raise OSError(code, os.strerror(code))
