/* An index as two levels of bins: a list for each sixteenth of an octave, found by two bitmaps.
 *
 *   base -> +0    octaves   bit f is set when a bin of octave f is not empty
 *           +8    bins      a word an octave: bit s is set when its bin s is not empty
 *           +328  heads     of the bins: the first free block, or 0
 *
 *   | header | next | prev |    ...    | footer |       a free block
 *
 * The base is ROOT_INDEX in the root; prev is the address of the word that points here, a next or a head.
 * heaplab/allocators/parts/twolevel.py, the twin, has the search, its bound and the source.
 */
#ifndef HL_TWOLEVEL_H
#define HL_TWOLEVEL_H

#include "index.h"

enum { NEXT = 8, PREV = 16 }; /* from the block */
enum { BINS_LOG2 = 4, BINS = 1 << BINS_LOG2, OCTAVES = 40 };
enum { EVEN_LOG2 = 8 }; /* blocks below 256 bytes: a bin for each multiple of 16 */
enum { TWO_OCTAVES = ROOT_INDEX, TWO_BINS = ROOT_INDEX + 8, TWO_HEADS = TWO_BINS + 8 * OCTAVES };

#define INDEX_MIN_BLOCK 32u
#define INDEX_WORDS (1 + OCTAVES + OCTAVES * BINS)

typedef int index_found; /* a search learns nothing besides the block */

/* A bin: its octave and its number there. */
typedef struct bin {
    unsigned f, s;
} bin;

/* The bin that blocks of this size stand in. */
static inline bin bin_of(uint64_t size)
{
    if (size < 1u << EVEN_LOG2)
        return (bin){0, (unsigned)(size >> (EVEN_LOG2 - BINS_LOG2))};
    unsigned octave = 63u - (unsigned)__builtin_clzll(size);
    return (bin){octave - EVEN_LOG2 + 1, (unsigned)(size >> (octave - BINS_LOG2)) & (BINS - 1)};
}

/* The first bin all of whose blocks have `need` bytes. */
static inline bin bin_for(uint64_t need)
{
    if (need < 1u << EVEN_LOG2)
        return bin_of(need);
    unsigned octave = 63u - (unsigned)__builtin_clzll(need);
    return bin_of(need + (1ull << (octave - BINS_LOG2)) - 1);
}

static inline uint64_t head_of(const hl_heap *h, bin b) { return h->root + TWO_HEADS + 8 * (BINS * b.f + b.s); }

static inline uint64_t bins_of(const hl_heap *h, unsigned f) { return h->root + TWO_BINS + 8 * f; }

static int index_init(hl_heap *h, uint64_t heap_bytes)
{
    (void)heap_bytes;
    env_zero(h->env, h->root + ROOT_INDEX, 8 * INDEX_WORDS);
    return 1;
}

static int index_reserve(hl_heap *h, uint64_t heap_bytes)
{
    (void)h, (void)heap_bytes;
    return 1;
}

/* The first block of the first bin from b on that is not empty, or 0. */
static inline uint64_t first_from(hl_heap *h, bin b)
{
    if (b.f >= OCTAVES)
        return 0;
    uint64_t bins = heap_load(h, bins_of(h, b.f)) >> b.s << b.s;
    if (!bins) {
        uint64_t octaves = heap_load(h, h->root + TWO_OCTAVES) >> b.f >> 1;
        if (!octaves)
            return 0;
        b.f += 1 + (unsigned)__builtin_ctzll(octaves);
        bins = b.f < OCTAVES ? heap_load(h, bins_of(h, b.f)) : 0;
    }
    b.s = bins ? (unsigned)__builtin_ctzll(bins) : BINS;
    uint64_t block = b.s < BINS ? heap_load(h, head_of(h, b)) : 0;
    if (heap_checks_links(h) && !index_is_link(h, block))
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    return block;
}

static inline uint64_t index_find(hl_heap *h, uint64_t need, uint64_t *word, index_found *where)
{
    (void)where;
    uint64_t block = first_from(h, bin_for(need));
    if (block) {
        *word = heap_load(h, block);
        return block;
    }
    /* the first of the bin before may be large enough: what the heap has just grown by is */
    block = heap_load(h, head_of(h, bin_of(need)));
    if (!block)
        return 0;
    if (heap_checks_links(h) && !index_is_link(h, block))
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    *word = heap_load(h, block);
    return block_size(*word) >= need ? block : 0;
}

static void index_insert(hl_heap *h, uint64_t block, uint64_t size)
{
    bin b = bin_of(size);
    uint64_t head = head_of(h, b), next = heap_load(h, head);
    heap_store(h, block + NEXT, next);
    heap_store(h, block + PREV, head);
    heap_store(h, head, block);
    if (next) {
        if (heap_checks_links(h) && !index_is_link(h, next))
            heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
        heap_store(h, next + PREV, block + NEXT);
        return;
    }
    uint64_t octaves = h->root + TWO_OCTAVES, bins = heap_load(h, bins_of(h, b.f));
    heap_store(h, bins_of(h, b.f), bins | 1ull << b.s);
    if (!bins)
        heap_store(h, octaves, heap_load(h, octaves) | 1ull << b.f);
}

/* Whether the word at `pointer` may point to blocks of the bin. */
static inline int is_pointer(const hl_heap *h, uint64_t pointer, uint64_t head)
{
    return pointer == head || index_is_link(h, pointer - NEXT);
}

static void index_remove(hl_heap *h, uint64_t block, uint64_t size, const index_found *where)
{
    (void)where;
    bin b = bin_of(size);
    uint64_t head = head_of(h, b), next = heap_load(h, block + NEXT), pointer = heap_load(h, block + PREV);
    if (heap_checks_links(h) &&
        (!is_pointer(h, pointer, head) || heap_load(h, pointer) != block ||
         (next && (!index_is_link(h, next) || heap_load(h, next + PREV) != block + NEXT))))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
    heap_store(h, pointer, next);
    if (next) {
        heap_store(h, next + PREV, pointer);
    } else if (pointer == head) {
        uint64_t octaves = h->root + TWO_OCTAVES, bins = heap_load(h, bins_of(h, b.f)) & ~(1ull << b.s);
        heap_store(h, bins_of(h, b.f), bins);
        if (!bins)
            heap_store(h, octaves, heap_load(h, octaves) & ~(1ull << b.f));
    }
}

/* ---- check ---- */

static void index_check_links(hl_heap *h, survey *s, uint64_t block)
{
    uint64_t next = heap_load(h, block + NEXT), pointer = heap_load(h, block + PREV);
    uint64_t head = head_of(h, bin_of(block_size(heap_load(h, block))));
    if ((pointer != head && !survey_is_block(s, pointer - NEXT)) || heap_load(h, pointer) != block)
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
    if (next && (!survey_is_block(s, next) || heap_load(h, next + PREV) != block + NEXT))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
}

static void index_check(hl_heap *h, survey *s)
{
    uint64_t octaves = heap_load(h, h->root + TWO_OCTAVES);
    for (unsigned f = 0; f < OCTAVES; f++) {
        uint64_t bins = heap_load(h, bins_of(h, f)), met = 0;
        for (unsigned i = 0; i < BINS; i++) {
            uint64_t head = head_of(h, (bin){f, i}), pointer = head, block, holder = h->root + ROOT_INDEX;
            for (; (block = heap_load(h, pointer)); pointer = block + NEXT, holder = block) {
                bin b = bin_of(survey_indexed(h, s, block, holder));
                if (b.f != f || b.s != i)
                    heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_INDEX);
                if (heap_load(h, block + PREV) != pointer)
                    heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
            }
            met |= (uint64_t)(pointer != head) << i;
        }
        if (bins != met || (octaves >> f & 1) != (bins != 0))
            heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    }
}

#endif
