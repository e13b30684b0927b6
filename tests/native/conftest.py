"""Small C programs, compiled for the tests and recorded."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from heaplab.native import record
from heaplab.traces import open_trace
from tests.programs import host_environment

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Compiles `programs/NAME.c` and returns the path of what comes of it."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler: set CC, or install gcc or clang")
    directory = tmp_path_factory.mktemp("programs")

    def compiled(name, *flags):
        target = directory / ("-".join([name, *flags]) + (".so" if "-shared" in flags else ""))
        if not target.exists():
            source = PROGRAMS / f"{name}.c"
            subprocess.run(
                [compiler, "-O1", "-fno-builtin", "-pthread", *flags, "-o", target, source],
                check=True,
                env=host_environment(),
            )
        return str(target)

    return compiled


@pytest.fixture(scope="session")
def planted(program):
    """Compiles the allocator of `programs/planted.c` with a fault in it; returns the library's path."""

    def library(fault, *flags):
        return program("planted", f"-DFAULT={fault}", "-shared", "-fPIC", *flags)

    return library


@pytest.fixture
def recorded(tmp_path):
    """Records a command; returns its Recording and its trace."""

    def run(*command, **settings):
        recording = record(command, tmp_path / "x.hlt", stdout=subprocess.DEVNULL, **settings)
        assert [each.name for each in tmp_path.iterdir()] == ["x.hlt"]
        return recording, open_trace(tmp_path / "x.hlt")

    return run
