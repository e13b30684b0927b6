"""status, stat, statm and meminfo: Linux's fields in Linux's order, and sums that agree."""

from signal import SIG_IGN, SIGCHLD, SIGUSR1

import pytest

from heaplab.abi import MAP_ANONYMOUS, MAP_SHARED

#: lines of /proc/PID/status about what the model does not have
NOT_MODELLED = {
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "CoreDumping",
    "THP_enabled",
    "untag_mask",
    "x86_Thread_features",
    "x86_Thread_features_locked",
    "SigQ",
    "Seccomp_filters",
    "Speculation_Store_Bypass",
    "SpeculationIndirectBranch",
    "Mems_allowed",
    "Mems_allowed_list",
}


def names(text):
    return [line.partition(":")[0] for line in text.splitlines()]


def kib(text):
    return {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if line.endswith(" kB")}


@pytest.fixture
def busy(linux):
    kernel = linux()
    process = kernel.init.fork()
    process.sbrk(3 * 4096)
    process.fill(process.sbrk(0) - 3 * 4096, 1, 3 * 4096)
    process.store64(process.mmap(8192, flags=MAP_SHARED | MAP_ANONYMOUS), 1)
    return kernel, process


def test_status_has_linuxs_lines_in_linuxs_order(busy, real):
    kernel, process = busy
    theirs = [name for name in names((real / "self" / "status").read_text()) if name not in NOT_MODELLED]
    assert names(kernel.status(process.pid)) == theirs


def test_meminfo_has_linuxs_lines_in_linuxs_order(busy, real):
    kernel, _ = busy
    theirs = names((real / "meminfo").read_text())
    ours = names(kernel.meminfo())
    assert [name for name in theirs if name in set(ours)] == ours


def test_meminfo_accounts_for_every_frame(busy):
    kernel, _ = busy
    sizes = kib(kernel.meminfo())
    zero_frame = 4
    used = sizes["AnonPages"] + sizes["Cached"] + sizes["PageTables"] + zero_frame
    assert sizes["MemTotal"] == sizes["MemFree"] + used == 512 * 4


def test_stat_and_statm_have_as_many_fields(busy, real):
    kernel, process = busy
    theirs = (real / "self" / "stat").read_text().rpartition(")")[2].split()
    ours = kernel.stat(process.pid).rpartition(")")[2].split()
    assert len(ours) == len(theirs) == 50
    assert len(kernel.statm(process.pid).split()) == len((real / "self" / "statm").read_text().split())


def test_the_views_agree(busy):
    kernel, process = busy
    status, statm = kib(kernel.status(process.pid)), list(map(int, kernel.statm(process.pid).split()))
    stat = kernel.stat(process.pid).rpartition(")")[2].split()
    smaps = [line.split() for line in kernel.smaps(process.pid).splitlines()]
    assert statm[0] * 4 == status["VmSize"] == int(stat[20]) >> 10
    assert statm[1] * 4 == status["VmRSS"] == int(stat[21]) * 4
    assert status["VmRSS"] == sum(int(words[1]) for words in smaps if words[0] == "Rss:")
    assert status["VmRSS"] == status["RssAnon"] + status["RssFile"] + status["RssShmem"]
    assert statm[5] * 4 == status["VmData"] + status["VmStk"]
    assert int(stat[7]) == process.minflt


def test_the_most_there_ever_was(busy):
    kernel, process = busy
    before = kib(kernel.status(process.pid))["VmSize"]
    area = process.mmap(1 << 20)
    process.munmap(area, 1 << 20)
    sizes = kib(kernel.status(process.pid))
    assert (sizes["VmPeak"], sizes["VmSize"]) == (before + 1024, before)
    assert kib(kernel.status(process.fork().pid))["VmPeak"] == before


def test_signals_are_bits(busy):
    kernel, process = busy
    process.sigaction(SIGCHLD, SIG_IGN)
    process.sigaction(SIGUSR1, lambda *_: None)
    lines = dict(line.split(":\t") for line in kernel.status(process.pid).splitlines())
    assert int(lines["SigIgn"], 16) == 1 << (SIGCHLD - 1)
    assert int(lines["SigCgt"], 16) == 1 << (SIGUSR1 - 1)
    assert int(lines["SigBlk"], 16) == 0


def test_a_childs_faults_go_to_its_parent_when_it_is_collected(busy):
    kernel, process = busy
    child = process.fork()
    child.store64(child.sbrk(0) - 8, 1)
    child.exit(3)
    zombie = kernel.stat(child.pid).rpartition(")")[2].split()
    assert (zombie[0], zombie[20], zombie[21], zombie[-1]) == ("Z", "0", "0", str(3 << 8))
    process.wait()
    assert kernel.stat(process.pid).rpartition(")")[2].split()[8] == "1"


def test_a_leader_that_has_exited_is_one_of_the_threads(linux):
    kernel = linux()
    process = kernel.init.fork()
    thread = process.spawn_thread()
    process.exit_thread(0)
    assert "Threads:\t2\n" in thread.status()
    assert kernel.stat(process.pid).split()[19] == "2"
