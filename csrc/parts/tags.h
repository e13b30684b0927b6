/* Boundary tags: how a block says what it is.  Only this file knows the bits.
 *
 *   block (8 mod 16)
 *   |       payload (a multiple of 16)
 *   |       |
 *   +-------+---------------------------------+-------+
 *   |header | payload of an allocated block           | header of the next
 *   +-------+---------------------------------+-------+
 *   |header | links of the index |   ...      |footer | header of the next
 *   +-------+---------------------------------+-------+
 *                                             size bytes from header to header
 *
 *   header   63        48 47                     4  3    2    1    0
 *           |    seal    |       size / 16        | 0 |last|prev|alloc|
 *
 * heaplab/allocators/parts/tags.py, the twin, says what the parts are for.
 */
#ifndef HL_TAGS_H
#define HL_TAGS_H

#include "seal.h"

#define BLOCK_HEADER 8u
#define BLOCK_FOOTER 8u

#define BLOCK_ALLOCATED ((uint64_t)1)
#define BLOCK_PREV_ALLOCATED ((uint64_t)2)
#define BLOCK_LAST ((uint64_t)4)

#define BLOCK_SIZE_BITS (SEAL_TAG - 15)

static inline uint64_t block_header(const hl_heap *h, uint64_t block, uint64_t size, uint64_t flags)
{
    return seal(h, block, size | flags);
}

static inline uint64_t block_size(uint64_t word) { return word & BLOCK_SIZE_BITS; }

static inline int block_is_allocated(uint64_t word) { return (word & BLOCK_ALLOCATED) != 0; }

static inline int block_prev_is_allocated(uint64_t word) { return (word & BLOCK_PREV_ALLOCATED) != 0; }

static inline int block_is_last(uint64_t word) { return (word & BLOCK_LAST) != 0; }

static inline uint64_t block_with_prev_allocated(const hl_heap *h, uint64_t block, uint64_t word)
{
    return seal(h, block, (word & SEAL_TAG) | BLOCK_PREV_ALLOCATED);
}

static inline uint64_t block_with_prev_free(const hl_heap *h, uint64_t block, uint64_t word)
{
    return seal(h, block, word & SEAL_TAG & ~BLOCK_PREV_ALLOCATED);
}

static inline uint64_t block_tombstone(const hl_heap *h, uint64_t block) { return block_header(h, block, 0, 0); }

#endif
