"""Mistakes in what /proc and getrusage count: faults, locked, dirty and shared pages, threads."""

from typing import Final

from heaplab.testing.conform.mutants.plant import Edit, Mutant

COUNTS: Final = (
    Mutant(
        "move-raises-the-peak",
        "mm",
        "VmPeak counts a moved mapping at both its places.",
        "mm/mremap.c, move_vma: hiwater_vm is restored",
        (
            Edit(
                "mremap._move",
                "mm.vmas.peak = max(peak, int(mm.space.raw.vm_pages))",
                "mm.vmas.peak = max(peak, mm.vmas.peak)",
            ),
        ),
    ),
    Mutant(
        "what-was-moved-is-not-locked-twice",
        "mm",
        "MREMAP_DONTUNMAP counts no page as locked that no mapping locks any more.",
        "mm/mremap.c, dontunmap_complete: locked_vm stays",
        (
            Edit(
                "vmas.VmaMap.unlock_but_count",
                "self.locked += pages",
                "pass",
            ),
        ),
    ),
    Mutant(
        "locked-elsewhere-is-lazily-free",
        "mm",
        "MADV_FREE gives up a page that another process has locked.",
        "mm/swap.c, folio_mark_lazyfree: not what is unevictable",
        (
            Edit(
                "madvise._free",
                "not shared or frame not in (locked or ())",
                "frame >= 0",
                when="shared and frame in (locked or ())",
            ),
        ),
    ),
    Mutant(
        "shared-pages-are-not-given-up",
        "mm",
        "MADV_FREE passes over pages that another process has too.",
        "mm/madvise.c: only over those that are dirty as a page",
        (
            Edit(
                "madvise._free",
                "(shared and machine.flags[frame] & _DIRTY)",
                "shared",
                when="shared",
            ),
        ),
    ),
    Mutant(
        "populate-write-leaves-pages-clean",
        "files",
        "A page that is there already is not dirty after MADV_POPULATE_WRITE.",
        "mm/gup.c, follow_page_pte: folio_mark_dirty",
        (
            Edit(
                "uaccess.fault_in",
                "flags[Pte.frame(entry)] |= FrameFlag.DIRTY",
                "flags[Pte.frame(entry)] |= 0",
            ),
        ),
    ),
    Mutant(
        "write-leaves-shared-memory-clean",
        "files",
        "A page of shared memory that write filled is clean.",
        "mm/shmem.c, shmem_write_end: folio_mark_dirty",
        (
            Edit(
                "inode.Inode.mark_dirty",
                "|= FrameFlag.DIRTY",
                "|= 0",
            ),
        ),
    ),
    Mutant(
        "dontdump-is-not-among-the-flags",
        "mm",
        "smaps does not show that a mapping is not to be dumped.",
        "fs/proc/task_mmu.c: dd",
        (
            Edit(
                "procfs.memory._smaps_fields",
                "if vma.flags >> bit & 1",
                "if vma.flags >> bit & 1 and bit != 26",
                when="vma.flags >> 26 & 1",
            ),
        ),
    ),
    Mutant(
        "pss-is-not-divided",
        "all",
        "Pss counts a shared page in full.",
        "fs/proc/task_mmu.c, smaps_account: divided by how often it is mapped",
        (
            Edit(
                "procfs.memory._resident",
                "// mappers[counted]",
                "// np.uint64(1)",
            ),
        ),
    ),
    Mutant(
        "dead-leader-is-no-thread",
        "process",
        "A leader that has exited before the others is not among the threads.",
        "it is until it is waited for",
        (
            Edit(
                "task.Group.threads",
                "len(self.living) + (self.leader.mm is None)",
                "len(self.living) or 1",
                when="self.leader.mm is None and self.living",
            ),
        ),
    ),
    Mutant(
        "failed-exec-takes-no-fault",
        "exec",
        "An exec that fails for its file takes no page fault.",
        "fs/exec.c: the arguments are on the new stack by then",
        (
            Edit(
                "exec.execve",
                "task.minflt += -(",
                "task.minflt += 0 * -(",
            ),
        ),
    ),
    Mutant(
        "childrens-faults-are-lost",
        "process",
        "What collected children used does not count for their parent.",
        "getrusage(2): RUSAGE_CHILDREN",
        (
            Edit(
                "wait._collect",
                "caller.children_used += used",
                "pass",
            ),
        ),
    ),
    Mutant(
        "grandchildrens-faults-are-lost",
        "process",
        "What the children of a collected child used does not count.",
        "kernel/exit.c, wait_task_zombie: with theirs",
        (
            Edit(
                "wait._collect",
                "used = child.used + child.children_used",
                "used = child.used",
                when="child.children_used.minflt",
            ),
        ),
    ),
)
