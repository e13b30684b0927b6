/* Blocks placed offline: each block once, with all births and deaths known, as rectangles of time and bytes.
 *
 *   bytes
 *     ^   +-----------+     A rectangle is a stay: from the block's birth until its death, and as high as the
 *     |   |     b     |     block is large.  Two rectangles may not overlap.  A block that fork copies has one
 *     |   +--+--------+--+  stay more for each copy, elsewhere on the axis of time, at the same address.
 *     |      |     a     |
 *     +------+-----------+----> ticks
 *
 * The processes of a trace lie on the axis one behind the other.  Callers give valid numbers: every stay has
 * from < until <= ticks, no two stays of one block overlap, sizes and alignments are multiples of HL_GRANULE.
 */
#ifndef HL_PACKING_H
#define HL_PACKING_H

#include <stdint.h>

#define HL_GRANULE 16         /* bytes */
#define HL_UNPLACED UINT64_MAX /* the address of a block that is not placed */

enum {
    HL_PACK_DONE = 0,
    HL_PACK_NO_MEMORY,
    HL_PACK_OVERLAP, /* two blocks that were placed before overlap */
    HL_PACK_FULL,    /* a block fits nowhere below the limit */
};

enum { HL_FIRST_FIT = 0, HL_BEST_FIT };

typedef struct hl_packing {
    uint64_t blocks, ticks;
    const uint64_t *size, *align; /* of each block, bytes */
    const uint64_t *stays;        /* of each block, and one more: where its stays begin in the next two */
    const uint32_t *from, *until; /* of each stay, ticks */
    uint64_t *address;            /* of each block, bytes: the result */
} hl_packing;

/* Each function goes through the blocks in the order that `order`, a permutation, gives. */

/* Puts each block on top of all that share time with it, whatever gaps stay below.  O(log ticks) a stay. */
int hl_pack_stack(hl_packing *p, const uint64_t *order);

/* Puts each block into the lowest gap below `limit` bytes that is free for its whole life.  Time: about
 * limit / 1024 words a block and 64 words of memory for each of them, less where the heap is full at its bottom. */
int hl_pack_greedy(hl_packing *p, const uint64_t *order, uint64_t limit);

/* Goes through time, and puts each block when it is born into the first or the smallest gap that is large
 * enough then.  Blocks that are placed already stay where they are; their stays must begin before any block that they
 * share time with is placed.  `order` is the order of blocks born in the same tick.  O(log gaps) a stay. */
int hl_pack_sweep(hl_packing *p, const uint64_t *order, int fit);

/* Writes the end of the highest block at each tick into `tops`; 0 without a block. */
int hl_pack_tops(const hl_packing *p, uint64_t *tops);

#endif
