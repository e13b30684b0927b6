"""exec: the same process, another program.

    task_size  +-----------------------+
               | 8 zero bytes          |    the stack as a program finds it
               | name of the program   |
               | envp's strings        |
               | argv's strings        |
               | "x86_64", 16 bytes    |
               | auxiliary vector      |
               | envp, NULL            |
               | argv, NULL            |
          sp-> | argc                  |
               +-----------------------+

Source: Linux, fs/exec.c (begin_new_exec, setup_arg_pages, de_thread), fs/binfmt_elf.c (load_elf_binary,
create_elf_tables), fs/binfmt_script.c; arch/x86/entry/vdso/vma.c.
"""

import dataclasses
import errno
import os
import struct
from collections.abc import Sequence
from signal import SIGCHLD, SIGSEGV
from typing import Final

from heaplab.abi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SIG_IGN,
    Rlimit,
)
from heaplab.kernel.elf import EHDR_SIZE, Elf, Segment
from heaplab.kernel.exit import clear_tid, do_exit, exit_group, leave_mm
from heaplab.kernel.file import File
from heaplab.kernel.inode import Inode
from heaplab.kernel.layout import Layout
from heaplab.kernel.mm import Mm
from heaplab.kernel.mmap import VM_DATA, mmap, place
from heaplab.kernel.system import UID, fail
from heaplab.kernel.task import Action, Sighand, Task
from heaplab.kernel.uaccess import put_user
from heaplab.kernel.vma import VM_GROWSDOWN, VM_MAYACCESS, Vma

_MOST_INTERPRETERS: Final = 5  # scripts that are run by scripts
_SCRIPT_LINE: Final = 256  # bytes of a script's first line that are looked at
_PLATFORM: Final = b"x86_64\0"
_STACK_ALIGN: Final = 16
_STACK_SHUFFLE: Final = 8192  # bytes: the stack pointer starts this much lower, at most

#: the pages that Linux 6.18 maps into each process to tell the time without a call; names and pages, upwards
_VDSO: Final = (
    ("[vvar]", 4, PROT_READ),
    ("[vvar_vclock]", 2, PROT_READ),
    ("[vdso]", 2, PROT_READ | PROT_EXEC),
)

_AT_PHDR, _AT_PHENT, _AT_PHNUM, _AT_PAGESZ, _AT_BASE, _AT_FLAGS, _AT_ENTRY = 3, 4, 5, 6, 7, 8, 9
_AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_PLATFORM, _AT_HWCAP, _AT_CLKTCK = 11, 12, 13, 14, 15, 16, 17
_AT_SECURE, _AT_RANDOM, _AT_HWCAP2, _AT_RSEQ_SIZE, _AT_RSEQ_ALIGN, _AT_EXECFN = 23, 25, 26, 27, 28, 31
_AT_SYSINFO_EHDR, _AT_MINSIGSTKSZ = 33, 51


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """Where an executable was put: what is added to its addresses, its entry, the end of its segments."""

    bias: int
    entry: int
    end: int


def execve(task: Task, path: str, argv: Sequence[bytes], envp: Sequence[bytes]) -> None:
    """Replace the program of a process; all its other tasks end.

    Raises: OSError ENOENT, ENOEXEC for what is no executable, ELOOP, E2BIG: then nothing has changed.  What
    fails later ends the process with SIGSEGV.
    """
    system = task.system
    system.files.find(path)  # what is not there fails before anything else
    strings = [*(argv or [b""]), *envp, os.fsencode(path)]
    layout = Layout.choose(system.machine, system.layout_chance, task.limits.soft(Rlimit.STACK))
    if sum(len(each) + 9 for each in strings) > max(layout.stack_limit // 4, layout.stack_size):
        fail(errno.E2BIG)
    try:
        (inode, elf), interpreter, argv = _open(task, path, list(argv) or [b""])
    except OSError:
        # the strings were put on a new stack already, whose pages were its first faults
        task.minflt += -(-(8 + sum(len(each) + 1 for each in strings)) >> system.machine.page_shift)
        raise
    mm = Mm(system, layout)
    _leave_the_old(task, mm, path)
    try:
        program = _load(task, elf, File(inode, os.O_RDONLY), interpreter is not None)
        linker = None
        if interpreter is not None:
            linker = _load(task, interpreter[1], File(interpreter[0], os.O_RDONLY), False)
        vdso = _map_vdso(mm)
        # of one without an interpreter that was put among the mappings, the break stays where programs are
        stray = elf.position_independent and interpreter is None
        start_brk = mm.align(layout.task_size // 3 * 2) if stray else program.end
        start_brk += layout.brk_shift
        mm.layout = dataclasses.replace(layout, start_brk=start_brk)
        mm.start_brk = start_brk
        mm.set_brk(start_brk)
        auxv = _auxiliary_vector(task, elf, program, linker, vdso)
        _make_stack(task, path, argv, envp, auxv)
        task.entry = (linker or program).entry
    except (OSError, MemoryError):
        exit_group(task.group, SIGSEGV, task)


_Executable = tuple[Inode, Elf]


def _open(task: Task, path: str, argv: list[bytes]) -> tuple[_Executable, _Executable | None, list[bytes]]:
    """Return the program that a path stands for, its interpreter if it names one, and its arguments."""
    inode, argv = _find(task, path, argv)
    elf = Elf.parse(inode.contents())
    if elf is None:
        fail(errno.ENOEXEC)
    if elf.interpreter is None:
        return (inode, elf), None, argv
    other = task.system.files.find(elf.interpreter)
    interpreter = Elf.parse(other.contents())
    if interpreter is None:
        fail(errno.EIO if other.size < EHDR_SIZE else errno.ELIBBAD)
    return (inode, elf), (other, interpreter), argv


def _find(task: Task, path: str, argv: list[bytes]) -> tuple[Inode, list[bytes]]:
    """Return the file of a program and its arguments; of a script, its interpreter's."""
    for _ in range(_MOST_INTERPRETERS):
        inode = task.system.files.find(path)
        head = inode.contents()[:_SCRIPT_LINE]
        if not head.startswith(b"#!"):
            return inode, argv
        line = head[2:].partition(b"\n")[0].strip(b" \t")
        if not line:
            fail(errno.ENOEXEC)
        name, _, option = line.replace(b"\t", b" ").partition(b" ")
        argv = [name, *([option.strip()] if option.strip() else []), os.fsencode(path), *argv[1:]]
        path = os.fsdecode(name)
    fail(errno.ELOOP)


def _leave_the_old(task: Task, mm: Mm, path: str) -> None:
    """End the other tasks; part with memory, handlers, descriptors, and the name of the old program."""
    group = task.group
    for other in [other for other in group.living.values() if other is not task]:
        do_exit(other, 0)
    clear_tid(task)
    leave_mm(task)
    if task is not group.leader:
        _become_leader(task)
    task.mm = mm
    task.take_or_leave_cpu()
    ignored = [signum for signum, action in group.sighand.actions.items() if action.handler == SIG_IGN]
    task.frames.clear()
    group.sighand = Sighand((signum, Action(SIG_IGN)) for signum in ignored)
    own = task.files.fork()
    task.files.put()
    task.files = own
    own.exec()
    task.comm = os.fsdecode(os.fsencode(path.rpartition("/")[2])[:15])
    group.execs += 1
    group.exit_signal = SIGCHLD


def _become_leader(task: Task) -> None:
    """Take the pid of the leader, which has ended: to the outside, the process is the same."""
    group, system = task.group, task.system
    del system.tasks[task.pid], group.living[task.pid]
    system.pids.free(task.pid)
    task.pid = group.tgid
    group.leader = task
    group.living[task.pid] = task
    system.tasks[task.pid] = task
    if group.parent is not None:
        group.parent.children[task.pid] = task


def _load(task: Task, elf: Elf, file: File, with_interpreter: bool) -> _Loaded:
    """Map the segments of an executable: from the file what it has, zeros for the rest.

    A position-independent program with an interpreter goes where programs are; without, among the mappings.
    """
    mm = task.memory
    low, high = elf.low & mm.page_mask, mm.align(elf.high)
    if not elf.position_independent:
        bias = 0
    elif with_interpreter:
        align = max(elf.align, mm.page_size)
        bias = mm.layout.pie_base // align * align - low
    else:
        bias = place(mm, 0, high - low, MAP_PRIVATE) - low
    file.get()
    try:
        for segment in elf.segments:
            _map_segment(task, dataclasses.replace(segment, vaddr=segment.vaddr + bias), file)
    finally:
        file.put()
    return _Loaded(bias, elf.entry + bias, mm.align(elf.high + bias))


def _map_segment(task: Task, segment: Segment, file: File) -> None:
    """Map what the file has of a segment; zero the rest of its last page, and map zeros behind that."""
    mm = task.memory
    start = segment.vaddr & mm.page_mask
    file_end, end = segment.vaddr + segment.filesz, segment.vaddr + segment.memsz
    mapped_end = start
    if segment.filesz:
        mapped_end = mm.align(file_end)
        offset = segment.offset - (segment.vaddr - start)
        mmap(task, start, mapped_end - start, segment.prot, MAP_PRIVATE | MAP_FIXED, file, offset)
        if segment.prot & PROT_WRITE and end > file_end:
            put_user(task, file_end, bytes(mapped_end - file_end))
    if mm.align(end) > mapped_end:
        anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        prot = PROT_READ | PROT_WRITE | segment.prot & PROT_EXEC  # whatever the file says
        mmap(task, mapped_end, mm.align(end) - mapped_end, prot, anonymous, None, 0)


def _map_vdso(mm: Mm) -> int:
    """Map the pages by which programs tell the time; return where their code is."""
    pages = sum(count for _, count, _ in _VDSO)
    at = place(mm, 0, pages << mm.page_shift, MAP_PRIVATE)
    for name, count, prot in _VDSO:
        inode = Inode(mm.system, name, count << mm.page_shift)
        inode.device, inode.number = "00:00", 0
        mm.vmas.add(Vma(at, at + inode.size, prot | VM_MAYACCESS, 0, File(inode, os.O_RDONLY)))
        start, at = at, at + inode.size
    return start


def _auxiliary_vector(
    task: Task, elf: Elf, program: _Loaded, linker: _Loaded | None, vdso: int
) -> list[tuple[int, int]]:
    """Return what the kernel tells the program about itself; addresses on the stack are filled in later."""
    return [
        (_AT_SYSINFO_EHDR, vdso),
        (_AT_MINSIGSTKSZ, 0xD30),
        (_AT_HWCAP, 0x178BFBFF),
        (_AT_PAGESZ, task.memory.page_size),
        (_AT_CLKTCK, 100),
        (_AT_PHDR, elf.phdr + program.bias),
        (_AT_PHENT, 56),
        (_AT_PHNUM, elf.phnum),
        (_AT_BASE, linker.bias if linker is not None else 0),
        (_AT_FLAGS, 0),
        (_AT_ENTRY, program.entry),
        *((identity, UID) for identity in (_AT_UID, _AT_EUID, _AT_GID, _AT_EGID)),
        (_AT_SECURE, 0),
        (_AT_RANDOM, 0),
        (_AT_HWCAP2, 2),
        (_AT_EXECFN, 0),
        (_AT_PLATFORM, 0),
        (_AT_RSEQ_SIZE, 28),
        (_AT_RSEQ_ALIGN, 32),
        (0, 0),
    ]


def _make_stack(
    task: Task, path: str, argv: Sequence[bytes], envp: Sequence[bytes], auxv: list[tuple[int, int]]
) -> None:
    """Map the stack and put on it what a program finds there."""
    mm, chance = task.memory, task.system.layout_chance
    top = mm.layout.stack_top
    name = os.fsencode(path) + b"\0"
    strings = [each + b"\0" for each in (*argv, *envp)]
    strings_at = top - 8 - len(name) - sum(map(len, strings))
    filled = top - (strings_at & mm.page_mask)
    wanted = filled + mm.layout.stack_size - mm.page_size
    bottom = top - max(filled, min(wanted, task.limits.soft(Rlimit.STACK) & mm.page_mask))
    mm.vmas.add(Vma(bottom, top, VM_DATA | VM_GROWSDOWN, bottom >> mm.page_shift))
    put_user(task, strings_at, b"".join([*strings, name]))

    lower = strings_at - (chance.randrange(_STACK_SHUFFLE) if chance is not None else 0)
    platform_at = (lower & -_STACK_ALIGN) - len(_PLATFORM)
    random_at = platform_at - 16
    put_user(task, random_at, task.system.chance.randbytes(16) + _PLATFORM)
    known = {_AT_RANDOM: random_at, _AT_PLATFORM: platform_at, _AT_EXECFN: top - 8 - len(name)}

    words, at = [len(argv)], strings_at
    for count in (len(argv), len(envp)):
        for _ in range(count):
            words.append(at)
            at += len(strings.pop(0))
        words.append(0)
    for key, value in auxv:
        words += [key, known.get(key, value)]
    task.stack = (random_at - 8 * len(words)) & -_STACK_ALIGN
    mm.start_stack = task.stack
    put_user(task, task.stack, struct.pack(f"<{len(words)}Q", *words))
