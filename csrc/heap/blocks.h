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
 * heaplab/allocators/blocks.py, the twin, says what the parts are for.
 */
#ifndef HL_BLOCKS_H
#define HL_BLOCKS_H

#include "seal.h"

#define BLOCK_HEADER 8u
#define BLOCK_FOOTER 8u

#define BLOCK_ALLOCATED ((uint64_t)1)
#define BLOCK_PREV_ALLOCATED ((uint64_t)2)
#define BLOCK_LAST ((uint64_t)4)

#define BLOCK_SIZE_BITS (HL_SEAL_TAG - 15)

static inline uint64_t block_header(uint64_t block, uint64_t size, uint64_t flags)
{
    return hl_seal(block, size | flags);
}

static inline uint64_t block_size(uint64_t word) { return word & BLOCK_SIZE_BITS; }

static inline int block_is_allocated(uint64_t word) { return (word & BLOCK_ALLOCATED) != 0; }

static inline int block_prev_is_allocated(uint64_t word) { return (word & BLOCK_PREV_ALLOCATED) != 0; }

static inline int block_is_last(uint64_t word) { return (word & BLOCK_LAST) != 0; }

static inline uint64_t block_with_prev_allocated(uint64_t block, uint64_t word)
{
    return hl_seal(block, (word & HL_SEAL_TAG) | BLOCK_PREV_ALLOCATED);
}

static inline uint64_t block_with_prev_free(uint64_t block, uint64_t word)
{
    return hl_seal(block, word & HL_SEAL_TAG & ~BLOCK_PREV_ALLOCATED);
}

static inline uint64_t block_tombstone(uint64_t block) { return block_header(block, 0, 0); }

#endif
