/* Memory in one piece that grows and shrinks at its end: the root, then the design's part, up to the break.
 *
 *   break when the heap was made                            the break
 *   |                                                           |
 *   | root |  the design's part                                 |
 *   root                                                        end (root + 8)
 *
 * The break belongs to one heap.  When somebody else moves it, the heap can no longer grow or shrink.
 *
 * Trimming has a distance to growing: a free end goes back only when that gives trim_threshold bytes back and
 * keeps top_pad bytes.  So a block that is taken and freed at the end of the heap moves the break twice only if
 * it is larger than trim_threshold.  By default that is twice the threshold of large blocks, as in glibc.
 *
 * heaplab/allocators/sources/brk.py is the twin.
 */
#ifndef HL_BRK_H
#define HL_BRK_H

#include "large.h"

#define BRK_DYNAMIC UINT64_MAX

/* The option of a design that grows, and of one that trims too. */
#define BRK_PAD_OPTION                                                                                        \
    HEAP_BYTES(top_pad, "top_pad", "128KiB", NULL, 1ull << 46,                                                \
               "asked for beyond what a growth needs, and kept when trimming")
#define BRK_OPTIONS                                                                                           \
    HEAP_BYTES(trim_threshold, "trim_threshold", "dynamic", "dynamic", INT64_MAX,                             \
               "a trim gives back this much or more; dynamic: twice the threshold of large blocks"),          \
        BRK_PAD_OPTION

/* Makes the root at the break, and behind its `root_size` bytes (a multiple of 16) top_pad bytes and the rest
 * of the page.  The end of all, or 0 with errno; h->root is set, and the root's word of the end. */
uint64_t brk_begin(hl_heap *h, uint64_t root_size);
/* Moves the break up by at least `need` bytes: top_pad is added, and the rest of the page.  The old end,
 * and in *grown by how much; 0 with errno when the kernel refuses. */
uint64_t brk_grow(hl_heap *h, uint64_t need, uint64_t *grown);
/* Moves the break down to `end`, a multiple of the page size: 1, or 0 when somebody else has moved it. */
int brk_shrink(hl_heap *h, uint64_t end);

static inline uint64_t brk_end(hl_heap *h) { return heap_load(h, h->root + ROOT_END); }

/* Where the heap would end that keeps everything below `tail`, and top_pad bytes. */
static inline uint64_t brk_keep(const hl_heap *h, uint64_t tail)
{
    return heap_round_up(tail + heap_spec(h)->top_pad, env_page_size(h->env));
}

/* Whether the heap is worth a trim from `end` down to `keep`.  Mostly that costs no reference. */
static inline int brk_trims(hl_heap *h, uint64_t end, uint64_t keep)
{
    int dynamic = heap_spec(h)->trim_threshold == BRK_DYNAMIC;
    uint64_t least = dynamic ? 2 * LARGE_LEAST : heap_spec(h)->trim_threshold;
    if (keep >= end || end - keep < least)
        return 0;
    return !dynamic || end - keep >= 2 * heap_load(h, h->root + LARGE_THRESHOLD);
}

#endif
