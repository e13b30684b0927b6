/* A bitmap: n bits in words of 64, the first bit the lowest of the first word.
 *
 *   at -> +0  bits 0 to 63
 *         +8  bits 64 to 127      ...
 *
 * The bits of the last word behind the n-th are 0.  A bitmap is known by its address and n; both are the
 * caller's to keep.  heaplab/allocators/parts/bitmap.py is the twin, and has the costs.
 */
#ifndef HL_BITMAP_H
#define HL_BITMAP_H

#include "../heap/heap.h"

#define BITMAP_NONE UINT64_MAX

static inline uint64_t bitmap_words(uint64_t n) { return (n + 63) / 64; }

/* The bits of word w that a bitmap of n bits has. */
static inline uint64_t bitmap_mask(uint64_t n, uint64_t w)
{
    return n >= 64 * w + 64 ? UINT64_MAX : (1ull << (n - 64 * w)) - 1;
}

/* Sets all n bits. */
static inline void bitmap_fill(hl_heap *h, uint64_t at, uint64_t n)
{
    for (uint64_t w = 0; w < bitmap_words(n); w++)
        heap_store(h, at + 8 * w, bitmap_mask(n, w));
}

/* The first word from w on that has a bit set; bitmap_words(n) when none has. */
static inline uint64_t bitmap_next_word(hl_heap *h, uint64_t at, uint64_t n, uint64_t w)
{
    while (w < bitmap_words(n) && !heap_load(h, at + 8 * w))
        w++;
    return w;
}

/* Whether all n bits are set. */
static inline int bitmap_is_full(hl_heap *h, uint64_t at, uint64_t n)
{
    for (uint64_t w = 0; w < bitmap_words(n); w++)
        if (heap_load(h, at + 8 * w) != bitmap_mask(n, w))
            return 0;
    return 1;
}

/* The first run of bits that are set, from bit `from` on: where it starts, and in *length how many, counted up
 * to `enough`; n when there is none. */
static inline uint64_t bitmap_run(hl_heap *h, uint64_t at, uint64_t n, uint64_t from, uint64_t enough,
                                  uint64_t *length)
{
    uint64_t start = n, i = from % 64;
    *length = 0;
    for (uint64_t w = from / 64; w < bitmap_words(n) && *length < enough; w++, i = 0) {
        uint64_t bits = heap_load(h, at + 8 * w) >> i;
        if (!*length) {
            if (!bits)
                continue;
            unsigned zeros = (unsigned)__builtin_ctzll(bits);
            bits >>= zeros;
            i += zeros;
            start = 64 * w + i;
        }
        unsigned ones = ~bits ? (unsigned)__builtin_ctzll(~bits) : 64;
        *length += ones;
        if (i + ones < 64)
            break;
    }
    return start;
}

/* The first place of `length` bits that are set, side by side; BITMAP_NONE when there is none. */
static inline uint64_t bitmap_find(hl_heap *h, uint64_t at, uint64_t n, uint64_t length)
{
    uint64_t found, from = 0;
    while ((from = bitmap_run(h, at, n, from, length, &found)) < n) {
        if (found >= length)
            return from;
        from += found;
    }
    return BITMAP_NONE;
}

/* The bits of word w among `length` bits from `from` on. */
static inline uint64_t bitmap_range(uint64_t from, uint64_t length, uint64_t w)
{
    uint64_t below = from > 64 * w ? bitmap_mask(from, w) : 0;
    return bitmap_mask(from + length, w) & ~below;
}

static inline void bitmap_set(hl_heap *h, uint64_t at, uint64_t from, uint64_t length)
{
    for (uint64_t w = from / 64; 64 * w < from + length; w++)
        heap_store(h, at + 8 * w, heap_load(h, at + 8 * w) | bitmap_range(from, length, w));
}

static inline void bitmap_clear(hl_heap *h, uint64_t at, uint64_t from, uint64_t length)
{
    for (uint64_t w = from / 64; 64 * w < from + length; w++)
        heap_store(h, at + 8 * w, heap_load(h, at + 8 * w) & ~bitmap_range(from, length, w));
}

#endif
