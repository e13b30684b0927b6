"""exec: the address space of a new program, judged by /proc/PID/maps of the same program on this machine."""

import ctypes
import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from heaplab.abi import CLONE_VM, PROT_EXEC, PROT_READ, WALL, Rlimit
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.elf import Elf, Part, assemble_elf, make_elf, room
from heaplab.kernel.fork import VFORK
from tests.programs import host_environment

SOURCE = "char big[100000]; int data[3000] = {1, 2, 3}; int main(void) { return 0; }"
ADDR_NO_RANDOMIZE = 0x0040000
BASE = 0x400000
ENV = {"A": "1", "LONGER": "x" * 50}


def real_start(path, argv):
    """(maps, stack pointer, auxiliary vector, start of the break) of a program stopped before it runs."""
    libc = ctypes.CDLL(None)
    pid = os.fork()
    if pid == 0:
        libc.personality(ADDR_NO_RANDOMIZE)
        libc.ptrace(0, 0, 0, 0)  # PTRACE_TRACEME: exec stops
        os.execve(path, argv, ENV)
    try:
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            pytest.skip("needs the right to trace a child")
        proc = Path(f"/proc/{pid}")
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        return (proc / "maps").read_text(), int(fields[25]), (proc / "auxv").read_bytes(), int(fields[44])
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def lines(maps):
    """What can be compared: range, rights, offset, and the file, whatever its number and links."""
    found = []
    for line in maps.splitlines():
        span, rights, offset, _, _, *name = line.split()
        if name != ["[vsyscall]"]:  # no memory of the process's
            found.append((span, rights, offset, os.path.realpath(name[0]) if name else ""))
    return found


@pytest.fixture(params=["static", "dynamic", "static-pie"])
def program(request, tmp_path):
    if sys.platform != "linux" or os.uname().machine != "x86_64" or shutil.which("cc") is None:
        pytest.skip("needs Linux on x86-64 and a C compiler")
    path = tmp_path / "program"
    flag = {"static": ["-static", "-no-pie"], "dynamic": ["-pie"], "static-pie": ["-static-pie"]}
    built = subprocess.run(
        ["cc", "-x", "c", "-", "-o", path, *flag[request.param]],
        input=SOURCE.encode(),
        check=False,
        env=host_environment(),
    )
    if built.returncode:
        pytest.skip(f"needs a compiler that links {request.param} programs")
    return str(path)


def boot_with(path, **settings):
    kernel = Kernel("64 MiB", **settings)
    data = Path(path).read_bytes()
    kernel.write_file(path, data)
    elf = Elf.parse(data)
    assert elf is not None
    if elf.interpreter is not None:
        kernel.write_file(elf.interpreter, Path(elf.interpreter).read_bytes())
    process = kernel.init.fork()
    process.execve(path, [path, "argument"], ENV)
    kernel.check()
    return kernel, process


def test_maps_are_those_of_the_real_machine(program):
    kernel, process = boot_with(program, aslr=False)
    maps, stack, auxv, start_brk = real_start(program, [program, "argument"])
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if release != (6, 18) or "[vvar_vclock]" not in maps:
        pytest.skip("the pages of the vdso are those of Linux 6.18")
    assert lines(process.maps()) == lines(maps)
    assert process.stack == stack
    assert kernel.task(process.pid).memory.start_brk == start_brk
    found, at = [], process.stack + 8 * (1 + 3 + len(ENV) + 1)
    while not found or found[-1][0]:
        found.append((process.load64(at), process.load64(at + 8)))
        at += 16
    machine_dependent = {16, 26, 51} | {11, 12, 13, 14}  # and whose it is
    expected = list(struct.iter_unpack("<QQ", auxv))
    assert [pair for pair in found if pair[0] not in machine_dependent] == [
        pair for pair in expected if pair[0] not in machine_dependent
    ]


def test_chance_moves_each_part_apart(program):
    starts = {}
    for seed in range(3):
        kernel, process = boot_with(program, seed=seed)
        mm = kernel.task(process.pid).memory
        vdso = next(vma.start for vma in mm.vmas if vma.file and vma.file.inode.name == "[vdso]")
        for part, place in (("stack", process.stack), ("brk", mm.start_brk), ("mmap", vdso)):
            starts.setdefault(part, set()).add(place)
    assert all(len(places) == 3 for places in starts.values())


def test_the_stack_holds_what_main_is_given(program):
    _, process = boot_with(program, seed=5)
    argc, *pointers = [process.load64(process.stack + 8 * n) for n in range(6 + len(ENV) - 1)]

    def string(at):
        letters = b""
        while byte := process.load(at + len(letters), 1):
            letters += bytes([byte])
        return letters.decode()

    assert argc == 2
    assert [string(at) for at in pointers[:2]] == [program, "argument"]
    assert pointers[2] == 0
    assert [string(at) for at in pointers[3:5]] == ["A=1", "LONGER=" + "x" * 50]
    assert process.stack % 16 == 0


# ---- images made in Python


def boot(**settings):
    kernel = Kernel("4 MiB", **settings)
    return kernel, kernel.init.fork()


def test_data_is_stored_and_bss_is_not():
    small, large = make_elf(data=b"values", bss=10), make_elf(data=b"values", bss=1_000_000)
    assert len(small) == len(large)
    kernel, process = boot(aslr=False)
    kernel.write_file("/program", large)
    process.execve("/program", ["program"])
    data = 0x401000
    assert process.read(data, 10) == b"values\0\0\0\0"
    assert process.load64(data + 999_000) == 0
    text, data_vma, bss, *_ = process.maps().splitlines()
    assert text.startswith("00400000-00401000 r-xp 00000000")
    assert data_vma.startswith("00401000-00402000 rw-p 00001000")
    assert bss.startswith("00402000-004f6000 rw-p")
    assert process.brk(0) == 0x4F6000  # rule 36
    process.store64(data, 1)
    assert kernel.read_file("/program") == large
    kernel.check()


def linked(*parts, **more):
    """A program with text, and these segments behind it."""
    text = Part(BASE, 0, bytes(room(len(parts) + 1)) + b"\x90", 0x100, PROT_READ | PROT_EXEC)
    return assemble_elf([text._replace(memsz=len(text.data)), *parts], BASE + room(len(parts) + 1), **more)


def test_bss_can_be_written_whatever_its_segment_says():
    kernel, process = boot(aslr=False)
    values = Part(BASE + 0x1000, 0x1000, b"values", 0x3000, PROT_READ)
    code = Part(BASE + 0x8000, 0x2000, b"values", 0x3000, PROT_READ | PROT_EXEC)
    kernel.write_file("/program", linked(values, code))
    process.execve("/program", ["program"])
    assert [line.split()[1] for line in process.maps().splitlines()[1:5]] == ["r--p", "rw-p", "r-xp", "rwxp"]
    assert process.read(BASE + 0x1000, 8) == b"values\0\0"
    process.store64(BASE + 0x2000, 1)


@pytest.mark.parametrize(("limit", "pages"), [(20 * 4096, 20), (8 << 20, 33), (0, 1), (1 << 20, 33)])
def test_a_new_stack_is_no_larger_than_its_limit(limit, pages):
    kernel, process = boot(aslr=False)
    kernel.write_file("/program", make_elf())
    process.setrlimit(Rlimit.STACK, (limit, 8 << 20))
    process.execve("/program", ["program"])
    start, end = (int(part, 16) for part in process.maps().splitlines()[-1].split()[0].split("-"))
    assert (end - start) // 4096 == pages


def test_mappings_leave_room_for_the_stack_that_its_limit_allows():
    kernel, process = boot(aslr=False)
    kernel.write_file("/program", make_elf())
    places = []
    for limit in (8 << 20, 64 << 20, 1 << 30):
        child = process.fork()
        child.setrlimit(Rlimit.STACK, (limit, 1 << 30))
        child.execve("/program", ["program"])
        places.append(kernel.task(child.pid).memory.layout.mmap_base)
    assert places[0] == places[1]  # 128 MiB are left in any case
    assert places[1] - places[2] == (1 << 30) + (1 << 20) - (128 << 20)


@pytest.mark.parametrize("wrong", [{"bss": -1}, {"bss": 1 << 70}, {"base": -4096}, {"entry": -(1 << 30)}])
def test_no_file_names_such_addresses(wrong):
    with pytest.raises(UsageError, match="from 0 to"):
        make_elf(**wrong)


def test_the_heap_does_not_take_in_bss():
    kernel, process = boot(aslr=False)
    kernel.write_file("/program", make_elf(data=bytes(4096), bss=4096))
    process.execve("/program", ["program"])
    end = process.sbrk(4096)
    process.sbrk(4096)
    spans = [line.split()[0] for line in process.maps().splitlines()[2:4]]
    assert spans == [f"{end - 4096:08x}-{end:08x}", f"{end:08x}-{end + 8192:08x}"]


@pytest.mark.parametrize(("linker", "code"), [(b"short", errno.EIO), (b"long text, " * 10, errno.ELIBBAD)])
def test_a_linker_that_is_none(linker, code):
    kernel, process = boot()
    kernel.write_file("/lib/linker", linker)
    kernel.write_file("/program", linked(interpreter="/lib/linker", position_independent=True))
    with pytest.raises(OSError) as caught:
        process.execve("/program", ["program"])
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def test_a_program_that_cannot_be_mapped_ends_the_process_and_lets_go_of_the_file():
    kernel, process = boot()
    beyond = Part((1 << 47) - 0x2000, 0x1000, b"values", 0x8000, PROT_READ)
    kernel.write_file("/program", linked(beyond))
    process.execve("/program", ["program"])
    assert process.state == "X"
    kernel.check()


def test_exec_forgets_and_keeps():
    kernel, process = boot()
    kernel.write_file("/bin/program", make_elf())
    page = process.mmap(4096)
    process.sigaction(signal.SIGTERM, lambda *_: None)
    process.sigaction(signal.SIGINT, signal.SIG_IGN)
    process.sigprocmask({signal.SIGUSR1})
    kept, closed = process.memfd_create("kept"), process.memfd_create("closed", 1)
    pid = process.pid
    process.execve("/bin/program", ["program"])
    assert (process.pid, process.name) == (pid, "program")
    assert process.entry == 0x400000 + 64 + 2 * 56
    assert process.sigprocmask() == {signal.SIGUSR1}
    assert process.sigaction(signal.SIGTERM, None) == signal.SIG_DFL
    assert process.sigaction(signal.SIGINT, None) == signal.SIG_IGN
    assert process.lseek(kept, 0) == 0
    for call in (lambda: process.lseek(closed, 0), lambda: process.munmap(page + 1, 1)):
        with pytest.raises(OSError):
            call()
    assert f"{page:08x}" not in process.maps()
    kernel.check()


def test_an_exit_signal_is_sigchld_to_a_parent_that_has_execed():
    # measured, Linux 6.18; to who waits it is still a child by clone
    kernel, process = boot()
    kernel.write_file("/bin/lesson", make_elf())
    parent = process.fork()
    child, quiet = parent.clone(signal.SIGFPE), parent.clone(0)
    parent.execve("/bin/lesson", ["lesson"])
    heard = []
    parent.sigaction(signal.SIGCHLD, lambda _, info: heard.append(info.pid))
    child.exit(1)
    quiet.exit(2)
    assert (parent.state, heard) == ("R", [child.pid, quiet.pid])
    assert parent.waitpid(-1, WALL) == (child.pid, 1 << 8)
    late = parent.clone(signal.SIGFPE)
    late.exit(0)
    assert parent.state == "Z"
    assert process.waitpid(parent.pid) == (parent.pid, signal.SIGFPE)


def test_the_other_threads_end_and_the_caller_takes_the_leaders_pid():
    kernel, process = boot()
    kernel.write_file("/program", make_elf())
    threads = [process.spawn_thread() for _ in range(2)]
    old = threads[1].tid
    threads[1].execve("/program", ["program"])
    assert threads[1].tid == threads[1].pid == process.pid
    assert threads[0].state == "X"
    assert old not in kernel.system.tasks
    assert kernel.process(process.pid).tid == process.pid
    assert "Threads:\t1\n" in threads[1].status()
    kernel.check()
    threads[1].exit(0)
    assert kernel.system.tasks.keys() == {1}


def test_rule_47_exec_ends_vfork():
    kernel, process = boot()
    kernel.write_file("/program", make_elf())
    page = process.mmap(4096)
    for flags in (VFORK, CLONE_VM | signal.SIGCHLD):
        child = process.clone(flags)
        child.execve("/program", ["program"])
        assert process.state == "R"
        process.store64(page, 1)
        with pytest.raises(OSError):
            process.setpgid(child.pid, 0)  # EACCES: it has exec'ed
        kernel.check()


def test_scripts():
    kernel, process = boot()
    kernel.write_file("/bin/sh", make_elf())
    kernel.write_file("/script", b"#! /bin/sh  -e x \necho")
    process.execve("/script", ["name", "argument"])
    argc = process.load64(process.stack)
    given = [process.load64(process.stack + 8 * n) for n in range(1, argc + 1)]
    strings = [process.read(at, 12).partition(b"\0")[0] for at in given]
    assert strings == [b"/bin/sh", b"-e x", b"/script", b"argument"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"text", errno.ENOEXEC),
        (b"", errno.ENOEXEC),
        (b"#!\n", errno.ENOEXEC),
        (b"\x7fELF", errno.ENOEXEC),
        (make_elf()[:100], errno.ENOEXEC),
        (b"#!/missing", errno.ENOENT),
        (b"#!/program", errno.ELOOP),
    ],
)
def test_files_that_are_no_programs(data, code):
    kernel, process = boot()
    kernel.write_file("/program", data)
    page = process.mmap(4096)
    process.store64(page, 7)
    before = process.minflt
    with pytest.raises(OSError) as caught:
        process.execve("/program", ["program"])
    assert caught.value.errno == code
    assert process.minflt == before + 1  # the arguments were on a new stack already
    assert process.load64(page) == 7
    kernel.check()


def test_what_is_missing_and_what_is_too_much():
    kernel, process = boot()
    kernel.write_file("/program", make_elf())
    for path, argv, code in (("/none", [], errno.ENOENT), ("/program", ["x" * 3_000_000], errno.E2BIG)):
        with pytest.raises(OSError) as caught:
            process.execve(path, argv)
        assert caught.value.errno == code
    kernel.check()


def test_a_file_is_parsed_once_for_all_its_execs_and_anew_when_it_changes(boot):
    kernel = boot(frames=1024)
    process = kernel.init.fork()
    entries = []
    for base in (0x4000, 0x4000, 0x8000):
        kernel.write_file("/bin/it", make_elf(text=b"\xc3" * 8, page_size=256, base=base))
        parsed = Elf.parse.cache_info().misses
        process.execve("/bin/it", ["it"])
        entries.append((process.entry & ~0xFFF, Elf.parse.cache_info().misses - parsed))
    assert [base for base, _ in entries] == [0x4000, 0x4000, 0x8000]
    assert entries[1][1] == 0
