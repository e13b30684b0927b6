/* The calls of the env that are not worth inlining. */
#include <setjmp.h>
#include <stdlib.h>

#include "env.h"

/* Linux x86-64 numbers and values of the calls that a heap makes. */
enum { SYS_MMAP = 9, SYS_MUNMAP = 11, SYS_BRK = 12, SYS_MADVISE = 28 };
enum { PROT_READ_WRITE = 3, MAP_PRIVATE_ANONYMOUS = 0x22, MADV_DONTNEED = 4 };

_Noreturn void env_escape(env *e)
{
    if (!e->escape)
        abort(); /* whoever calls into the heap sets it; see csrc/entry/model.c */
    longjmp(*(jmp_buf *)e->escape, 1);
}

/* A system call; when the process does not survive it, it does not return. */
static int64_t trap(env *e, int nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4)
{
    int64_t result = e->machine->on_syscall(e->handle, nr, a0, a1, a2, a3, a4, 0);
    if (result == ENV_TRAP_RAISED) {
        e->failed = HL_REFUSED;
        env_escape(e);
    }
    return result;
}

uint64_t env_grow(env *e, int64_t increment)
{
    uint64_t old = env_break(e);
    uint64_t wanted = old + (uint64_t)increment;
    if (increment == 0)
        return old;
    if ((uint64_t)trap(e, SYS_BRK, wanted, 0, 0, 0, 0) != wanted) {
        env_set_errno(e, ENOMEM);
        return ENV_FAILED;
    }
    return old;
}

uint64_t env_map(env *e, uint64_t length)
{
    int64_t result = trap(e, SYS_MMAP, 0, length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, UINT64_MAX);
    if (result < 0) {
        env_set_errno(e, (int)-result);
        return ENV_FAILED;
    }
    return (uint64_t)result;
}

void env_unmap(env *e, uint64_t address, uint64_t length)
{
    trap(e, SYS_MUNMAP, address, length, 0, 0, 0);
}

void env_discard(env *e, uint64_t address, uint64_t length)
{
    trap(e, SYS_MADVISE, address, length, MADV_DONTNEED, 0, 0);
}
