/* Time for stretches as short as one malloc: the processor's time-stamp counter where it has one.
 *
 * Its unit is the tick; whoever counts ticks also measures, over everything, how many nanoseconds one takes.
 */
#ifndef HL_REPLAY_CLOCK_H
#define HL_REPLAY_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Nanoseconds that this thread has had of the processor: what others take of it does not count. */
static inline uint64_t clock_own_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t clock_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return clock_ns();
#endif
}

/* Ticks that measuring nothing takes: the least of many tries. */
static inline uint64_t clock_overhead(void)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 1000; i++) {
        uint64_t start = clock_ticks(), took = clock_ticks() - start;
        if (took < least)
            least = took;
    }
    return least;
}

#endif
