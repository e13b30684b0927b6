"""Mistakes about files: descriptors, the page cache, mappings of files, exec'ing one."""

from typing import Final

from heaplab.testing.conform.mutants.plant import Edit, Mutant

MAPPED: Final = (
    Mutant(
        "sigbus-one-page-late",
        "files",
        "The page behind a file's last one may be accessed.",
        "rule 11: SIGBUS",
        (
            Edit(
                "fault.mend",
                "if pgoff >= vma.file.inode.page_count:",
                "if pgoff > vma.file.inode.page_count:",
                when="pgoff == vma.file.inode.page_count",
            ),
        ),
    ),
    Mutant(
        "sigbus-on-the-tail",
        "files",
        "The last page of a file may be accessed only if the file fills it.",
        "rule 11: its tail is accessible and zero",
        (
            Edit(
                "inode.Inode.page_count",
                "return -(-self.size >> self.system.machine.page_shift)",
                "return self.size >> self.system.machine.page_shift",
            ),
        ),
    ),
    Mutant(
        "sigsegv-behind-the-file",
        "files",
        "An access behind the file's end is a SIGSEGV.",
        "rule 11: SIGBUS, si_code 2",
        (Edit("fault.mend", "return _BEYOND_FILE", "return _NOTHING_MAPPED"),),
    ),
    Mutant(
        "private-reads-copy",
        "files",
        "A read of a private mapping of a file copies the page.",
        "rule 10: pages not yet written see later writes to the file",
        (
            Edit(
                "fault._file_page",
                "if write and vma.private:",
                "if vma.private:",
            ),
            Edit(
                "fault._fault_around",
                "pages, page_count = vma.file.inode.pages, vma.file.inode.page_count",
                "pages, page_count = vma.file.inode.pages, 0 if vma.private else vma.file.inode.page_count",
            ),
        ),
    ),
    Mutant(
        "private-writes-go-through",
        "files",
        "The first write to a page of a private mapping goes to the file.",
        "rule 9: the file is unchanged",
        (
            Edit(
                "fault._file_page",
                "if write and vma.private:",
                "if write and vma.flags < 0:",
                when="write and vma.private",
            ),
        ),
    ),
    Mutant(
        "page-cache-is-no-owner",
        "files",
        "A private write to a file's page that nobody else maps takes the page over.",
        "rule 9: the page cache has it too, so it is copied",
        (
            Edit(
                "fault._write_protected",
                "system.machine.refcount[frame] == 1",
                "system.machine.mapcount[frame] == 1",
                when="vma.file is not None",
            ),
        ),
    ),
    Mutant(
        "truncate-spares-private-copies",
        "files",
        "ftruncate leaves private mappings alone.",
        "rule 12: their copies past the new end go too",
        (
            Edit(
                "inode.Inode.unmap",
                "if start < stop:",
                "if start < stop and not vma.private:",
                when="vma.private",
            ),
        ),
    ),
    Mutant(
        "truncate-forgets-mappings",
        "files",
        "ftruncate leaves the pages in the address spaces that map them.",
        "rule 12: SIGBUS at the next access",
        (Edit("inode.Inode.truncate", "self.unmap(end, MAX_BYTES)", "pass"),),
    ),
    Mutant(
        "truncate-drops-the-last-page",
        "files",
        "ftruncate drops the page that the file ends in.",
        "it stays, with zeros behind the end",
        (
            Edit(
                "inode.Inode.truncate",
                "end = -(-size >> self.system.machine.page_shift)",
                "end = size >> self.system.machine.page_shift",
            ),
        ),
    ),
    Mutant(
        "truncate-leaves-the-tail",
        "files",
        "What ftruncate cut off within a page is there again when the file grows.",
        "mm/truncate.c, truncate_inode_partial_folio: zeroed",
        (Edit("inode.Inode.truncate", "self._zero_tail()", "pass"),),
    ),
    Mutant(
        "mapping-does-not-hold-the-file",
        "files",
        "A mapped file is gone when its last descriptor is closed.",
        "the mapping keeps it open",
        (
            Edit("vmas.VmaMap.add", "vma.file.get()", "pass"),
            Edit("vmas.VmaMap.remove", "vma.file.put()", "pass"),
        ),
    ),
    Mutant(
        "shared-write-of-read-only-file",
        "files",
        "A file that was opened to be read can be mapped shared and writable.",
        "rule 23: EACCES",
        (
            Edit(
                "mmap._checked_source",
                "if file is not None and vm_flags & VM_WRITE and not file.writable:",
                "if file is not None and vm_flags < 0:",
                when="file is not None and vm_flags & VM_WRITE and not file.writable",
            ),
        ),
    ),
    Mutant(
        "map-of-write-only-file",
        "files",
        "A file that was opened to be written only can be mapped.",
        "rule 23 and mmap(2): EACCES",
        (
            Edit(
                "mmap._checked_source",
                "if file is not None and not file.readable:",
                "if vm_flags < 0:",
                when="file is not None and not file.readable",
            ),
        ),
    ),
)

DESCRIPTORS: Final = (
    Mutant(
        "close-does-not-release",
        "files",
        "A closed descriptor can still be used.",
        "EBADF",
        (Edit("file.FdTable.close", "del self._files[fd]\n", "self._files[fd].get()\n"),),
    ),
    Mutant(
        "highest-descriptor-plus-one",
        "files",
        "A new descriptor is one above the highest.",
        "open(2): the lowest that is free",
        (Edit("file.FdTable.lowest_free", "    fd = 0\n", "    fd = max(self._files, default=-1) + 1\n"),),
    ),
    Mutant(
        "dup-opens-anew",
        "files",
        "dup makes another open file, with an offset of its own.",
        "dup(2): both share one, and mappings through either merge",
        (
            Edit(
                "fileio.do_dup",
                "    return _install(task, task.files[fd], close_on_exec=False)",
                "    file = File(task.files[fd].inode, task.files[fd].flags)\n"
                "    file.pos = task.files[fd].pos\n"
                "    return _install(task, file, close_on_exec=False)",
            ),
        ),
    ),
    Mutant(
        "fork-opens-anew",
        "files",
        "A child's descriptors have offsets of their own.",
        "fork(2): the same open files",
        (
            Edit(
                "file.FdTable.fork",
                "        new._files[fd] = file\n        file.get()",
                "        new._files[fd] = File(file.inode, file.flags)\n"
                "        new._files[fd].pos = file.pos\n"
                "        new._files[fd].get()",
            ),
        ),
    ),
    Mutant(
        "clone-files-copies",
        "files",
        "CLONE_FILES copies the descriptors.",
        "clone(2): one table for both",
        (
            Edit(
                "fork.clone",
                "caller.files.share() if flags & CLONE_FILES else",
                "caller.files.share() if flags & CLONE_FILES and flags & CLONE_THREAD else",
                when="flags & CLONE_FILES",
            ),
        ),
    ),
    Mutant(
        "write-cuts-the-file",
        "files",
        "A write that ends within a file makes that the file's end.",
        "the size only grows",
        (
            Edit(
                "inode.Inode.write",
                "self.size = max(self.size, offset + done)",
                "self.size = offset + done",
            ),
        ),
    ),
    Mutant(
        "read-does-not-advance",
        "files",
        "read leaves the offset where it was.",
        "read(2)",
        (Edit("memcalls.sys_read", "file.pos += done", "file.pos += 0"),),
    ),
    Mutant(
        "append-writes-at-the-offset",
        "files",
        "pwrite to a file with O_APPEND writes where it is told.",
        "pwrite(2), BUGS: at the end",
        (
            Edit(
                "fileio.do_pwrite",
                "at = file.inode.size if file.flags & os.O_APPEND else offset",
                "at = offset",
                when="file.flags & os.O_APPEND",
            ),
        ),
    ),
)

EXEC: Final = (
    Mutant(
        "exec-keeps-handlers",
        "exec",
        "Handlers of the old program stay.",
        "what was caught is SIG_DFL again",
        (
            Edit(
                "exec._leave_the_old",
                "group.sighand = Sighand((signum, Action(SIG_IGN)) for signum in ignored)",
                "group.sighand = Sighand(group.sighand.actions.items())",
            ),
        ),
    ),
    Mutant(
        "exec-forgets-what-is-ignored",
        "exec",
        "Signals that were ignored are no more.",
        "execve(2): they stay ignored",
        (
            Edit(
                "exec._leave_the_old",
                "group.sighand = Sighand((signum, Action(SIG_IGN)) for signum in ignored)",
                "group.sighand = Sighand()",
                when="ignored",
            ),
        ),
    ),
    Mutant(
        "exec-forgets-the-break",
        "exec",
        "The break stays where it was before the program was loaded.",
        "rule 36: at the page end of .bss",
        (Edit("exec.execve", "mm.set_brk(start_brk)", "pass"),),
    ),
    Mutant(
        "break-behind-the-file",
        "exec",
        "The break starts behind .data, .bss not counted.",
        "rule 36: at the page end of .bss",
        (Edit("elf.Elf.high", "each.vaddr + each.memsz", "each.vaddr + each.filesz"),),
    ),
    Mutant(
        "break-not-on-a-page",
        "exec",
        "The break starts where .bss ends, within a page.",
        "rule 36: at its page end",
        (Edit("exec._load", "mm.align(elf.high + bias))", "elf.high + bias)"),),
    ),
    Mutant(
        "bss-shows-the-file",
        "exec",
        "The rest of .data's last page has what the file has there.",
        "fs/binfmt_elf.c, padzero: .bss begins there, and reads zero",
        (Edit("exec._map_segment", "put_user(task, file_end, bytes(mapped_end - file_end))", "pass"),),
    ),
    Mutant(
        "stack-aligned-to-8",
        "exec",
        "A program starts with a stack aligned to 8 bytes.",
        "the ABI: 16",
        (
            Edit(
                "exec._make_stack",
                "task.stack = (random_at - 8 * len(words)) & -_STACK_ALIGN",
                "task.stack = (random_at - 8 * len(words)) & -8",
            ),
        ),
    ),
    Mutant(
        "new-stack-ignores-its-limit",
        "exec",
        "A new program's stack is as large as any, whatever RLIMIT_STACK says.",
        "fs/exec.c, setup_arg_pages: not above the limit",
        (
            Edit(
                "exec._make_stack",
                "min(wanted, task.limits.soft(Rlimit.STACK) & mm.page_mask)",
                "wanted",
                when="task.limits.soft(Rlimit.STACK) < wanted",
            ),
        ),
    ),
    Mutant(
        "stack-one-page-larger",
        "exec",
        "A new program's stack has one page more.",
        "fs/exec.c, setup_arg_pages: 128 KiB below the strings",
        (
            Edit(
                "exec._make_stack",
                "wanted = filled + mm.layout.stack_size - mm.page_size",
                "wanted = filled + mm.layout.stack_size",
            ),
        ),
    ),
    Mutant(
        "argc-counts-the-end",
        "exec",
        "argc counts the NULL behind argv.",
        "it does not",
        (
            Edit(
                "exec._make_stack",
                "words, at = [len(argv)], strings_at",
                "words, at = [len(argv) + 1], strings_at",
            ),
        ),
    ),
    Mutant(
        "exec-leaves-the-vfork-parent",
        "exec",
        "A parent in vfork sleeps on when its child execs.",
        "rule 47: it resumes",
        (
            Edit(
                "exec._leave_the_old",
                "    leave_mm(task)\n",
                "    parent, task.vfork_parent = task.vfork_parent, None\n"
                "    leave_mm(task)\n"
                "    task.vfork_parent = parent\n",
                when="task.vfork_parent is not None",
            ),
        ),
    ),
    Mutant(
        "close-on-exec-stays-open",
        "exec",
        "Descriptors with close-on-exec stay open.",
        "they are closed",
        (
            Edit(
                "exec._leave_the_old",
                "own.exec()",
                "pass",
                when="own.close_on_exec",
            ),
        ),
    ),
    Mutant(
        "close-on-exec-is-inherited",
        "exec",
        "A new descriptor is closed by exec if an old one of its number was.",
        "fs/file.c: the bit is of the descriptor",
        (
            Edit(
                "file.FdTable.close",
                "self.close_on_exec.discard(fd)",
                "pass",
                when="fd in self.close_on_exec",
            ),
        ),
    ),
    Mutant(
        "failed-write-leaves-nothing",
        "files",
        "A write whose source cannot be read leaves the file as it was.",
        "mm/filemap.c, generic_perform_write: page and size come first",
        (
            Edit(
                "fileio.do_pwrite",
                "_with_memory(task, partial(file.inode.begin_write, start))\n"
                "        piece = source.read(done, length)\n",
                "piece = source.read(done, length)\n        if not piece:\n            break\n",
            ),
        ),
    ),
    Mutant(
        "store-past-the-end-prepares-nothing",
        "files",
        "A store behind the file's end leaves the VMA as one that was never written.",
        "mm/memory.c, do_cow_fault: the anon_vma comes first",
        (
            Edit(
                "fault.mend",
                "elif vma.private:\n                mm.prepare_anon_vma(vma)",
                "elif vma.private and pgoff < vma.file.inode.page_count:\n"
                "                mm.prepare_anon_vma(vma)",
                when="pgoff >= vma.file.inode.page_count",
            ),
        ),
    ),
    Mutant(
        "read-only-bss",
        "exec",
        "The pages behind a read-only segment's file part may not be written.",
        "fs/binfmt_elf.c, elf_load: vm_brk_flags",
        (
            Edit(
                "exec._map_segment",
                "prot = PROT_READ | PROT_WRITE | segment.prot & PROT_EXEC",
                "prot = segment.prot",
                when="not segment.prot & PROT_WRITE",
            ),
        ),
    ),
    Mutant(
        "exec-keeps-the-exit-signal",
        "exec",
        "A child made with another signal than SIGCHLD ends with it after exec too.",
        "fs/exec.c, begin_new_exec: exit_signal becomes SIGCHLD",
        (
            Edit(
                "exec._leave_the_old",
                "group.exit_signal = SIGCHLD",
                "pass",
                when="group.exit_signal != SIGCHLD",
            ),
        ),
    ),
    Mutant(
        "script-keeps-argv0",
        "exec",
        "A script's interpreter gets the script's argv[0] as well as its path.",
        "fs/binfmt_script.c: the path stands in place of it",
        (Edit("exec._find", "*argv[1:]]", "*argv]"),),
    ),
)

FILES: Final = (*MAPPED, *DESCRIPTORS, *EXEC)
