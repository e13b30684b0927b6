"""Settings of all tests."""

import gc
import signal

import pytest
from hypothesis import HealthCheck, settings

# how long an example takes depends on what else the computer does, and is no test
settings.register_profile(
    "patient", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

# started in the background by a shell, tests ignore SIGINT, and so would what they start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let the garbage collector leave the ten thousand collected tests alone: they stay to the end."""
    gc.collect()
    gc.freeze()
