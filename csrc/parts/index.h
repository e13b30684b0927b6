/* What the indices of heaps with boundary tags share: the twin of heaplab/allocators/parts/index.py.
 * tagged.h says what an index gives. */
#ifndef HL_INDEX_H
#define HL_INDEX_H

#include "tags.h"

/* The words of the root: where the first block stands, where the last while it is free, the index's own. */
enum { ROOT_FIRST = ROOT_DESIGN, ROOT_LAST = ROOT_DESIGN + 8, ROOT_INDEX = ROOT_DESIGN + 16 };

/* Bytes of the smallest free block of any index: as far as its links reach. */
enum { INDEX_LEAST_BLOCK = 32 };

/* Whether a free block, or the words of the index in the root, may stand at this address: what lies between the
 * root and the break can be loaded, so that a broken link costs no process its life. */
static inline int index_is_link(const hl_heap *h, uint64_t link)
{
    return link % HEAP_ALIGN == BLOCK_HEADER && link >= h->root + ROOT_FIRST &&
           link < env_break(h->env) - INDEX_LEAST_BLOCK;
}

/* The check of an index against the heap: the free blocks met walking, then those met in the index. */
typedef struct survey {
    uint64_t first, end;
    uint64_t count, sum;
} survey;

/* Whether a block of the heap can stand at `link`, so that it may be loaded. */
static inline int survey_is_block(const survey *s, uint64_t link)
{
    return link % HEAP_ALIGN == BLOCK_HEADER && link >= s->first && link < s->end - BLOCK_HEADER;
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
        heap_corrupt(h, holder + BLOCK_HEADER, HEAP_BROKEN_LINK);
    uint64_t word = heap_load(h, link);
    if (!is_sealed(h, link, word))
        heap_corrupt(h, link + BLOCK_HEADER, HEAP_BROKEN_HEADER);
    if (block_is_allocated(word) || !s->count)
        heap_corrupt(h, link + BLOCK_HEADER, HEAP_BROKEN_INDEX);
    s->count--;
    s->sum -= link;
    return block_size(word);
}

/* The index has had just the free blocks of the heap, or heap_corrupt. */
static inline void survey_close(hl_heap *h, const survey *s)
{
    if (s->count || s->sum)
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
}

#endif
