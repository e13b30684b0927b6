"""Mistakes about pipes: their buffers, their ends, who is told what."""

from typing import Final

from heaplab.testing.conform.mutants.plant import Edit, Mutant

BUFFERS: Final = (
    Mutant(
        "pipe-counts-bytes",
        "files",
        "A pipe is full when it holds 65536 bytes.",
        "fs/pipe.c, pipe_full: when no buffer is free",
        (
            Edit(
                "pipe.Pipe.transmit",
                "len(self._ring) < BUFFERS:",
                "sum(len(each.data) - each.start for each in self._ring) < BUFFERS * BUFFER:",
                when="len(self._ring) >= BUFFERS",
            ),
        ),
    ),
    Mutant(
        "pipe-has-one-buffer-more",
        "files",
        "A pipe has 17 buffers.",
        "PIPE_DEF_BUFFERS: 16",
        (Edit("pipe.Pipe.transmit", "len(self._ring) < BUFFERS:", "len(self._ring) <= BUFFERS:"),),
    ),
    Mutant(
        "pipe-never-merges",
        "files",
        "Each write begins a new buffer.",
        "anon_pipe_write: what it has above whole pages goes behind what the last buffer holds",
        (Edit("pipe.Pipe.transmit", "done = self._merge(count % BUFFER, get)", "done = 0"),),
    ),
    Mutant(
        "pipe-fills-the-last-buffer",
        "files",
        "A write fills the last buffer up before it takes new ones.",
        "anon_pipe_write: only what it has above whole pages, and only if it all fits",
        (
            Edit(
                "pipe.Pipe.transmit",
                "done = self._merge(count % BUFFER, get)",
                "room = BUFFER - len(self._ring[-1].data) if self._ring else 0\n"
                "    done = self._merge(min(count, room), get)",
            ),
        ),
    ),
    Mutant(
        "pipe-merges-into-what-was-read",
        "files",
        "What was read of the last buffer is room in it.",
        "anon_pipe_write: offset + chars <= PAGE_SIZE, and the offset is behind what was read",
        (
            Edit(
                "pipe.Pipe._merge",
                "len(last.data) + length > BUFFER",
                "len(last.data) - last.start + length > BUFFER",
                when="last is not None and last.start",
            ),
        ),
    ),
    Mutant(
        "pipe-read-ends-with-a-buffer",
        "files",
        "A read gives what one buffer holds.",
        "anon_pipe_read: as many buffers as it takes",
        (Edit("pipe.Pipe.receive", "while self._ring and done < count:", "while self._ring and not done:"),),
    ),
    Mutant(
        "pipe-takes-what-can-be-read",
        "files",
        "A write puts in what can be read, up to the very byte.",
        "anon_pipe_write: a buffer that cannot be filled as it should be is not used",
        (
            Edit(
                "pipe.Pipe.transmit",
                "if len(data) < length:\n",
                "length = len(data)\n        if not length:\n",
                when="len(data) < length",
            ),
        ),
    ),
    Mutant(
        "pipe-loses-what-could-be-stored",
        "files",
        "A read takes out as many bytes as could be stored.",
        "anon_pipe_read: EFAULT, or what came of the buffers before; what this one holds stays",
        (
            Edit(
                "pipe.Pipe.receive",
                "if put(done, data) < len(data):\n",
                "data = data[: put(done, data)]\n        if not data:\n",
            ),
        ),
    ),
    Mutant(
        "packets-are-merged",
        "files",
        "A write into a pipe with O_DIRECT goes behind the packet before it.",
        "pipe(2): each write is a packet",
        (
            Edit(
                "pipe.Pipe._merge",
                "last.packet or len(last.data)",
                "len(last.data)",
                when="last is not None and last.packet",
            ),
        ),
    ),
    Mutant(
        "rest-of-a-packet-stays",
        "files",
        "What a read leaves of a packet is there for the next one.",
        "pipe(2): it is lost",
        (
            Edit(
                "pipe.Pipe.receive",
                "if buffer.packet or buffer.start == len(buffer.data):",
                "if buffer.start == len(buffer.data):",
                when="buffer.packet",
            ),
        ),
    ),
)

ENDS: Final = (
    Mutant(
        "others-do-not-write",
        "files",
        "A read ends when the reader has no descriptor to write to, whoever else has one.",
        "pipe(7): when nobody has",
        (
            Edit(
                "pipe.Pipe.receive",
                "if not self._ring and self.writers:",
                "if not self._ring and any(\n"
                "        each.inode is self and each.writable for each in task.files.files()\n"
                "    ):",
                when="not self._ring and self.writers",
            ),
        ),
    ),
    Mutant(
        "part-of-a-write-is-eagain",
        "files",
        "A write that finds room for a part of its data is EAGAIN.",
        "anon_pipe_write: it returns how many bytes went in",
        (
            Edit(
                "pipe.Pipe.transmit",
                "if not done:\n        _sleep(",
                "if done < count:\n        _sleep(",
                when="done < count",
            ),
        ),
    ),
    Mutant(
        "sigpipe-is-not-sent",
        "files",
        "A write without readers is EPIPE and nothing else.",
        "pipe(7): and SIGPIPE",
        (
            Edit(
                "pipe.Pipe.transmit",
                "send(task.group, SigInfo(SIGPIPE, pid=task.tgid), task)",
                "pass",
            ),
        ),
    ),
    Mutant(
        "sigpipe-is-the-processes",
        "files",
        "SIGPIPE is for any thread of the process.",
        "send_sig(SIGPIPE, current, 0): for the one that writes",
        (
            Edit(
                "pipe.Pipe.transmit",
                "send(task.group, SigInfo(SIGPIPE, pid=task.tgid), task)",
                "send(task.group, SigInfo(SIGPIPE, pid=task.tgid))",
                when="len(task.group.living) > 1",
            ),
        ),
    ),
    Mutant(
        "sigpipe-is-nobodys",
        "files",
        "What comes with SIGPIPE does not say who wrote.",
        "send_sig(SIGPIPE, current, 0): SEND_SIG_NOINFO, which fills si_pid in",
        (
            Edit(
                "pipe.Pipe.transmit",
                "SigInfo(SIGPIPE, pid=task.tgid)",
                "SigInfo(SIGPIPE)",
                when="callable(task.group.sighand[SIGPIPE].handler)",
            ),
        ),
    ),
    Mutant(
        "nothing-needs-a-reader",
        "files",
        "A write of nothing without readers is EPIPE.",
        "anon_pipe_write: null write succeeds",
        (
            Edit(
                "pipe.Pipe.transmit",
                "if not count:",
                "if not count and self.readers:",
                when="not count and not self.readers",
            ),
        ),
    ),
    Mutant(
        "end-to-write-stays-open",
        "exec",
        "exec closes only the end to read from.",
        "pipe(2): O_CLOEXEC is for both",
        (
            Edit(
                "fileio.do_pipe2",
                "return source, _install(task, ends[1], close_on_exec=on_exec)",
                "return source, _install(task, ends[1], close_on_exec=False)",
                when="on_exec",
            ),
        ),
    ),
    Mutant(
        "pipe-could-be-executed",
        "files",
        "mmap says of a pipe ENODEV whatever the protection.",
        "mm/mmap.c, do_mmap: with PROT_EXEC EPERM comes first, path_noexec",
        (
            Edit(
                "mmap._checked_source",
                "vm_flags & VM_EXEC and not file.inode.executable:",
                "vm_flags < 0:",
                when="file is not None and vm_flags & VM_EXEC and not file.inode.executable",
            ),
        ),
    ),
)

PIPES: Final = (*BUFFERS, *ENDS)
