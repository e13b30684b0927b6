"""Small machines, and the two things every kernel test ends with: the self-check, and no frame lost."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heaplab.kernel import Kernel

PAGE = 256  # small enough that a machine's every frame can be looked at


@pytest.fixture
def boot() -> Iterator[Callable[..., Kernel]]:
    """Boot kernels; after the test everybody but init goes, and every frame must be free again."""
    booted: list[tuple[Kernel, int]] = []

    def boot(frames: int = 256, **settings: Any) -> Kernel:
        settings = {"page_size": PAGE, "tlb": 64, "poison": True, **settings}
        kernel = Kernel(ram=frames * settings["page_size"], **settings)
        booted.append((kernel, kernel.machine.free_frames))
        return kernel

    yield boot
    for kernel, free in booted:
        kernel.check()
        init = kernel.init.pid
        while others := [pid for pid in kernel.system.tasks if pid != init]:
            for pid in others:
                process = kernel.process(pid)
                if process.state != "Z":
                    process.exit(0)
                elif process.ppid == init:
                    kernel.init.waitpid(pid)
            kernel.check()
        assert kernel.init.minflt or kernel.machine.free_frames == free, "frames were lost"


@pytest.fixture
def process(boot: Callable[..., Kernel]) -> Any:
    """A child of init on a small machine."""
    return boot().init.fork()
