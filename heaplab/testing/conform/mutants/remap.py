"""Mistakes about mappings that stay: mremap, madvise, mlock, mincore, msync."""

from typing import Final

from heaplab.testing.conform.mutants.plant import Edit, Mutant

MREMAP: Final = (
    Mutant(
        "moved-and-written-gets-new-offset",
        "mm",
        "A private VMA that was written counts its pages from its new place after a move.",
        "rule 26: it keeps its page offset",
        (
            Edit(
                "mremap._move",
                "if vma.file is None and vma.anon_vma is None:",
                "if vma.file is None:",
                when="vma.file is None and vma.anon_vma is not None",
            ),
        ),
    ),
    Mutant(
        "moved-and-unwritten-keeps-offset",
        "mm",
        "A private VMA that was never written counts its pages from where it came from after a move.",
        "rule 26: from its new place, so that it merges there",
        (Edit("mremap._move", "new.pgoff = at >> mm.page_shift", "new.pgoff += 0"),),
    ),
    Mutant(
        "moved-without-accounting",
        "mm",
        "A moved VMA loses its accounting flag.",
        "mm/vma.c, copy_vma: flags are the same",
        (
            Edit(
                "mremap._move",
                "new = Vma(at, at + asked.new_len, vma.flags,",
                "new = Vma(at, at + asked.new_len, vma.flags & ~VM_ACCOUNT,",
                when="vma.flags & VM_ACCOUNT",
            ),
        ),
    ),
    Mutant(
        "moved-with-old-flush-missing",
        "mm",
        "After a move the TLB still has the old place's entries.",
        "mm/mremap.c, move_ptes: flushed, before the tables are unlocked",
        (Edit("mremap._move", "mm.flush_range(start, end)", "pass"),),
    ),
    Mutant(
        "moved-pages-are-left-behind",
        "mm",
        "A move gives the new place no pages: each is zeros, made at the next access.",
        "rule 24: it keeps the frames, 0 faults afterwards",
        (
            Edit(
                "mremap._move",
                "while mm.space.move_range(start, asked.old_len, at) is None:",
                "while asked.old_len < 0:",
            ),
        ),
    ),
    Mutant(
        "mremap-wants-a-page-between",
        "mm",
        "A mapping grows in place only when a page stays free above it.",
        "rule 24: up to the next mapping",
        (
            Edit(
                "mremap._grow",
                "not mm.vmas.overlapping(vma.end, end)",
                "not mm.vmas.overlapping(vma.end, end + mm.page_size)",
            ),
        ),
    ),
    Mutant(
        "mremap-doubles-private",
        "mm",
        "mremap with old length 0 maps private memory a second time.",
        "rule 25: EINVAL",
        (
            Edit(
                "mremap._checked_vma",
                "if not asked.old_len and not vma.flags &",
                "if asked.old_len < vma.flags &",
                when="not asked.old_len",
            ),
        ),
    ),
    Mutant(
        "mremap-adjacent-is-overlap",
        "mm",
        "mremap to the place right behind the old one is refused.",
        "rule 25: only overlap is",
        (
            Edit(
                "mremap._check_arguments",
                "asked.addr + asked.old_len > asked.new_addr and",
                "asked.addr + asked.old_len >= asked.new_addr and",
                when="asked.addr + asked.old_len == asked.new_addr",
            ),
        ),
    ),
    Mutant(
        "dontunmap-stays-written",
        "mm",
        "What MREMAP_DONTUNMAP leaves is still taken for a VMA with private pages.",
        "mm/mremap.c, dontunmap_complete: its anon_vma is unlinked",
        (Edit("mremap._move", "left.anon_vma, left.inherited = None, False", "pass"),),
    ),
    Mutant(
        "dontunmap-unmaps",
        "mm",
        "MREMAP_DONTUNMAP takes the old VMA away as a plain move does.",
        "rule 27: the old range stays and reads zero",
        (
            Edit(
                "mremap._move",
                "keeps_old = bool(asked.flags & MREMAP_DONTUNMAP)",
                "keeps_old = not asked.flags & MREMAP_MAYMOVE",
                when="asked.flags & MREMAP_DONTUNMAP",
            ),
        ),
    ),
)

ADVICE: Final = (
    Mutant(
        "dontneed-stops-at-a-hole",
        "mm",
        "MADV_DONTNEED leaves what lies behind a hole.",
        "rule 20: it applies everywhere, then ENOMEM",
        (
            Edit(
                "madvise.madvise",
                "hole = hole or vma.start > at\n",
                "hole = hole or vma.start > at\n        if hole:\n            break\n",
            ),
        ),
    ),
    Mutant(
        "advice-forgives-holes",
        "mm",
        "madvise across a hole between two VMAs is no error.",
        "rule 20: ENOMEM",
        (
            Edit(
                "madvise.madvise",
                "if hole or at < end:",
                "if at < end:",
                when="hole",
            ),
        ),
    ),
    Mutant(
        "dontneed-drops-shared-data",
        "mm",
        "MADV_DONTNEED of shared memory drops its data.",
        "rule 28: shared keeps its data",
        (
            Edit(
                "madvise._drop",
                "    mm.zap(start, end)",
                "    mm.zap(start, end)\n"
                "    if vma.file is not None and not vma.private:\n"
                "        inode, first = vma.file.inode, vma.page_at(start, mm.page_shift)\n"
                "        for pgoff in range(first, first + ((end - start) >> mm.page_shift)):\n"
                "            if pgoff in inode.pages:\n"
                "                inode.unmap(pgoff, pgoff + 1)\n"
                "                inode.drop_page(pgoff)",
                when="not vma.private",
            ),
        ),
    ),
    Mutant(
        "dontneed-keeps-private-copies",
        "files",
        "MADV_DONTNEED keeps the private copies of a file's pages.",
        "rule 28: they become the file's content again",
        (
            Edit(
                "madvise._drop",
                "    mm.zap(start, end)",
                "    if vma.file is None:\n        mm.zap(start, end)",
                when="vma.file is not None and vma.private",
            ),
        ),
    ),
    Mutant(
        "dontneed-of-locked",
        "mm",
        "MADV_DONTNEED drops locked pages.",
        "rule 28: EINVAL",
        (
            Edit(
                "madvise._drop",
                "if vma.flags & VM_LOCKED and advice != MADV_DONTNEED_LOCKED:",
                "if vma.flags & VM_LOCKED and advice == MADV_DONTNEED_LOCKED:",
                when="vma.flags & VM_LOCKED",
            ),
        ),
    ),
    Mutant(
        "free-drops-at-once",
        "mm",
        "MADV_FREE drops the pages.",
        "rule 29: entry and data stay while memory is plentiful",
        (
            Edit(
                "madvise._free",
                "mm.space.update(start + (index << mm.page_shift), clear=_UNTOUCHED)",
                "mm.zap(start + (index << mm.page_shift), start + (index + 1 << mm.page_shift))",
            ),
        ),
    ),
    Mutant(
        "free-of-files",
        "mm",
        "MADV_FREE is accepted for memory with a file behind it.",
        "mm/madvise.c, madvise_free_single_vma: EINVAL, of shared anonymous memory too",
        (
            Edit(
                "madvise._free",
                "vma.flags & VM_LOCKED or vma.file is not None",
                "vma.flags & VM_LOCKED",
                when="vma.file is not None",
            ),
        ),
    ),
    Mutant(
        "dontfork-forks",
        "all",
        "MADV_DONTFORK memory is there in the child.",
        "rule 31: it is not",
        (
            Edit(
                "fork.dup_mm",
                "if vma.flags & VM_DONTCOPY:",
                "if vma.start > vma.end:",
                when="vma.flags & VM_DONTCOPY",
            ),
        ),
    ),
    Mutant(
        "wipeonfork-copies",
        "all",
        "MADV_WIPEONFORK memory arrives in the child with its pages.",
        "rule 31: it reads zero there",
        (
            Edit(
                "fork.dup_mm",
                "vma.anon_vma is not None and not vma.flags & VM_WIPEONFORK",
                "vma.anon_vma is not None",
                when="vma.flags & VM_WIPEONFORK and vma.anon_vma is not None",
            ),
        ),
    ),
    Mutant(
        "wipeonfork-of-files",
        "mm",
        "MADV_WIPEONFORK is accepted for memory with a file behind it.",
        "mm/madvise.c: EINVAL, of shared anonymous memory too",
        (
            Edit(
                "madvise._change_flags",
                "if advice == MADV_WIPEONFORK and vma.file is not None:",
                "if advice == MADV_WIPEONFORK and vma.flags < 0:",
                when="vma.file is not None and advice == MADV_WIPEONFORK",
            ),
        ),
    ),
    Mutant(
        "child-inherits-locks",
        "all",
        "A child's memory is locked as the parent's is.",
        "kernel/fork.c, dup_mmap: VM_LOCKED is cleared",
        (
            Edit(
                "fork.dup_mm",
                "copy.set_flags(copy.flags & ~VM_LOCKED)",
                "copy.set_flags(copy.flags)",
                when="vma.flags & VM_LOCKED",
            ),
        ),
    ),
    Mutant(
        "mlock-makes-no-pages",
        "mm",
        "mlock notes the flag and makes no pages.",
        "mm/mlock.c, do_mlock: populates",
        (Edit("mlock.mlock", "if populate(task, start, end, stop=True):", "if end < start:"),),
    ),
    Mutant(
        "mincore-asks-the-entries",
        "mm",
        "mincore says of a file's page that it is absent where only the page cache has it.",
        "mm/mincore.c: the page cache is asked",
        (Edit("mlock.mincore", "bool(entry) or first + i in cached", "bool(entry) or first + i < 0"),),
    ),
    Mutant(
        "msync-forgives-holes",
        "mm",
        "msync across a hole between two VMAs is no error.",
        "mm/msync.c: ENOMEM",
        (
            Edit(
                "mlock.msync",
                "if hole or at < end:",
                "if at < end:",
                when="hole",
            ),
        ),
    ),
    Mutant(
        "msync-takes-both",
        "mm",
        "msync takes MS_SYNC and MS_ASYNC together.",
        "mm/msync.c: EINVAL",
        (
            Edit(
                "mlock.msync",
                "if flags & MS_ASYNC and flags & MS_SYNC:",
                "if flags < 0:",
                when="flags & MS_ASYNC and flags & MS_SYNC",
            ),
        ),
    ),
)

REMAP: Final = (*MREMAP, *ADVICE)
