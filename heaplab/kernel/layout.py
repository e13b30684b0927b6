"""Where the parts of an address space lie, and how chance moves them (ASLR).

    0        min_addr    start_brk                    mmap_base       stack_top  task_size
    |  never  |  program  |  [heap] -->      <-- mmap  |   <-- [stack] |          |
                          ^ random                     ^ random        ^ random

Linux's spans (2^30 bytes for the break, 2^34 for the stack, 2^40 for mmap; measured, Linux 6.18) are for
addresses of 48 bits.  A machine with smaller pages has fewer, and each length shrinks to the same
fraction of them: what takes b of 48 bits on Linux takes b/48 of the address here.

Source: Linux, arch/x86/mm/mmap.c (mmap_base), arch/x86/kernel/process.c (arch_randomize_brk).
"""

import random
from dataclasses import dataclass

from heaplab.machine import Machine


@dataclass(frozen=True)
class Layout:
    """Addresses and lengths in bytes, multiples of the page size."""

    task_size: int  # user addresses end here
    min_addr: int  # mmap gives nothing below (mmap_min_addr)
    start_brk: int  # where the break starts
    mmap_base: int  # mmap without a hint goes downwards from here
    legacy_base: int  # ... and when nothing fits there, upwards from here
    stack_top: int
    stack_size: int  # of a new program's stack
    stack_limit: int  # the most a stack may grow to (RLIMIT_STACK)
    guard_gap: int  # kept free below a stack
    huge_page: int  # what a page table of the lowest level maps; mmap aligns whole ones
    brk_shift: int  # how far chance moved start_brk
    pie_base: int  # where programs go that run anywhere

    @staticmethod
    def choose(machine: Machine, chance: random.Random | None, stack_limit: int | None = None) -> "Layout":
        """Return the layout of a new program; `chance` None: no randomisation.

        stack_limit: RLIMIT_STACK of the process that runs it; None: the default.
        """
        page = machine.page_size

        def scaled(bits: int) -> int:
            return max(page, 1 << (bits * machine.va_bits // 48))

        def moved(bits: int) -> int:
            return chance.randrange(scaled(bits) // page) * page if chance else 0

        task_size = (1 << (machine.va_bits - 1)) - page
        guard_gap, most = scaled(20), scaled(23)
        stack_limit = most if stack_limit is None else min(stack_limit, task_size) // page * page
        gap = stack_limit + guard_gap + (scaled(34) if chance else 0)
        gap = min(max(gap, scaled(27)), task_size // 6 * 5 // page * page)
        shift, brk_shift = moved(40), moved(30)
        stack_top = task_size - moved(34)
        return Layout(
            task_size=task_size,
            min_addr=scaled(16),
            start_brk=scaled(22) + brk_shift,
            mmap_base=task_size - gap - shift,
            legacy_base=task_size // 3 // page * page + shift,
            stack_top=stack_top,
            stack_size=scaled(17) + page,
            stack_limit=stack_limit,
            guard_gap=guard_gap,
            huge_page=page << machine.index_bits,
            brk_shift=brk_shift,
            pie_base=(task_size // 3 * 2 // page * page) + moved(40),
        )
