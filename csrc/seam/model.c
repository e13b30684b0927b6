/* The calls of the seam that are not worth inlining. */
#include <setjmp.h>
#include <stdlib.h>

#include "seam.h"

/* Linux x86-64 numbers and values of the three calls a heap makes. */
enum { SYS_MMAP = 9, SYS_MUNMAP = 11, SYS_BRK = 12 };
enum { PROT_READ_WRITE = 3, MAP_PRIVATE_ANONYMOUS = 0x22 };

_Noreturn void seam_escape(seam *s)
{
    if (!s->escape)
        abort(); /* whoever calls into the heap sets it; see csrc/heap/entry.c */
    longjmp(*(jmp_buf *)s->escape, 1);
}

/* A system call; when the process does not survive it, it does not return. */
static int64_t trap(seam *s, int nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4)
{
    int64_t result = s->machine->on_syscall(s->handle, nr, a0, a1, a2, a3, a4, 0);
    if (result == SEAM_TRAP_RAISED) {
        s->failed = 1;
        seam_escape(s);
    }
    return result;
}

uint64_t seam_sbrk(seam *s, int64_t increment)
{
    uint64_t old = s->space->brk;
    uint64_t wanted = old + (uint64_t)increment;
    if (increment == 0)
        return old;
    if ((uint64_t)trap(s, SYS_BRK, wanted, 0, 0, 0, 0) != wanted) {
        seam_set_errno(s, ENOMEM);
        return SEAM_FAILED;
    }
    return old;
}

uint64_t seam_mmap(seam *s, uint64_t length)
{
    int64_t result = trap(s, SYS_MMAP, 0, length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, UINT64_MAX);
    if (result < 0) {
        seam_set_errno(s, (int)-result);
        return SEAM_FAILED;
    }
    return (uint64_t)result;
}

void seam_munmap(seam *s, uint64_t address, uint64_t length)
{
    trap(s, SYS_MUNMAP, address, length, 0, 0, 0);
}
