"""A /proc of files, read by psutil as if it were this machine's."""

import shutil
import subprocess

import numpy as np
import psutil
import pytest

from heaplab.abi import MAP_ANONYMOUS, MAP_SHARED
from tests.programs import host_environment

PAGE = 4096


@pytest.fixture
def family(linux, tmp_path, monkeypatch):
    """A shell with a child that has written one of its pages, and one that is a zombie."""
    kernel = linux()
    shell = kernel.init.fork()
    shell.name = "sh"
    base = shell.mmap(16 * PAGE)
    shell.fill(base, 1, 8 * PAGE)
    shell.store64(shell.mmap(PAGE, flags=MAP_SHARED | MAP_ANONYMOUS), 1)
    child, zombie = shell.fork(), shell.fork()
    child.store64(base, 2)
    zombie.exit(0)
    kernel.write_proc(tmp_path / "proc")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    return kernel, shell, child, zombie, base


def test_psutil_sees_the_processes(family):
    _, shell, child, zombie, _ = family
    assert psutil.pids() == [1, shell.pid, child.pid, zombie.pid]
    seen = psutil.Process(shell.pid)
    assert (seen.name(), seen.ppid(), seen.status(), seen.num_threads()) == ("sh", 1, "running", 1)
    assert [process.pid for process in seen.children()] == [child.pid, zombie.pid]
    assert [process.pid for process in psutil.Process(1).children(recursive=True)] == psutil.pids()[1:]
    assert psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE


def test_psutil_sees_the_memory(family):
    kernel, shell, child, _, base = family
    sizes = psutil.Process(shell.pid).memory_info()
    raw = shell.context.space.raw
    assert (sizes.vms, sizes.rss, sizes.shared) == (raw.vm_pages * PAGE, 9 * PAGE, PAGE)
    rows = {row.addr.split("-")[0]: row for row in psutil.Process(shell.pid).memory_maps(grouped=False)}
    area = rows[f"{base:08x}"]
    assert (area.rss, area.pss) == (8 * PAGE, 4.5 * PAGE)
    assert (area.private_dirty, area.shared_dirty) == (PAGE, 7 * PAGE)
    assert psutil.Process(child.pid).memory_full_info().uss == PAGE
    machine = psutil.virtual_memory()
    assert (machine.total, machine.free) == (512 * PAGE, kernel.machine.free_frames * PAGE)


@pytest.fixture
def tool(family, tmp_path):
    """Run a tool of procps with the model's /proc in the place of the real one; what it prints, as words."""
    enter = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", 'mount --bind "$0" /proc && exec "$@"']

    def tool(*command):
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} of procps is not installed")
        done = subprocess.run(
            [*enter, str(tmp_path / "proc"), *command],
            capture_output=True,
            text=True,
            check=False,
            env=host_environment(),
        )
        if "Operation not permitted" in done.stderr:
            pytest.skip("mounting over /proc needs root")
        assert done.returncode == 0, done.stderr
        return [line.split() for line in done.stdout.splitlines()]

    return tool


def test_ps_sees_the_processes(family, tool):
    _, shell, child, zombie, _ = family
    assert tool("ps", "-e", "--no-headers", "--sort=pid", "-o", "pid,ppid,stat,nlwp,uid,rss,comm") == [
        ["1", "0", "Rs", "1", "1000", "0", "init"],
        [str(shell.pid), "1", "R", "1", "1000", "36", "sh"],
        [str(child.pid), str(shell.pid), "R", "1", "1000", "32", "sh"],
        [str(zombie.pid), str(shell.pid), "Z", "1", "1000", "0", "sh"],
    ]
    assert len(tool("ps", "-eL", "--no-headers")) == 4


def test_pmap_and_free_see_the_memory(family, tool):
    kernel, shell, _, _, base = family
    rows = {words[0]: words[1:4] for words in tool("pmap", "-x", str(shell.pid)) if words}
    assert rows[f"{base:016x}"] == ["64", "32", "32"]
    memory = tool("free")[1]
    assert memory[1:4:2] == [str(512 * 4), str(kernel.machine.free_frames * 4)]
    assert ["Tasks:", "4"] in [words[:2] for words in tool("top", "-b", "-n1")]


def test_pagemap_is_read_by_seeking(family, tmp_path):
    kernel, _, child, _, base = family
    with (tmp_path / "proc" / str(child.pid) / "pagemap").open("rb") as file:
        file.seek(base // PAGE * 8)
        words = np.frombuffer(file.read(16 * 8), "<u8")
    assert words.tobytes() == kernel.pagemap(child.pid, base, base + 16 * PAGE)
    assert np.count_nonzero(words) == 8


def test_the_oom_killers_files(linux, tmp_path):
    kernel = linux()
    process = kernel.init.fork()
    process.oom_score_adj = 500
    kernel.write_proc(tmp_path)
    assert (tmp_path / str(process.pid) / "oom_score_adj").read_text() == "500\n"
    assert (tmp_path / str(process.pid) / "oom_score").read_text() == f"{kernel.oom_score(process.pid)}\n"
    assert (tmp_path / "1" / "oom_score").read_text() == "0\n"


def test_threads_have_directories(linux, tmp_path):
    kernel = linux()
    process = kernel.init.fork()
    thread = process.spawn_thread()
    kernel.write_proc(tmp_path)
    tasks = sorted(path.name for path in (tmp_path / str(process.pid) / "task").iterdir())
    assert tasks == sorted(map(str, (process.tid, thread.tid)))
    assert not (tmp_path / str(thread.tid)).exists()
