"""Machines with Linux's page size, as readers of /proc expect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def linux(boot: Callable[..., Any]) -> Callable[..., Any]:
    """Boot kernels with 4 KiB pages; afterwards no frame may be missing."""
    return lambda **settings: boot(page_size=4096, frames=512, **settings)


@pytest.fixture
def real() -> Path:
    """The /proc of this machine."""
    proc = Path("/proc")
    if not (proc / "self" / "smaps").exists():
        pytest.skip("this machine has no /proc/self/smaps to compare with")
    return proc
