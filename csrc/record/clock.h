/* The clock of a recording: the processor's time-stamp counter where the kernel keeps time by it, which
   takes a third of the time of clock_gettime; otherwise CLOCK_MONOTONIC, in nanoseconds.  The monitor
   decides, and compares the two at the recording's beginning and end. */
#ifndef HEAPLAB_CLOCK_H
#define HEAPLAB_CLOCK_H

#include <stdint.h>
#include <time.h>
#ifdef __x86_64__
#include <x86intrin.h>
#endif

static inline uint64_t nanoseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static inline uint64_t read_clock(uint32_t counter)
{
#ifdef __x86_64__
    if (counter)
        return __rdtsc();
#endif
    (void)counter;
    return nanoseconds();
}

#endif
