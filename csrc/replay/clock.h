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

/* A stopwatch for many short stretches. */
typedef struct hl_clock {
    uint64_t ticks;      /* of all stretches, the cost of measuring taken off */
    uint64_t overhead;   /* ticks; see clock_overhead */
    uint64_t wall_ticks; /* of the replay as a whole, in both units: their ratio is the tick's length */
    uint64_t wall_ns;
} hl_clock;

static inline void clock_add(hl_clock *c, uint64_t start, uint64_t stop)
{
    uint64_t took = stop - start;
    c->ticks += took > c->overhead ? took - c->overhead : 0;
}

#endif
