/* The env on Linux: memory is memory, and the operating system is the real one.
 *
 * A heap that is compiled over this header is the malloc of the program that loads it (csrc/entry/preload.c).
 *
 * The break.  A heap wants memory in one piece that grows at its end, but the kernel's break belongs to the
 * program too.  So the heap has a break of its own: a region that begins where there is much room, and that
 * grows by mappings at its end.
 *
 *   a multiple of BREAK_ALIGN                             the break
 *   |                                                     |
 *   +-----------------------------------------------------+ - - - - - - - - - - - - - - - -
 *   | mapped, one VMA                                     |  free when the region was made
 *   +-----------------------------------------------------+ - - - - - - - - - - - - - - - -
 *
 * Nothing is reserved, because a reservation counts against `ulimit -v`.  A mapping that somebody else places in
 * the way ends the growth: env_grow fails then, like brk.  With HEAPLAB_BREAK=kernel in the environment the break
 * is the kernel's.
 */
#ifndef HL_ENV_LINUX_H
#define HL_ENV_LINUX_H

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "lock.h"

#define LINUX_PAGE 4096u /* x86-64 has no other */

/* What of the world belongs to one thread. */
typedef struct env {
    unsigned thread; /* its number */
    uint64_t note;
    /* takes what env_escape is told; it does not return.  Whoever calls into the heap sets it. */
    void (*escape)(struct env *);
} env;

/* Memory that a program has written as something else before it was the heap's, and the other way round. */
typedef uint64_t __attribute__((may_alias)) env_word;

/* Relaxed, so that the compiler neither repeats nor splits what other threads may see; it costs no instruction. */
static inline uint64_t env_load(env *e, uint64_t address)
{
    (void)e;
    return __atomic_load_n((const env_word *)(uintptr_t)address, __ATOMIC_RELAXED);
}

static inline void env_store(env *e, uint64_t address, uint64_t value)
{
    (void)e;
    __atomic_store_n((env_word *)(uintptr_t)address, value, __ATOMIC_RELAXED);
}

static inline void env_publish(env *e, uint64_t address, uint64_t value)
{
    (void)e;
    __atomic_store_n((env_word *)(uintptr_t)address, value, __ATOMIC_RELEASE);
}

static inline int env_cas(env *e, uint64_t address, uint64_t old, uint64_t new_value)
{
    (void)e;
    return __atomic_compare_exchange_n((env_word *)(uintptr_t)address, &old, new_value, 0, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
}

static inline void env_copy(env *e, uint64_t dst, uint64_t src, uint64_t n)
{
    (void)e;
    memcpy((void *)(uintptr_t)dst, (const void *)(uintptr_t)src, n);
}

static inline void env_zero(env *e, uint64_t dst, uint64_t n)
{
    (void)e;
    memset((void *)(uintptr_t)dst, 0, n);
}

static inline uint64_t env_page_size(const env *e)
{
    (void)e;
    return LINUX_PAGE;
}

static inline unsigned env_thread(const env *e) { return e->thread; }

static inline uint64_t env_note(const env *e) { return e->note; }

static inline void env_set_note(env *e, uint64_t value) { e->note = value; }

/* entry/preload.c sets errno when a call gives NULL: on Linux every reason is ENOMEM there. */
static inline void env_set_errno(env *e, int err) { (void)e, (void)err; }

static inline _Noreturn void env_escape(env *e)
{
    e->escape(e);
    __builtin_unreachable();
}

/* Held by the thread that is between env_lock and env_unlock, of all heaps of the process. */
extern lock env_the_lock;

static inline void env_lock(env *e)
{
    (void)e;
    lock_take(&env_the_lock);
}

static inline void env_unlock(env *e)
{
    (void)e;
    lock_give(&env_the_lock);
}

/* Chooses the break and the secret, before anything else.  Called again when the heap could not be made: the new
 * attempt may find room. */
void env_begin(void);

uint64_t env_break(const env *e);
uint64_t env_random(const env *e);
/* errno is as it was after each of these. */
uint64_t env_grow(env *e, int64_t increment);
uint64_t env_map(env *e, uint64_t length);
void env_unmap(env *e, uint64_t address, uint64_t length);
void env_discard(env *e, uint64_t address, uint64_t length);

#endif
