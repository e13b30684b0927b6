/* A radix tree over words: which numbers are in use, like the page tables of a processor.
 *
 *   number   | index | index | ... |     `bits` bits an index, the highest level first
 *   node     | word | word | ... |       2^bits of them: the node below, on the lowest level the value; or 0
 *
 * A lookup loads a word a level and follows nothing but nodes: any number can be asked for.
 * heaplab/allocators/parts/radix.py is the twin.
 */
#ifndef HL_RADIX_H
#define HL_RADIX_H

#include "../heap/heap.h"

typedef struct radix {
    uint64_t top;    /* address of the highest node */
    unsigned bits;   /* of an index */
    unsigned number; /* bits of a number */
} radix;

/* By how many bits the highest index is shifted. */
static inline unsigned radix_shift(const radix *m) { return (m->number - 1) / m->bits * m->bits; }

static inline uint64_t radix_word(const radix *m, uint64_t node, uint64_t number, unsigned shift)
{
    return node + 8 * (number >> shift & ((1ull << m->bits) - 1));
}

/* The value of a number; 0: it is not in use. */
static inline uint64_t radix_get(hl_heap *h, const radix *m, uint64_t number)
{
    if (number >> m->number)
        return 0;
    uint64_t node = m->top;
    for (unsigned shift = radix_shift(m); node && shift; shift -= m->bits)
        node = heap_load(h, radix_word(m, node, number, shift));
    return node ? heap_load(h, radix_word(m, node, number, 0)) : 0;
}

/* Sets the value of a number, with nodes from `new_node`, which are zero: 1, or 0 when it gives none.
 * To set 0 takes no node where the number was in use. */
static inline int radix_set(hl_heap *h, const radix *m, uint64_t number, uint64_t value,
                              uint64_t (*new_node)(hl_heap *h))
{
    uint64_t node = m->top;
    for (unsigned shift = radix_shift(m); shift; shift -= m->bits) {
        uint64_t word = radix_word(m, node, number, shift);
        node = heap_load(h, word);
        if (!node) {
            node = new_node(h);
            if (!node)
                return 0;
            heap_store(h, word, node);
        }
    }
    heap_store(h, radix_word(m, node, number, 0), value);
    return 1;
}

#endif
