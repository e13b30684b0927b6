/* Runs of ones in a word: 64 things, a bit each, and n of them side by side.
 *
 * heaplab/allocators/parts/bitruns.py is the twin.
 */
#ifndef HL_BITRUNS_H
#define HL_BITRUNS_H

#include <stdint.h>

/* n ones from bit `at` on; n is 1 to 64. */
static inline uint64_t run_mask(unsigned at, unsigned n) { return UINT64_MAX >> (64 - n) << at; }

/* The bits where n ones in a row begin, at multiples of `step`, a power of two up to 32. */
static inline uint64_t run_starts(uint64_t bits, unsigned n, unsigned step)
{
    for (unsigned have = 1, by; have < n; have += by) {
        by = n - have < have ? n - have : have;
        bits &= bits >> by;
    }
    return bits & UINT64_MAX / ((1ull << step) - 1);
}

/* How many ones stand in a row from the lowest one on; `bits` is not 0. */
static inline unsigned run_length(uint64_t bits)
{
    uint64_t rest = ~(bits >> __builtin_ctzll(bits));
    return rest ? (unsigned)__builtin_ctzll(rest) : 64;
}

static inline unsigned count_ones(uint64_t bits)
{
    unsigned n = 0;
    for (; bits; bits &= bits - 1)
        n++;
    return n;
}

#endif
