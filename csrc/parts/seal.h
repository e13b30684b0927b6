/* Sealed headers: eight bytes that say whether they are what was once written at this address.
 *
 *   63          48 47                                  0
 *   +-------------+------------------------------------+
 *   |    seal     |  tag: whatever the design keeps    |
 *   +-------------+------------------------------------+
 *
 * heaplab/allocators/parts/seal.py is the twin, and says what gets through.
 */
#ifndef HL_SEAL_H
#define HL_SEAL_H

#include "../heap/heap.h"

#define SEAL_FACTOR 0x9E3779B97F4A7C15ull
#define SEAL_TAG ((1ull << 48) - 1)

/* off: factor 0, and so all seals are 0.  public: the golden ratio, and a key with high bits, so that no tag
 * undoes the address.  keyed: two secrets, the factor odd. */
static inline void seal_begin(hl_heap *h)
{
    uint64_t secret = heap_spec(h)->seal == HEAP_SEAL_KEYED ? env_random(h->env) : 1;
    h->seal_key = secret * SEAL_FACTOR;
    h->seal_factor = heap_spec(h)->seal == HEAP_SEAL_OFF      ? 0
                     : heap_spec(h)->seal == HEAP_SEAL_PUBLIC ? SEAL_FACTOR
                                                              : secret | 1;
}

/* Factor and key; known when compiling, for one spec, unless they are secrets. */
static inline uint64_t seal_factor(const hl_heap *h)
{
    if (HEAP_IS_CONSTANT && heap_spec(h)->seal != HEAP_SEAL_KEYED)
        return heap_spec(h)->seal == HEAP_SEAL_OFF ? 0 : SEAL_FACTOR;
    return h->seal_factor;
}

static inline uint64_t seal_key(const hl_heap *h)
{
    return HEAP_IS_CONSTANT && heap_spec(h)->seal != HEAP_SEAL_KEYED ? SEAL_FACTOR : h->seal_key;
}

/* The header that carries `tag` (48 bits) for the block at `address`. */
static inline uint64_t seal(const hl_heap *h, uint64_t address, uint64_t tag)
{
    return tag | (((address ^ tag ^ seal_key(h)) * seal_factor(h)) & ~SEAL_TAG);
}

/* The word scattered over 64 bits; distinct words stay distinct, unless seals are off. */
static inline uint64_t seal_mix(const hl_heap *h, uint64_t word) { return (word ^ seal_key(h)) * seal_factor(h); }

static inline int is_sealed(const hl_heap *h, uint64_t address, uint64_t header)
{
    return header == seal(h, address, header & SEAL_TAG);
}

#endif
