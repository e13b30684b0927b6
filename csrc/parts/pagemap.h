/* A page map: from the page of an address to a number, by hashing, without following the address.
 *
 *   base -> +0  table     its address, a multiple of 64, and in the low 6 bits k: it has 2^k slots
 *           +8  count     slots in use: at most half of them
 *
 *   slot    63                            17 + b                      0
 *           +------------------------------+--------------------------+
 *           |  number of the page          |  the number kept for it  |       2^b bytes are a page; 0: free
 *           +------------------------------+--------------------------+
 *
 * An address has 47 bits, and so page and number fit into one word: a lookup loads the table's word and, as a
 * rule, one slot.  heaplab/allocators/parts/pagemap.py is the twin, and has the costs and the source.
 */
#ifndef HL_PAGEMAP_H
#define HL_PAGEMAP_H

#include "../heap/heap.h"

#define PAGEMAP_FACTOR 0x9E3779B97F4A7C15ull

enum { PAGEMAP_TABLE = 0, PAGEMAP_COUNT = 8, PAGEMAP_SIZE = 16 };
enum { PAGEMAP_LEAST = 3, PAGEMAP_MOST = 40 }; /* k of a table */

/* The table as the word at `base` has it; or heap_corrupt. */
typedef struct pagemap {
    uint64_t base, at;
    unsigned k;
    uint64_t page;
} pagemap;

static inline pagemap pagemap_load(hl_heap *h, uint64_t base)
{
    uint64_t word = heap_load(h, base + PAGEMAP_TABLE);
    if ((word & 63) < PAGEMAP_LEAST || (word & 63) > PAGEMAP_MOST)
        heap_corrupt(h, base, HEAP_BROKEN_INDEX);
    return (pagemap){base, word & ~63ull, (unsigned)word & 63, env_page_size(h->env)};
}

static inline uint64_t pagemap_slots(const pagemap *m) { return 1ull << m->k; }

/* How many numbers there are: each is below. */
static inline uint64_t pagemap_numbers(const pagemap *m) { return m->page << 17; }

static inline uint64_t pagemap_slot(const pagemap *m, uint64_t n) { return m->at + 8 * n; }

static inline uint64_t pagemap_number(const pagemap *m, uint64_t slot) { return slot & (pagemap_numbers(m) - 1); }

/* The address of the page that a slot is for. */
static inline uint64_t pagemap_page(const pagemap *m, uint64_t slot) { return slot >> 17 & ~(m->page - 1); }

/* Where the search for the page of p begins. */
static inline uint64_t pagemap_home(const pagemap *m, uint64_t p)
{
    return p / m->page * PAGEMAP_FACTOR >> (64 - m->k);
}

/* The slot of the page of p, or the free one where the search ends: its number, and in *slot what it has. */
static inline uint64_t pagemap_search(hl_heap *h, const pagemap *m, uint64_t p, uint64_t *slot)
{
    uint64_t n = pagemap_home(m, p), tag = p & ~(m->page - 1);
    for (uint64_t probes = pagemap_slots(m); probes--; n = (n + 1) & (pagemap_slots(m) - 1)) {
        *slot = heap_load(h, pagemap_slot(m, n));
        if (!*slot || pagemap_page(m, *slot) == tag)
            return n;
    }
    heap_corrupt(h, m->base, HEAP_BROKEN_INDEX); /* half of the slots are free, in a sound table */
}

/* Makes the 2^k zeroed words at `at` an empty table. */
static inline void pagemap_begin(hl_heap *h, uint64_t base, uint64_t at, unsigned k)
{
    heap_store(h, base + PAGEMAP_TABLE, at | k);
    heap_store(h, base + PAGEMAP_COUNT, 0);
}

/* Whether `more` pages find room. */
static inline int pagemap_has_room(hl_heap *h, const pagemap *m, uint64_t more)
{
    return 2 * (heap_load(h, m->base + PAGEMAP_COUNT) + more) <= pagemap_slots(m);
}

/* Moves to the 2^k zeroed words at `at`: the new table. */
static inline pagemap pagemap_move(hl_heap *h, const pagemap *m, uint64_t at, unsigned k)
{
    pagemap to = {m->base, at, k, m->page};
    for (uint64_t n = 0; n < pagemap_slots(m); n++) {
        uint64_t slot = heap_load(h, pagemap_slot(m, n)), found;
        if (slot)
            heap_store(h, pagemap_slot(&to, pagemap_search(h, &to, pagemap_page(m, slot), &found)), slot);
    }
    heap_store(h, m->base + PAGEMAP_TABLE, at | k);
    return to;
}

/* The page of p has the number from now on.  There is room. */
static inline void pagemap_insert(hl_heap *h, const pagemap *m, uint64_t p, uint64_t number)
{
    uint64_t found, n = pagemap_search(h, m, p, &found);
    heap_store(h, pagemap_slot(m, n), (p & ~(m->page - 1)) << 17 | number);
}

/* The page of p has no number any more.  What the search for other pages passes moves up (algorithm R). */
static inline void pagemap_remove(hl_heap *h, const pagemap *m, uint64_t p)
{
    uint64_t mask = pagemap_slots(m) - 1, slot, hole = pagemap_search(h, m, p, &slot), at = hole, first = hole;
    for (;;) {
        at = (at + 1) & mask;
        slot = heap_load(h, pagemap_slot(m, at));
        if (!slot || at == first)
            break;
        if (((at - pagemap_home(m, pagemap_page(m, slot))) & mask) >= ((at - hole) & mask)) {
            heap_store(h, pagemap_slot(m, hole), slot);
            hole = at;
        }
    }
    heap_store(h, pagemap_slot(m, hole), 0);
}

/* The count has changed by `by`; insert and remove leave that to who knows how many come together. */
static inline void pagemap_count(hl_heap *h, const pagemap *m, int64_t by)
{
    heap_store(h, m->base + PAGEMAP_COUNT, heap_load(h, m->base + PAGEMAP_COUNT) + (uint64_t)by);
}

#endif
