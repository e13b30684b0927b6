"""Memory for runs: what /proc and control groups say this computer has left."""

from heaplab.lab.room import host_memory


def test_the_least_of_what_meminfo_and_every_control_group_leave(tmp_path):
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    inner = groups / "outer" / "inner"
    inner.mkdir(parents=True)
    (proc / "self").mkdir(parents=True)
    assert host_memory(proc, groups) is None
    (proc / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 4000 kB\n")
    assert host_memory(proc, groups) == 4000 << 10
    (proc / "self" / "cgroup").write_text("0::/outer/inner\n")
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text("5\n")
    assert host_memory(proc, groups) == 4000 << 10
    (groups / "outer" / "memory.max").write_text("1000000\n")
    (groups / "outer" / "memory.current").write_text("900000\n")
    (groups / "outer" / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert host_memory(proc, groups) == 150_000
    (groups / "outer" / "memory.current").write_text("2000000\n")
    assert host_memory(proc, groups) == 0
