/* An index as a list: the free blocks in a circular doubly linked list.
 *
 *   base -> +0  rover                                   where next fit goes on searching
 *           +0  sentinel's     +8 next    +16 prev      of the list, so that it is never empty
 *
 *   | header | next | prev |    ...    | footer |       a free block
 *
 * The base is ROOT_INDEX in the root.  heaplab/allocators/parts/list.py, the twin, has the fits and the orders.
 */
#ifndef HL_LIST_H
#define HL_LIST_H

#include "index.h"

enum { NEXT = 8, PREV = 16 }; /* from the block, or from the sentinel */
enum { ROVER = ROOT_INDEX };
enum { LIST_FIT, LIST_ORDER }; /* the places of the options */
enum { FIRST_FIT, NEXT_FIT, BEST_FIT, WORST_FIT };
enum { LIFO, FIFO, BY_ADDRESS };

#define INDEX_MIN_BLOCK 32u
#define INDEX_WORDS 3
#define INDEX_SHRINKS
#define INDEX_GROWS

#define LIST_OPTIONS                                                                                          \
    HEAP_CHOICE(option[LIST_FIT], "fit", "first", "first|next|best|worst", "which free block is taken"),      \
        HEAP_CHOICE(option[LIST_ORDER], "order", "lifo", "lifo|fifo|address",                                 \
                    "where in the list a freed block goes")

typedef int index_found; /* a search learns nothing besides the block */

static inline uint64_t sentinel_of(const hl_heap *h) { return h->root + ROOT_INDEX; }

static int index_init(hl_heap *h, uint64_t heap_bytes)
{
    (void)heap_bytes;
    uint64_t sentinel = sentinel_of(h);
    heap_store(h, sentinel + NEXT, sentinel);
    heap_store(h, sentinel + PREV, sentinel);
    heap_store(h, h->root + ROVER, sentinel);
    return 1;
}

static int index_reserve(hl_heap *h, uint64_t heap_bytes)
{
    (void)h, (void)heap_bytes;
    return 1;
}

/* ---- searching ---- */

/* The way along the list.  A list whose links run in a circle past the sentinel comes back to a block: Brent's
 * algorithm meets it again, and costs no reference. */
typedef struct way {
    uint64_t steps, turn, seen;
} way;

/* A block's link, which has to lead to a block, or to the sentinel, where it was not before. */
static inline uint64_t follow(hl_heap *h, way *w, uint64_t block, uint64_t offset)
{
    uint64_t link = heap_load(h, block + offset);
    if (heap_checks_links(h)) {
        if (!index_is_link(h, link) || link == w->seen)
            heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
        if (w->steps++ == w->turn) {
            w->seen = link;
            w->turn = 2 * w->turn + 1;
        }
    }
    return link;
}

/* The fits: the block and in *word its header, or 0. */

static uint64_t first_fit(hl_heap *h, uint64_t need, uint64_t *word)
{
    way w = {0};
    uint64_t sentinel = sentinel_of(h), block = follow(h, &w, sentinel, NEXT);
    while (block != sentinel) {
        *word = heap_load(h, block);
        if (block_size(*word) >= need)
            return block;
        block = follow(h, &w, block, NEXT);
    }
    return 0;
}

static uint64_t next_fit(hl_heap *h, uint64_t need, uint64_t *word)
{
    way w = {0};
    uint64_t sentinel = sentinel_of(h), start = heap_load(h, h->root + ROVER), block = start;
    if (heap_checks_links(h) && !index_is_link(h, start))
        heap_corrupt(h, h->root + ROOT_INDEX, HEAP_BROKEN_LINK);
    do {
        if (block != sentinel) {
            *word = heap_load(h, block);
            if (block_size(*word) >= need) {
                heap_store(h, h->root + ROVER, block);
                return block;
            }
        }
        block = follow(h, &w, block, NEXT);
    } while (block != start);
    return 0;
}

static uint64_t best_fit(hl_heap *h, uint64_t need, uint64_t *best_word)
{
    way w = {0};
    uint64_t sentinel = sentinel_of(h), best = 0, least = UINT64_MAX, block = follow(h, &w, sentinel, NEXT);
    while (block != sentinel) {
        uint64_t word = heap_load(h, block), size = block_size(word);
        if (need <= size && size < least) {
            best = block;
            *best_word = word;
            least = size;
            if (least == need)
                break;
        }
        block = follow(h, &w, block, NEXT);
    }
    return best;
}

static uint64_t worst_fit(hl_heap *h, uint64_t need, uint64_t *worst_word)
{
    way w = {0};
    uint64_t sentinel = sentinel_of(h), worst = 0, most = need - 1, block = follow(h, &w, sentinel, NEXT);
    while (block != sentinel) {
        uint64_t word = heap_load(h, block), size = block_size(word);
        if (size > most) {
            worst = block;
            *worst_word = word;
            most = size;
        }
        block = follow(h, &w, block, NEXT);
    }
    return worst;
}

static inline uint64_t index_find(hl_heap *h, uint64_t need, uint64_t *word, index_found *where)
{
    (void)where;
    switch (heap_spec(h)->option[LIST_FIT]) {
    case NEXT_FIT:
        return next_fit(h, need, word);
    case BEST_FIT:
        return best_fit(h, need, word);
    case WORST_FIT:
        return worst_fit(h, need, word);
    default:
        return first_fit(h, need, word);
    }
}

/* ---- the list ---- */

/* The blocks before and after, which have to point back (glibc's safe unlinking). */
static inline void neighbours(hl_heap *h, uint64_t block, uint64_t *prev, uint64_t *next)
{
    *next = heap_load(h, block + NEXT);
    *prev = heap_load(h, block + PREV);
    if (!heap_checks_links(h))
        return;
    if (!index_is_link(h, *next) || heap_load(h, *next + PREV) != block || !index_is_link(h, *prev) ||
        heap_load(h, *prev + NEXT) != block)
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
}

static inline void link_between(hl_heap *h, uint64_t block, uint64_t prev, uint64_t next)
{
    heap_store(h, block + NEXT, next);
    heap_store(h, block + PREV, prev);
    heap_store(h, prev + NEXT, block);
    heap_store(h, next + PREV, block);
}

/* Does not leave the rover at `block`. */
static inline void leave(hl_heap *h, uint64_t block, uint64_t to)
{
    if (heap_spec(h)->option[LIST_FIT] == NEXT_FIT && heap_load(h, h->root + ROVER) == block)
        heap_store(h, h->root + ROVER, to);
}

static void index_insert(hl_heap *h, uint64_t block, uint64_t size)
{
    (void)size;
    way w = {0};
    uint64_t sentinel = sentinel_of(h), prev = sentinel, next = sentinel;
    if (heap_spec(h)->option[LIST_ORDER] == FIFO)
        prev = follow(h, &w, sentinel, PREV);
    else
        next = follow(h, &w, sentinel, NEXT);
    if (heap_spec(h)->option[LIST_ORDER] == BY_ADDRESS)
        while (next != sentinel && next < block) {
            prev = next;
            next = follow(h, &w, next, NEXT);
        }
    /* what is written into is where the list says it is */
    if (heap_checks_links(h) && (heap_spec(h)->option[LIST_ORDER] == FIFO ? heap_load(h, prev + NEXT) != next
                                                              : heap_load(h, next + PREV) != prev))
        heap_corrupt(h, prev + BLOCK_HEADER, HEAP_BROKEN_LINK);
    link_between(h, block, prev, next);
}

static void index_remove(hl_heap *h, uint64_t block, uint64_t size, const index_found *where)
{
    (void)size, (void)where;
    uint64_t prev, next;
    neighbours(h, block, &prev, &next);
    heap_store(h, prev + NEXT, next);
    heap_store(h, next + PREV, prev);
    leave(h, block, next);
}

/* Lets `to` take the place of `block`. */
static void move(hl_heap *h, uint64_t block, uint64_t to)
{
    uint64_t prev, next;
    neighbours(h, block, &prev, &next);
    link_between(h, to, prev, next);
    leave(h, block, to);
}

static void index_shrink(hl_heap *h, uint64_t block, uint64_t size, uint64_t to, uint64_t rest,
                         const index_found *where)
{
    (void)size, (void)rest, (void)where;
    if (to != block)
        move(h, block, to);
}

static void index_grow(hl_heap *h, uint64_t block, uint64_t size, uint64_t to, uint64_t total)
{
    if (heap_spec(h)->option[LIST_ORDER] != BY_ADDRESS) {
        index_remove(h, block, size, NULL);
        index_insert(h, to, total);
    } else if (to != block) {
        move(h, block, to);
    }
}

/* ---- check ---- */

static void check_link(hl_heap *h, const survey *s, uint64_t block, uint64_t link, uint64_t back)
{
    if ((link != sentinel_of(h) && !survey_is_block(s, link)) || heap_load(h, link + back) != block)
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
}

static void index_check_links(hl_heap *h, survey *s, uint64_t block)
{
    uint64_t next = heap_load(h, block + NEXT), prev = heap_load(h, block + PREV);
    check_link(h, s, block, next, PREV);
    check_link(h, s, block, prev, NEXT);
}

static void index_check(hl_heap *h, survey *s)
{
    uint64_t sentinel = sentinel_of(h), rover = heap_load(h, h->root + ROVER);
    int rover_met = rover == sentinel;
    uint64_t prev = sentinel, block = heap_load(h, sentinel + NEXT);
    while (block != sentinel) {
        survey_indexed(h, s, block, prev);
        if (heap_load(h, block + PREV) != prev)
            heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
        if (heap_spec(h)->option[LIST_ORDER] == BY_ADDRESS && block < prev)
            heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_INDEX);
        rover_met |= block == rover;
        prev = block;
        block = heap_load(h, block + NEXT);
    }
    if (heap_load(h, sentinel + PREV) != prev || !rover_met)
        heap_corrupt(h, h->root + ROOT_INDEX, HEAP_BROKEN_LINK);
}

#endif
