"""What all parts of the kernel share: the machine, the settings, and the table of tasks."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from heaplab.kernel.pid import PidAllocator
from heaplab.machine import Machine

if TYPE_CHECKING:
    from heaplab.kernel.task import Task


@dataclass(frozen=True)
class Settings:
    """What an administrator sets (Linux: /proc/sys), with Linux's defaults."""

    max_map_count: int = 65530  # VMAs of one address space
    overcommit_memory: int = 0  # 0: refuse the obviously excessive; 1: refuse nothing
    fault_around_pages: int = 16  # mapped at once by a read of a file


class System:
    """The state the kernel's parts share.

    fixed at boot: machine, settings, chance (every random choice of the kernel), zero_frame (the one frame
    that all unwritten memory reads; its owner is the kernel)
    while it runs: pids; tasks, by pid, in the order of their birth, the dead not yet waited for included;
    init, the task with pid 1; init_reaps, whether init collects its dead children by itself; oom_kills, the
    pids that the OOM killer ended, in order
    """

    def __init__(
        self,
        machine: Machine,
        settings: Settings,
        chance: random.Random,
        zero_frame: int,
        *,
        pid_max: int,
        init_reaps: bool,
    ) -> None:
        self.machine = machine
        self.settings = settings
        self.chance = chance
        self.zero_frame = zero_frame
        self.pids = PidAllocator(pid_max)
        self.tasks: dict[int, Task] = {}
        self.init: Task
        self.init_reaps = init_reaps
        self.oom_kills: list[int] = []
        self._inodes = 0

    def new_inode(self) -> int:
        """Return the number of a new file without a name."""
        self._inodes += 1
        return self._inodes

    def living(self) -> Iterator["Task"]:
        """Yield the tasks that have not died, in the order of their birth."""
        return (task for task in self.tasks.values() if task.mm is not None)


def fail(code: int) -> NoReturn:
    """Raise the OSError of an errno: how the kernel's parts refuse."""
    raise OSError(code, os.strerror(code))
