"""Mistakes about pages: faults, copy-on-write, what fork does with entries, and the TLB."""

from typing import Final

from heaplab.testing.conform.mutants.plant import Edit, Mutant

FAULTS: Final = (
    Mutant(
        "no-zero-frame",
        "mm",
        "A read of a page that was never written makes a page.",
        "rule 2: it maps the one zero frame",
        (
            Edit(
                "fault._map_zero_frame",
                "return _map_frame(mm, va, mm.system.zero_frame, vma.page_prot)",
                "mm.prepare_anon_vma(vma)\n"
                "    return mm.space.map_zeroed(va, _ANON, vma.written_prot) is not None",
            ),
        ),
    ),
    Mutant(
        "accerr-is-maperr",
        "mm",
        "A write that the protection forbids is reported as one to where nothing is.",
        "rule 3: si_code 2",
        (
            Edit(
                "fault.mend",
                "if not vma.flags & VM_WRITE:\n                return DENIED",
                "if not vma.flags & VM_WRITE:\n                return _NOTHING_MAPPED",
            ),
        ),
    ),
    Mutant(
        "non-canonical-is-maperr",
        "mm",
        "An access to an address that cannot exist is reported as one to where nothing is.",
        "arch/x86: a general protection fault, SI_KERNEL, without an address",
        (
            Edit(
                "fault.mend",
                "return _NOTHING_MAPPED if mm.is_canonical(va) else _NO_ADDRESS",
                "return _NOTHING_MAPPED",
                when="not mm.is_canonical(va)",
            ),
        ),
    ),
    Mutant(
        "write-only-is-not-readable",
        "mm",
        "Memory with PROT_WRITE alone cannot be read.",
        "rule 13: on x86-64 it can",
        (
            Edit(
                "fault.mend",
                "error_code & PROTECTION or not vma.flags & VM_ACCESS",
                "error_code & PROTECTION or not vma.flags & VM_ACCESS & ~VM_WRITE",
            ),
        ),
    ),
    Mutant(
        "written-after-read-is-not-noted",
        "mm",
        "The first write to a VMA, if it was read before, gives it no anon_vma.",
        "mm/memory.c, wp_page_copy: vmf_anon_prepare",
        (
            Edit(
                "fault._write_protected",
                "    mm.prepare_anon_vma(vma)\n",
                "    mm.page_mask\n",
                when="vma.anon_vma is None",
            ),
        ),
    ),
    Mutant(
        "grown-stack-is-not-noted",
        "mm",
        "A stack that grew has no anon_vma until it is written.",
        "mm/vma.c, expand_downwards: anon_vma_prepare",
        (
            Edit(
                "stack.grow_stack",
                "mm.prepare_anon_vma(vma)",
                "pass",
                when="vma.anon_vma is None",
            ),
        ),
    ),
    Mutant(
        "grown-stack-is-noted-late",
        "mm",
        "A mapping that may not grow because of the limit has no anon_vma from the attempt.",
        "mm/vma.c, expand_downwards: anon_vma_prepare comes before acct_stack_growth",
        (
            Edit(
                "stack.grow_stack",
                "    mm.prepare_anon_vma(vma)\n",
                "    if vma.end - start <= limits.soft(Rlimit.STACK): mm.prepare_anon_vma(vma)\n",
                when="vma.anon_vma is None",
            ),
        ),
    ),
    Mutant(
        "window-begins-at-the-fault",
        "all",
        "The fault-around window begins at the page that was touched.",
        "rule 7: it is aligned to 64 KiB",
        (
            Edit(
                "fault._fault_around",
                "first = max(va & -window, vma.start)",
                "first = va & mm.page_mask",
            ),
        ),
    ),
    Mutant(
        "window-ends-aligned",
        "all",
        "A fault-around window that the VMA's start cuts short ends where the whole one would.",
        "rule 7, mm/memory.c, do_fault_around: 16 pages from the start",
        (
            Edit(
                "fault._fault_around",
                "end = min(first + window, (va & -table) + table, vma.end)",
                "end = min((va & -window) + window, (va & -table) + table, vma.end)",
            ),
        ),
    ),
    Mutant(
        "window-beyond-the-vma",
        "mm",
        "The fault-around window reaches beyond the VMA's end.",
        "rule 7: clipped to the VMA",
        (Edit("fault._fault_around", "(va & -table) + table, vma.end)", "(va & -table) + table)"),),
    ),
    Mutant(
        "window-makes-pages",
        "mm",
        "Fault-around makes pages that are not in the page cache.",
        "rule 7: only those that are",
        (
            Edit(
                "fault._fault_around",
                "pages.get(pgoff) if pgoff < page_count",
                "vma.file.inode.make_page(pgoff) if pgoff < page_count",
            ),
        ),
    ),
    Mutant(
        "window-beyond-the-file",
        "files",
        "Fault-around maps a page of the cache that lies behind the file's end.",
        "mm/filemap.c, filemap_map_pages: up to the size",
        (
            Edit(
                "fault._fault_around",
                "pages.get(pgoff) if pgoff < page_count else None",
                "pages.get(pgoff)",
                when="pgoff >= page_count and pgoff in pages",
            ),
        ),
    ),
    Mutant(
        "window-on-writes",
        "all",
        "A write fault maps the pages around it too.",
        "mm/memory.c, do_fault: only do_read_fault does",
        (
            Edit(
                "fault.mend",
                "if not write:\n",
                "if vma.file is not None:\n",
                when="write",
            ),
        ),
    ),
    Mutant(
        "shared-write-faults-twice",
        "mm",
        "Shared memory that was read faults once more when it is written.",
        "rule 8: write after read 0 faults",
        (
            Edit(
                "vma.Vma.set_flags",
                "at_once = flags & VM_SHARED and flags & VM_WRITE and not self.writenotify",
                "at_once = flags & VM_SHARED and flags & VM_WRITE and self.writenotify",
            ),
        ),
    ),
)

COPY_ON_WRITE: Final = (
    Mutant(
        "last-owner-copies",
        "all",
        "A write to a page that was shared copies it, though nobody else has it any more.",
        "rule 5: the last owner reuses the frame",
        (
            Edit(
                "fault._write_protected",
                "entry & _EXCLUSIVE or system.machine.refcount[frame] == 1",
                "entry & _EXCLUSIVE",
            ),
        ),
    ),
    Mutant(
        "reused-is-not-exclusive",
        "all",
        "A page that its last owner wrote is not marked exclusive again.",
        "mm/memory.c, wp_can_reuse_anon_folio: SetPageAnonExclusive; mprotect then grants write at once",
        (
            Edit(
                "fault._write_protected",
                "return mm.space.update(va, set=vma.written_prot)",
                "return mm.space.update(va, set=vma.written_prot & ~_EXCLUSIVE)",
            ),
        ),
    ),
    Mutant(
        "mprotect-never-grants-write",
        "mm",
        "mprotect to read-write leaves the entries read-only, exclusive pages' too.",
        "rule 14: 0 faults at the next write",
        (
            Edit(
                "mprotect._protect_entries",
                "having=int(Pte.EXCLUSIVE), set=int(Pte.WRITE)",
                "having=int(Pte.EXCLUSIVE), set=0",
            ),
        ),
    ),
    Mutant(
        "mprotect-breaks-copy-on-write",
        "all",
        "mprotect to read-write makes entries of shared pages writable.",
        "rule 14: only where the page is exclusively owned",
        (
            Edit(
                "mprotect._protect_entries",
                "having=int(Pte.EXCLUSIVE), set=int(Pte.WRITE)",
                "having=int(Pte.DIRTY), set=int(Pte.WRITE)",
            ),
        ),
    ),
    Mutant(
        "mprotect-leaves-write",
        "mm",
        "mprotect to read-only changes the VMA but leaves entries writable.",
        "mm/mprotect.c, change_pte_range",
        (
            Edit(
                "mprotect._protect_entries",
                "clear=RIGHTS & ~rights",
                "clear=RIGHTS & ~rights & ~int(Pte.WRITE)",
            ),
        ),
    ),
    Mutant(
        "dead-keep-their-pages",
        "all",
        "The memory of a process that ended is kept until it is waited for, and longer.",
        "rules 5 and 43: it goes at exit, and what was shared with it can be reused",
        (Edit("exit.leave_mm", "    mm.put()", "    mm.users"),),
    ),
)

FORK: Final = (
    Mutant(
        "fork-copies-zero-entries",
        "all",
        "fork copies the entries of private VMAs that were only read.",
        "rule 6: zero-page-only VMAs arrive empty",
        (Edit("fork.dup_mm", "if written and fork_pages(", "if (written or vma.private) and fork_pages("),),
    ),
    Mutant(
        "fork-copies-shared-entries",
        "all",
        "fork copies the entries of shared mappings.",
        "rule 6: they arrive empty",
        (
            Edit(
                "fork.dup_mm",
                "if written and fork_pages(",
                "if (written or not vma.private) and fork_pages(",
            ),
        ),
    ),
    Mutant(
        "fork-leaves-write",
        "all",
        "fork copies the entries as they are: both sides may write.",
        "the pages are marked copy-on-write on both sides",
        (Edit("fork_policy.copy_on_write", "cow=True", "cow=False"),),
    ),
    Mutant(
        "fork-forgets-the-parent",
        "all",
        "fork takes the right to write from the child's entries only.",
        "the pages are marked copy-on-write on both sides",
        (
            Edit(
                "fork_policy.copy_on_write",
                "return parent.fork_range(child, start, end, cow=True)",
                "count = parent.fork_range(child, start, end, cow=True)\n"
                "    parent.protect_range(start, end, having=1 << 6, set=1 << 1)\n"
                "    return count",
            ),
        ),
    ),
    Mutant(
        "child-shares-anon-vma",
        "all",
        "A child's VMAs have the very anon_vmas of the parent's.",
        "mm/rmap.c, anon_vma_fork: each VMA gets one of its own",
        (Edit("fork.dup_mm", "(AnonVma(), True)", "(vma.anon_vma, True)"),),
    ),
    Mutant(
        "child-forgets-inheritance",
        "all",
        "A child's VMAs merge as if they had been written there.",
        "rule 18: an inherited anon_vma keeps the unwritten apart",
        (Edit("fork.dup_mm", "(AnonVma(), True)", "(AnonVma(), False)"),),
    ),
)

TLB: Final = (
    Mutant(
        "fork-forgets-the-tlb",
        "all",
        "fork does not flush the parent's TLB: it still writes to pages that are shared now.",
        "kernel/fork.c, dup_mmap: flush_tlb_mm(oldmm)",
        (Edit("fork.dup_mm", "old.flush_all()", "pass"),),
    ),
    Mutant(
        "cow-forgets-the-tlb",
        "all",
        "A copy on write does not flush the page: another task of the address space sees the old one.",
        "mm/memory.c, wp_page_copy: ptep_clear_flush",
        (Edit("fault._write_protected", "mm.flush_range(page, page + mm.page_size)", "pass"),),
    ),
    Mutant(
        "mprotect-forgets-the-tlb",
        "mm",
        "mprotect does not flush: the CPU goes on with the rights it remembers.",
        "mm/mprotect.c: tlb_finish_mmu",
        (Edit("mprotect._protect_entries", "mm.flush_range(start, end)", "pass"),),
    ),
    Mutant(
        "unmap-forgets-the-tlb",
        "mm",
        "Pages that are taken away stay in the TLB.",
        "mm/memory.c, unmap_vmas: flushed, before the frames are freed",
        (Edit("mm.Mm.zap", "self.flush_range(start, end)", "pass"),),
    ),
    Mutant(
        "flush-misses-the-last-page",
        "mm",
        "A flush of a range leaves out its last page.",
        "arch/x86/mm/tlb.c, flush_tlb_func",
        (
            Edit(
                "mm.Mm.flush_range",
                "range(start, end, self.page_size)",
                "range(start, end - self.page_size, self.page_size)",
            ),
        ),
    ),
    Mutant(
        "large-flush-is-small",
        "mm",
        "A flush of more than 33 pages flushes 33.",
        "arch/x86/mm/tlb.c: above the ceiling, all of the address space",
        (
            Edit(
                "mm.Mm.flush_range",
                "self.space.flush()",
                "self.flush_range(start, start + (FLUSH_CEILING << self.page_shift))",
            ),
        ),
    ),
)

PAGES: Final = (*FAULTS, *COPY_ON_WRITE, *FORK, *TLB)
