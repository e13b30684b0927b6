"""Mistakes about address spaces: where mappings go, which are one, what a call does to a range of them."""

from typing import Final

from heaplab.testing.conform.mutants.plant import Edit, Mutant

MERGING: Final = (
    Mutant(
        "merge-ignores-accounting",
        "mm",
        "Neighbours merge though only one of them counts against overcommit.",
        "rules 15 and 17: VM_ACCOUNT is a flag like the others",
        (
            Edit(
                "vma.mergeable",
                "if left.flags != right.flags or",
                "if (left.flags ^ right.flags) & ~VM_ACCOUNT or",
            ),
            Edit(
                "vma.continues",
                "not (left.flags ^ right.flags) & ~VM_ACCESS",
                "not (left.flags ^ right.flags) & ~(VM_ACCESS | VM_ACCOUNT)",
            ),
        ),
    ),
    Mutant(
        "merge-ignores-anon-vma",
        "mm",
        "Neighbours that were written one by one merge.",
        "rule 15: their anon_vmas must be the same",
        (
            Edit(
                "vma.mergeable",
                "if left.anon_vma is right.anon_vma:",
                "if (left.anon_vma is None) == (right.anon_vma is None):",
            ),
        ),
    ),
    Mutant(
        "merge-with-inherited-below",
        "all",
        "A VMA that came through fork, with pages, takes in new memory above it.",
        "rule 18: an inherited anon_vma keeps the unwritten apart",
        (Edit("vma.mergeable", "right.anon_vma is None and not left.inherited", "right.anon_vma is None"),),
    ),
    Mutant(
        "merge-with-inherited-above",
        "all",
        "A VMA that came through fork, with pages, takes in new memory below it.",
        "rule 18: an inherited anon_vma keeps the unwritten apart",
        (Edit("vma.mergeable", "return not right.inherited", "return True"),),
    ),
    Mutant(
        "inherited-is-lent",
        "mm",
        "The first write to a VMA takes the anon_vma of a neighbour that came through fork.",
        "mm/vma.c, anon_vma_compatible: not one behind which a fork lies",
        (
            Edit(
                "mm._lends",
                "vma.anon_vma is not None and not vma.inherited",
                "vma.anon_vma is not None",
                when="vma.inherited",
            ),
        ),
    ),
    Mutant(
        "nothing-borrowed-from-above",
        "mm",
        "The first write to a VMA does not look at the neighbour above for an anon_vma.",
        "mm/vma.c, find_mergeable_anon_vma: the next VMA first, then the previous one",
        (
            Edit(
                "mm.Mm.prepare_anon_vma",
                "if above is not None and _lends(above) and continues(vma, above, self.page_shift):",
                "if above is not None and below is above:",
            ),
        ),
    ),
    Mutant(
        "borrowed-from-below-first",
        "mm",
        "The first write to a VMA between two takes the anon_vma of the one below.",
        "mm/vma.c, find_mergeable_anon_vma: the next VMA first, then the previous one",
        (
            Edit(
                "mm.Mm.prepare_anon_vma",
                "if above is not None and _lends(above) and continues(vma, above, self.page_shift):",
                "if below is not None and _lends(below) and continues(below, vma, self.page_shift):\n"
                "        vma.anon_vma = below.anon_vma\n"
                "    elif above is not None and _lends(above) and continues(vma, above, self.page_shift):",
            ),
        ),
    ),
    Mutant(
        "gap-fill-merges-both",
        "mm",
        "What fills the gap between two VMAs written one by one makes one VMA of all three.",
        "rule 16: it merges with the left one only",
        (
            Edit(
                "mm.Mm.merge",
                "right is not None and not anon_vmas_agree(left, right)",
                "right is not None and left.flags != right.flags",
            ),
        ),
    ),
    Mutant(
        "gap-fill-merges-right",
        "mm",
        "What fills the gap between two VMAs written one by one merges with the right one.",
        "rule 16: it merges with the left one only",
        (
            Edit(
                "mm.Mm.merge",
                "not anon_vmas_agree(left, right):\n        right = None",
                "not anon_vmas_agree(left, right):\n        left = None",
            ),
        ),
    ),
    Mutant(
        "merged-anon-vma-is-lost",
        "mm",
        "A VMA that takes in a written neighbour does not take over its anon_vma.",
        "mm/vma.c, dup_anon_vma: the merged VMA has it",
        (
            Edit(
                "vma.Vma.adopt",
                "if self.anon_vma is None:",
                "if self.anon_vma is other:",
                when="self.anon_vma is not other.anon_vma",
            ),
        ),
    ),
    Mutant(
        "split-keeps-offset",
        "mm",
        "The upper part of a split VMA keeps the offset of the whole.",
        "mm/vma.c, __split_vma: it moves on by the lower part's pages",
        (
            Edit(
                "vma.Vma.piece",
                "self.pgoff + ((start - self.start) >> page_shift)",
                "self.pgoff",
            ),
        ),
    ),
    Mutant(
        "cut-front-keeps-offset",
        "mm",
        "A VMA that starts further up than before keeps its offset.",
        "mm/vma.c, vma_set_range: the offset moves with the start",
        (
            Edit(
                "vmas.VmaMap.resize",
                "vma.pgoff += (start - vma.start) >> self._page_shift",
                "pass",
            ),
        ),
    ),
    Mutant(
        "merge-ignores-offset",
        "mm",
        "Neighbours merge whatever pages of their file, or of their place of birth, they show.",
        "rules 15, 21 and 26: offsets must continue",
        (
            Edit(
                "vma.continues",
                "left.pgoff + ((left.end - left.start) >> page_shift) == right.pgoff",
                "(left.file is None or left.pgoff + ((left.end - left.start) >> page_shift) == right.pgoff)",
            ),
        ),
    ),
)

PLACING: Final = (
    Mutant(
        "mmap-bottom-up",
        "mm",
        "mmap without a hint takes the lowest hole.",
        "rule 22: top-down",
        (
            Edit(
                "mmap._hole",
                "found = mm.vmas.highest_hole(length, layout.min_addr, layout.mmap_base)",
                "found = None",
            ),
        ),
    ),
    Mutant(
        "huge-pages-are-not-aligned",
        "mm",
        "Mappings of whole huge pages go to the highest hole like others.",
        "mm/huge_memory.c, thp_get_unmapped_area",
        (
            Edit(
                "mmap.place",
                "elif offset is not None and not length % layout.huge_page:",
                "elif False:",
                when="not addr and offset is not None and not length % layout.huge_page",
            ),
        ),
    ),
    Mutant(
        "refused-fixed-leaves-no-cuts",
        "mm",
        "What MAP_FIXED refuses has cut nothing.",
        "mm/vma.c, __mmap_prepare: the range is cut out before limits are asked",
        (
            Edit(
                "mmap.mmap",
                "replaced = _cut_out(mm, addr, end)  # and what refuses from here on leaves the cuts\n"
                "    if not may_expand(mm, task.limits, vm_flags, pages - _pages_of(mm, replaced)):\n"
                "        fail(errno.ENOMEM)\n",
                "replaced = [vma.piece(max(addr, vma.start), min(end, vma.end), mm.page_shift)\n"
                "        for vma in in_the_way]\n"
                "    if not may_expand(mm, task.limits, vm_flags, pages - _pages_of(mm, replaced)):\n"
                "        fail(errno.ENOMEM)\n"
                "    replaced = _cut_out(mm, addr, end)\n",
                when="in_the_way",
            ),
        ),
    ),
    Mutant(
        "heap-takes-in-bss",
        "exec",
        "The heap's first page merges with the .bss before it.",
        "mm/mmap.c, brk: only what lies in the heap is grown",
        (Edit("mmap._grow_heap", "start > mm.start_brk and ", "", when="start == mm.start_brk"),),
    ),
    Mutant(
        "exact-hole-refused",
        "mm",
        "A hole that has just the length asked for is passed over.",
        "rule 22: the highest hole that fits",
        (Edit("vmas.VmaMap._top_of_hole", "if top - vma.end >= length:", "if top - vma.end > length:"),),
    ),
    Mutant(
        "gap-below-growing-mapping-taken",
        "mm",
        "mmap puts a mapping right below one that grows down.",
        "rule 38: the stack guard gap is not free",
        (
            Edit(
                "vmas.VmaMap.highest_hole",
                "if above is None or above.lowest(self._guard_gap) >= top:",
                "if above is None or above.start >= top:",
            ),
        ),
    ),
    Mutant(
        "hint-ignores-guard-gap",
        "mm",
        "A hint in the gap below a mapping that grows down is used.",
        "rule 38: that place is not free",
        (
            Edit(
                "mmap.place",
                "addr + length <= above.lowest(layout.guard_gap)",
                "addr + length <= above.start",
                when="above is not None and above.flags & VM_GROWSDOWN",
            ),
        ),
    ),
    Mutant(
        "busy-hint-is-moved",
        "mm",
        "Where the hint's place is taken, mmap looks for the next hole below it.",
        "rule 22: a hint at a busy place is ignored",
        (
            Edit(
                "mmap.place",
                "found = _hole(mm, length)",
                "top = min(addr or layout.mmap_base, layout.mmap_base)\n"
                "    found = mm.vmas.highest_hole(length, layout.min_addr, top)",
            ),
        ),
    ),
    Mutant(
        "hint-rounded-up",
        "mm",
        "A hint within a page is rounded up.",
        "rule 22: rounded down",
        (Edit("mmap.place", "addr &= mm.page_mask\n", "addr = mm.align(addr)\n"),),
    ),
    Mutant(
        "noreplace-replaces",
        "mm",
        "MAP_FIXED_NOREPLACE unmaps what is in the way.",
        "rule 23: EEXIST",
        (Edit("mmap.mmap", "if flags & MAP_FIXED_NOREPLACE and in_the_way:", "if flags & MAP_TYPE == 0:"),),
    ),
    Mutant(
        "unaligned-offset-rounded",
        "mm",
        "mmap rounds an offset down to a page.",
        "rule 23: EINVAL",
        (
            Edit(
                "memcalls.sys_mmap",
                "if offset % mm.page_size:\n        fail(errno.EINVAL)",
                "offset -= offset % mm.page_size",
            ),
        ),
    ),
    Mutant(
        "no-accounting-flag",
        "mm",
        "Writable private memory of mmap carries no accounting flag.",
        "rules 17 and 35: it does, so that it merges with the heap, and stays apart where it lost it",
        (Edit("mmap.mmap", "vm_flags |= VM_ACCOUNT", "vm_flags |= 0"),),
    ),
    Mutant(
        "noreserve-is-accounted",
        "mm",
        "MAP_NORESERVE memory counts against overcommit as other memory does.",
        "rule 40: NORESERVE passes",
        (
            Edit(
                "mmap.mmap",
                "vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE",
                "vm_flags & (VM_SHARED | VM_WRITE) == VM_WRITE",
                when="vm_flags & VM_NORESERVE",
            ),
        ),
    ),
    Mutant(
        "overcommit-unlimited",
        "mm",
        "An obviously excessive mmap is granted.",
        "rule 40: ENOMEM under overcommit_memory 0",
        (
            Edit(
                "limits.charge",
                "refused = pages > total",
                "refused = False",
                when="pages > total",
            ),
        ),
    ),
    Mutant(
        "populate-reads",
        "mm",
        "MAP_POPULATE only reads the pages of private writable memory.",
        "mm/gup.c, populate_vma_page_range: they are made as if written",
        (
            Edit(
                "uaccess.populate",
                "write = vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE",
                "write = False",
                when="vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE",
            ),
        ),
    ),
    Mutant(
        "populate-writes-shared",
        "files",
        "MAP_POPULATE writes the pages of shared writable memory.",
        "mm/gup.c, populate_vma_page_range: shared ones are read, the cached ones around them too",
        (
            Edit(
                "uaccess.populate",
                "write = vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE",
                "write = bool(vma.flags & VM_WRITE)",
                when="vma.flags & VM_SHARED and vma.flags & VM_WRITE",
            ),
        ),
    ),
    Mutant(
        "populate-without-faults",
        "mm",
        "Pages made in advance count no minor faults.",
        "rule 30: one a page",
        (
            Edit(
                "uaccess.fault_in",
                "            if refusal:\n",
                "            task.minflt -= refusal is None\n            if refusal:\n",
            ),
        ),
    ),
)

UNMAPPING: Final = (
    Mutant(
        "munmap-of-a-hole-fails",
        "mm",
        "munmap of a range with nothing in it is an error.",
        "rule 19: it returns 0",
        (
            Edit(
                "mmap.munmap",
                "    unmap(mm, addr, addr + mm.align(length))",
                "    if not mm.vmas.overlapping(addr, addr + mm.align(length)):\n"
                "        fail(errno.ENOMEM)\n"
                "    unmap(mm, addr, addr + mm.align(length))",
            ),
        ),
    ),
    Mutant(
        "munmap-rounds-down",
        "mm",
        "munmap leaves the page that its length ends in.",
        "rule 19: lengths are rounded up",
        (Edit("mmap.munmap", "addr + mm.align(length)", "addr + max(mm.page_size, length & mm.page_mask)"),),
    ),
    Mutant(
        "munmap-to-the-top-refused",
        "mm",
        "munmap of a range that ends where user addresses end is refused.",
        "rule 19: only past TASK_SIZE",
        (Edit("mmap.munmap", "length > task_size - addr", "length >= task_size - addr"),),
    ),
    Mutant(
        "mprotect-checks-holes-first",
        "mm",
        "mprotect across a hole changes nothing.",
        "rule 20: it changes all up to the hole, then ENOMEM",
        (
            Edit(
                "mprotect.mprotect",
                "    at = addr\n",
                "    inside = mm.vmas.overlapping(addr, end)\n"
                "    if sum(min(end, vma.end) - max(addr, vma.start) for vma in inside) < end - addr:\n"
                "        fail(errno.ENOMEM)\n"
                "    at = addr\n",
            ),
        ),
    ),
    Mutant(
        "mprotect-over-holes",
        "mm",
        "mprotect goes on behind a hole.",
        "rule 20: up to the hole",
        (
            Edit(
                "mprotect.mprotect",
                "        if vma.start > at:\n            break\n",
                "        at = max(at, vma.start)\n",
            ),
        ),
    ),
    Mutant(
        "mprotect-always-drops-accounting",
        "mm",
        "mprotect to read-only takes the accounting flag from a written VMA too.",
        "rule 17: only if it was never faulted",
        (
            Edit(
                "mprotect._protect",
                "elif flags & VM_ACCOUNT and vma.file is None and vma.anon_vma is None:",
                "elif flags & VM_ACCOUNT and vma.file is None:",
            ),
        ),
    ),
    Mutant(
        "mprotect-never-drops-accounting",
        "mm",
        "mprotect to read-only leaves the accounting flag.",
        "rule 17: it drops it if the VMA was never faulted",
        (Edit("mprotect._protect", "flags &= ~VM_ACCOUNT", "flags |= 0"),),
    ),
    Mutant(
        "mprotect-forgets-the-file-mode",
        "files",
        "mprotect grants write to a shared mapping of a file that may only be read.",
        "rule 23: EACCES",
        (
            Edit(
                "mprotect.mprotect",
                "if flags & ~(flags >> 4) & VM_ACCESS:",
                "if flags < prot:",
                when="flags & ~(flags >> 4) & VM_ACCESS",
            ),
        ),
    ),
)

HEAP_AND_STACK: Final = (
    Mutant(
        "brk-fills-the-last-page",
        "mm",
        "The heap may grow up to the next mapping.",
        "rule 34: one page stays free",
        (
            Edit(
                "mmap._grow_heap",
                "end + mm.page_size > above.lowest(mm.layout.guard_gap)",
                "end > above.lowest(mm.layout.guard_gap)",
            ),
        ),
    ),
    Mutant(
        "brk-reports-errors",
        "mm",
        "A brk that cannot grow returns ENOMEM.",
        "rule 32: the current break",
        (
            Edit(
                "mmap.brk",
                "if not _grow_heap(mm, task.limits, old_end, new_end):\n            return mm.brk",
                "if not _grow_heap(mm, task.limits, old_end, new_end):\n            fail(errno.ENOMEM)",
            ),
        ),
    ),
    Mutant(
        "brk-shrink-keeps-pages",
        "mm",
        "A break that goes down keeps the heap's VMA and pages.",
        "rule 33: shrinking frees them",
        (Edit("mmap.brk", "unmap(mm, new_end, old_end)", "assert held is not None"),),
    ),
    Mutant(
        "brk-shrink-frees-one-less",
        "mm",
        "A break that goes down by one page keeps that page.",
        "rule 33: shrinking frees the pages",
        (Edit("mmap.brk", "elif new_end < old_end:", "elif new_end + mm.page_size < old_end:"),),
    ),
    Mutant(
        "brk-rounds-the-break",
        "mm",
        "The break is kept rounded up to pages.",
        "rule 32: VMAs are rounded, the break is not",
        (Edit("mmap.brk", "mm.set_brk(wanted)", "mm.set_brk(mm.align(wanted))"),),
    ),
    Mutant(
        "child-breaks-anew",
        "all",
        "A child's break is where the program's started.",
        "rule 33: it is the parent's, and from then on its own",
        (Edit("fork.dup_mm", "new.set_brk(old.brk)", "new.set_brk(old.start_brk)"),),
    ),
    Mutant(
        "stack-without-limit",
        "mm",
        "The stack grows down as far as it is touched.",
        "rule 37: up to RLIMIT_STACK",
        (
            Edit(
                "stack.grow_stack",
                "if vma.end - start > limits.soft(Rlimit.STACK):",
                "if pages < 0:",
            ),
        ),
    ),
    Mutant(
        "stack-one-page-short",
        "mm",
        "The stack may not become quite as large as its limit.",
        "rule 37: up to RLIMIT_STACK",
        (
            Edit(
                "stack.grow_stack",
                "vma.end - start > limits.soft(Rlimit.STACK)",
                "vma.end - start >= limits.soft(Rlimit.STACK)",
            ),
        ),
    ),
    Mutant(
        "no-stack-guard-gap",
        "mm",
        "A stack grows until it meets the mapping below.",
        "rule 38: it stops 256 pages short",
        (
            Edit(
                "stack.grow_stack",
                "start - below.end < layout.guard_gap",
                "start < below.end",
                when="below is not None",
            ),
        ),
    ),
    Mutant(
        "guard-gap-above-inaccessible",
        "mm",
        "A stack stops 256 pages short of a PROT_NONE mapping too.",
        "rule 38: PROT_NONE neighbours do not count",
        (
            Edit(
                "stack.grow_stack",
                "and below.flags & VM_ACCESS\n",
                "and below.end\n",
                when="below is not None and not below.flags & VM_ACCESS",
            ),
        ),
    ),
    Mutant(
        "stack-growth-beyond-rlimit-as",
        "mm",
        "Growth of the stack is not held against RLIMIT_AS.",
        "rule 39: SIGSEGV",
        (
            Edit(
                "stack.grow_stack",
                "if not may_expand(mm, limits, vma.flags, pages):",
                "if pages < 0:",
                when="limits.soft(Rlimit.AS) < 1 << 62",
            ),
        ),
    ),
    Mutant(
        "rlimit-data-counts-read-only",
        "mm",
        "RLIMIT_DATA counts private mappings that cannot be written.",
        "rule 39: read-only ones are exempt",
        (
            Edit(
                "limits.may_expand",
                "if flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) != VM_WRITE:",
                "if flags & (VM_SHARED | VM_GROWSDOWN):",
                when="limits.soft(Rlimit.DATA) < 1 << 62",
            ),
        ),
    ),
    Mutant(
        "rlimit-as-off-by-one",
        "mm",
        "An address space may not become quite as large as RLIMIT_AS.",
        "mm/mmap.c, may_expand_vm: up to the limit",
        (
            Edit(
                "limits.may_expand",
                "mm.space.raw.vm_pages + pages > limits",
                "mm.space.raw.vm_pages + pages >= limits",
                when="limits.soft(Rlimit.AS) < 1 << 62",
            ),
        ),
    ),
    Mutant(
        "rlimit-as-counts-the-replaced",
        "mm",
        "MAP_FIXED over mappings needs their pages a second time under RLIMIT_AS.",
        "rule 39: FIXED over existing is allowed",
        (
            Edit(
                "mmap.mmap",
                "may_expand(mm, task.limits, vm_flags, pages - _pages_of(mm, replaced))",
                "may_expand(mm, task.limits, vm_flags, pages)",
                when="replaced and task.limits.soft(Rlimit.AS) < 1 << 62",
            ),
        ),
    ),
)

MEMORY: Final = (*MERGING, *PLACING, *UNMAPPING, *HEAP_AND_STACK)
