/* linux.h says what the world is. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "env.h"

#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BREAK_ALIGN (1ull << 30) /* so that a heap's places do not depend on where its break begins */
#define BREAK_MOST (1ull << 42)  /* bytes of room to look for, */
#define BREAK_LEAST (1ull << 32) /* and what is enough */

lock env_the_lock;

static struct {
    int is_kernels;
    uint64_t start, end; /* the break is at `end`; 0: there is no room for one */
    uint64_t secret;
} world;

static uint64_t map_at(uint64_t address, uint64_t length, int protection, int flags)
{
    int before = errno;
    void *at = mmap((void *)(uintptr_t)address, length, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    errno = before;
    return at == MAP_FAILED ? ENV_FAILED : (uint64_t)(uintptr_t)at;
}

void env_unmap(env *e, uint64_t address, uint64_t length)
{
    (void)e;
    int before = errno;
    munmap((void *)(uintptr_t)address, length);
    errno = before;
}

void env_discard(env *e, uint64_t address, uint64_t length)
{
    (void)e;
    int before = errno;
    madvise((void *)(uintptr_t)address, length, MADV_DONTNEED);
    errno = before;
}

uint64_t env_map(env *e, uint64_t length)
{
    uint64_t at = map_at(0, length, PROT_READ | PROT_WRITE, 0);
    if (at == ENV_FAILED)
        env_set_errno(e, ENOMEM);
    return at;
}

/* ---- the break ---- */

static uint64_t kernels_break(uint64_t wanted)
{
    int before = errno;
    uint64_t at = (uint64_t)syscall(SYS_brk, wanted);
    errno = before;
    return at;
}

/* Begins our break at `start` if nothing is there: 1, or 0. */
static int try_break(uint64_t start)
{
    uint64_t got = map_at(start, LINUX_PAGE, PROT_NONE, MAP_NORESERVE | MAP_FIXED_NOREPLACE);
    if (got == ENV_FAILED)
        return 0;
    env_unmap(NULL, got, LINUX_PAGE);
    if (got != start) /* of a kernel that takes the address for a hint */
        return 0;
    world.start = world.end = start;
    return 1;
}

/* Far below the place where the kernel puts mappings.  They grow down from there, so they come near only when the room
 * between is full.  Where mappings begin at the bottom and grow up, as under valgrind, far above.  The other way of looking
 * for room, to map all of it for a moment, finds little under `ulimit -v`: then mappings soon stand in the way. */
static void choose_break(void)
{
    uint64_t at = map_at(0, LINUX_PAGE, PROT_NONE, MAP_NORESERVE);
    if (at == ENV_FAILED)
        return;
    env_unmap(NULL, at, LINUX_PAGE);
    for (uint64_t room = BREAK_MOST; room >= BREAK_LEAST; room /= 4) {
        if ((at > room + BREAK_ALIGN && try_break((at - room) & -BREAK_ALIGN)) ||
            try_break((at + room) & -BREAK_ALIGN))
            return;
    }
}

void env_begin(void)
{
    const char *word = environ ? getenv("HEAPLAB_BREAK") : NULL;
    world.is_kernels = word && !strcmp(word, "kernel");
    int before = errno;
    if (syscall(SYS_getrandom, &world.secret, sizeof world.secret, 1 /* GRND_NONBLOCK */) !=
        sizeof world.secret)
        memcpy(&world.secret, (const void *)(uintptr_t)getauxval(AT_RANDOM), sizeof world.secret);
    errno = before;
    if (world.is_kernels)
        world.start = world.end = kernels_break(0);
    else
        choose_break();
}

uint64_t env_break(const env *e)
{
    (void)e;
    return world.end;
}

/* Moves a break of our own; its end, and by what a heap moves it, are multiples of the page. */
static int move_own_break(int64_t increment)
{
    uint64_t bytes = (uint64_t)(increment < 0 ? -increment : increment);
    if (!world.end || (increment < 0 && bytes > world.end - world.start))
        return 0;
    if (increment < 0) {
        env_unmap(NULL, world.end - bytes, bytes);
        return 1;
    }
    uint64_t at = map_at(world.end, bytes, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
    if (at == world.end)
        return 1;
    if (at != ENV_FAILED) /* of a kernel that takes the address for a hint */
        env_unmap(NULL, at, bytes);
    return 0;
}

uint64_t env_grow(env *e, int64_t increment)
{
    uint64_t old = env_break(e), wanted = old + (uint64_t)increment;
    if (increment == 0)
        return old;
    /* the program may have moved the kernel's break itself: then what follows ours is the program's */
    int moved = world.is_kernels ? kernels_break(0) == old && kernels_break(wanted) == wanted
                                 : move_own_break(increment);
    if (!moved) {
        env_set_errno(e, ENOMEM);
        return ENV_FAILED;
    }
    world.end = wanted;
    return old;
}

uint64_t env_random(const env *e)
{
    (void)e;
    return world.secret;
}
