/* What the indices of heaps with boundary tags share: the twin of heaplab/allocators/index.py.
 * csrc/heap/tagged.h says what an index gives. */
#ifndef HL_INDEX_H
#define HL_INDEX_H

#include "blocks.h"
#include "heap.h"

/* The words of the root: where the first block stands, where the last while it is free, the index's own. */
enum { ROOT_FIRST = HL_ROOT_DESIGN, ROOT_LAST = HL_ROOT_DESIGN + 8, ROOT_INDEX = HL_ROOT_DESIGN + 16 };

/* What a search gives: a block (0: none), its header as loaded, and what the tree learned on the way to it:
 * the largest size it passed that was too small, the word that points to the block, its left child. */
typedef struct found {
    uint64_t block, word;
    uint64_t floor, link, left;
} found;

/* Whether a block may stand at this address: spares the process most faults on a broken link. */
static inline int index_is_link(const hl_heap *h, uint64_t link)
{
    return link % HL_ALIGN == BLOCK_HEADER && link >= h->root + ROOT_FIRST && link < 1ull << 47;
}

/* The check of an index against the heap: the free blocks met walking, then those met in the index. */
typedef struct survey {
    uint64_t first, end;
    uint64_t count, sum;
} survey;

/* Whether a block of the heap can stand at `link`, so that it may be loaded. */
static inline int survey_is_block(const survey *s, uint64_t link)
{
    return link % HL_ALIGN == BLOCK_HEADER && link >= s->first && link < s->end - BLOCK_HEADER;
}

static inline void survey_walked(survey *s, uint64_t block)
{
    s->count++;
    s->sum += block;
}

/* Notes that the index says, at `holder`, that a free block stands at `link`; its size, or heap_corrupt. */
static inline uint64_t survey_indexed(hl_heap *h, survey *s, uint64_t link, uint64_t holder)
{
    if (!survey_is_block(s, link))
        heap_corrupt(h, holder + BLOCK_HEADER, HL_BROKEN_LINK);
    uint64_t word = heap_load(h, link);
    if (!hl_is_sealed(link, word))
        heap_corrupt(h, link + BLOCK_HEADER, HL_BROKEN_HEADER);
    if (block_is_allocated(word) || !s->count)
        heap_corrupt(h, link + BLOCK_HEADER, HL_BROKEN_INDEX);
    s->count--;
    s->sum -= link;
    return block_size(word);
}

/* The index has had just the free blocks of the heap, or heap_corrupt. */
static inline void survey_close(hl_heap *h, const survey *s)
{
    if (s->count || s->sum)
        heap_corrupt(h, h->root, HL_BROKEN_INDEX);
}

#endif
