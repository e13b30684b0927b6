"""Small machines; and what every kernel test ends with: the self-check, and no frame lost."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heaplab.abi import WALL
from heaplab.kernel import Kernel
from heaplab.machine import FrameKind
from heaplab.process import Process


def owned_by_init(kernel: Kernel) -> int:
    """Frames that stay when everybody else is gone: init's, the zero frame, the cache of the disk."""
    space = kernel.init.context.space
    assert space is not None
    cached = len(kernel.system.reclaimable)
    return 1 + cached + space.tables + space.rss(FrameKind.ANON) + space.rss(FrameKind.FILE)


def reap_all(kernel: Kernel) -> None:
    """End and collect every process but init, checking after each step; then every frame must be free."""
    while others := [pid for pid in kernel.system.tasks if pid != kernel.init.pid]:
        for pid in others:
            if pid in kernel.system.tasks and kernel.task(pid).group.living:
                kernel.init.kill(pid, signal.SIGKILL)
            elif pid in kernel.system.tasks and kernel.process(pid).ppid == kernel.init.pid:
                kernel.init.waitpid(pid, WALL)
            kernel.check()
    machine = kernel.machine
    assert machine.frame_count - machine.free_frames == owned_by_init(kernel), "frames were lost"


@pytest.fixture(name="reap_all")
def _reap_all() -> Callable[[Kernel], None]:
    """`reap_all(kernel)` ends all processes, and finds lost frames: for tests of many kernels."""
    return reap_all


@pytest.fixture
def boot() -> Iterator[Callable[..., Kernel]]:
    """Boot kernels with 256-byte pages; afterwards all is reaped, and every frame must be free again."""
    booted: list[Kernel] = []

    def boot(frames: int = 256, **settings: Any) -> Kernel:
        settings = {"page_size": 256, "tlb": 64, "poison": True, **settings}
        kernel = Kernel(ram=frames * settings["page_size"], **settings)
        booted.append(kernel)
        return kernel

    yield boot
    for kernel in booted:
        kernel.check()
        reap_all(kernel)


@pytest.fixture
def kernel(boot: Callable[..., Kernel]) -> Kernel:
    """A booted kernel on a small machine."""
    return boot()


@pytest.fixture
def process(kernel: Kernel) -> Process:
    """A child of init on a small machine."""
    return kernel.init.fork()


@pytest.fixture
def faults(kernel: Kernel) -> Callable[..., int]:
    """`faults(process, call, *args)`: how many minor faults the call takes; the kernel is checked after."""

    def faults(process: Process, call: Callable[..., Any], *args: Any) -> int:
        before = process.minflt
        call(*args)
        kernel.check()
        return process.minflt - before

    return faults
