/* A lock in static storage: it works before main, asks nothing of malloc, and costs nothing while the process has
 * one thread.
 *
 *   word    0 free    1 taken    2 taken, and somebody may sleep      (Drepper, "Futexes are tricky", mutex 2)
 *
 * A thread that is forking holds all locks (before_fork to after_fork_in_* of entry/preload.c).  What still allocates in
 * that thread meanwhile must not wait for the thread itself.  So while lock_passes is set, lock_take and lock_give do
 * nothing.
 */
#ifndef HL_LOCK_H
#define HL_LOCK_H

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct lock {
    uint32_t word;
} lock;

/* Set while the calling thread forks, or dies of a corruption: it takes and gives no lock. */
extern __thread int lock_passes;

static __attribute__((noinline, cold)) void lock_sleep(lock *l)
{
    int before = errno;
    while (__atomic_exchange_n(&l->word, 2, __ATOMIC_ACQUIRE))
        syscall(SYS_futex, &l->word, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
    errno = before;
}

static __attribute__((noinline, cold)) void lock_wake(lock *l)
{
    int before = errno;
    syscall(SYS_futex, &l->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = before;
}

/* While the process has one thread the word is set all the same: a thread that begins meanwhile finds it. */
static inline void lock_take(lock *l)
{
    uint32_t free = 0;
    if (__libc_single_threaded) {
        l->word = 1;
        return;
    }
    if (lock_passes)
        return;
    if (!__atomic_compare_exchange_n(&l->word, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        lock_sleep(l);
}

static inline void lock_give(lock *l)
{
    if (__libc_single_threaded) {
        l->word = 0;
        return;
    }
    if (lock_passes)
        return;
    if (__atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2)
        lock_wake(l);
}

#endif
