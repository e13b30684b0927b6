/* segments.h says what a segment is. */
#include "segments.h"

#include <errno.h>

#include "large.h"

static uint64_t new_node(hl_heap *h)
{
    return book_map(h, h->root + SEGMENTS_BOOK, NODE_PAGES * env_page_size(h->env));
}

static unsigned index_of(const hl_heap *h, uint64_t slot)
{
    return (unsigned)((slot - segment_of(h, slot)) / SLOT);
}

int segments_begin(hl_heap *h)
{
    uint64_t page = env_page_size(h->env);
    uint64_t root = env_map(h->env, heap_round_up(SEGMENTS_ROOT, page) + NODE_PAGES * page);
    if (root == ENV_FAILED)
        return 0;
    h->root = root;
    heap_store(h, root + ROOT_MAGIC, h->design->magic);
    book_begin(h, root + SEGMENTS_BOOK);
    large_begin(h);
    return 1;
}

/* ---- the ring of an owner ---- */

uint64_t segments_link(hl_heap *h, uint64_t at, unsigned side)
{
    uint64_t link = heap_load(h, at + side);
    if (heap_checks_links(h) && !is_sealed(h, at + side, link))
        heap_corrupt(h, at, HEAP_BROKEN_LINK);
    return link & SEAL_TAG;
}

static void set_link(hl_heap *h, uint64_t at, unsigned side, uint64_t to)
{
    heap_store(h, at + side, seal(h, at + side, to));
}

uint64_t segments_next(hl_heap *h, uint64_t owner, uint64_t at)
{
    uint64_t next = segments_link(h, at, SEG_NEXT);
    if (next == owner)
        return 0;
    if (heap_checks_links(h) &&
        (next != segment_of(h, next) || !in_segment(h, next) || segments_link(h, next, SEG_PREV) != at))
        heap_corrupt(h, at, HEAP_BROKEN_LINK);
    return next;
}

static void ring_insert(hl_heap *h, uint64_t at, uint64_t segment)
{
    uint64_t next = segments_link(h, at, SEG_NEXT);
    set_link(h, segment, SEG_NEXT, next);
    set_link(h, segment, SEG_PREV, at);
    set_link(h, at, SEG_NEXT, segment);
    set_link(h, next, SEG_PREV, segment);
}

static void ring_remove(hl_heap *h, uint64_t segment)
{
    uint64_t next = segments_link(h, segment, SEG_NEXT), prev = segments_link(h, segment, SEG_PREV);
    set_link(h, prev, SEG_NEXT, next);
    set_link(h, next, SEG_PREV, prev);
}

void segments_own(hl_heap *h, uint64_t owner)
{
    uint64_t owners;
    set_link(h, owner, SEG_NEXT, owner);
    set_link(h, owner, SEG_PREV, owner);
    do
        owners = heap_load(h, h->root + SEGMENTS_OWNERS);
    while (!env_cas(h->env, h->root + SEGMENTS_OWNERS, owners, owners + 1));
}

static void insert_at_front(hl_heap *h, uint64_t owner, uint64_t segment) { ring_insert(h, owner, segment); }

static void insert_at_back(hl_heap *h, uint64_t owner, uint64_t segment)
{
    ring_insert(h, segments_link(h, owner, SEG_PREV), segment);
}

/* ---- which slices are free, dirty and old: three words and their sum ---- */

typedef struct slices {
    uint64_t free, dirty, old;
} slices;

/* No change of one of the words leaves the sum as it was. */
static uint64_t sum_of(const hl_heap *h, uint64_t segment, const slices *s)
{
    return seal_mix(h, seal_mix(h, seal_mix(h, segment ^ s->free) ^ s->dirty) ^ s->old);
}

static slices load_slices(hl_heap *h, uint64_t segment)
{
    slices s = {.free = heap_load(h, segment + SEG_FREE)};
    s.dirty = heap_load(h, segment + SEG_DIRTY);
    s.old = heap_load(h, segment + SEG_OLD);
    if (heap_load(h, segment + SEG_SUM) != sum_of(h, segment, &s) && heap_checks_links(h))
        heap_corrupt(h, segment, HEAP_BROKEN_HEADER);
    return s;
}

static void store_slices(hl_heap *h, uint64_t segment, const slices *s)
{
    heap_store(h, segment + SEG_FREE, s->free);
    heap_store(h, segment + SEG_DIRTY, s->dirty);
    heap_store(h, segment + SEG_OLD, s->old);
    heap_store(h, segment + SEG_SUM, sum_of(h, segment, s));
}

/* ---- mapping ---- */

/* What is mapped beside a segment often is aligned; else twice as much is mapped and cut. */
static uint64_t map_aligned(hl_heap *h)
{
    uint64_t size = segment_size(h), at = env_map(h->env, size);
    if (at == ENV_FAILED || at == segment_of(h, at))
        return at;
    env_unmap(h->env, at, size);
    uint64_t more = size - env_page_size(h->env);
    at = env_map(h->env, size + more);
    if (at == ENV_FAILED)
        return at;
    uint64_t segment = heap_round_up(at, size), front = segment - at;
    if (front)
        env_unmap(h->env, at, front);
    if (more > front)
        env_unmap(h->env, segment + size, more - front);
    return segment;
}

static uint64_t map_segment(hl_heap *h, uint64_t owner)
{
    radix map = segment_map_of(h);
    env_lock(h->env);
    uint64_t segment = map_aligned(h);
    if (segment != ENV_FAILED && !radix_set(h, &map, segment >> segment_bits(h), segment, new_node)) {
        env_unmap(h->env, segment, segment_size(h));
        segment = ENV_FAILED;
    }
    if (segment != ENV_FAILED) {
        heap_store(h, near_word(h, segment), segment + 1);
        heap_store(h, h->root + SEGMENTS_COUNT, heap_load(h, h->root + SEGMENTS_COUNT) + 1);
    }
    env_unlock(h->env);
    if (segment == ENV_FAILED)
        return 0;
    heap_store(h, segment + SEG_SEAL, seal(h, segment, SLICES));
    heap_store(h, segment + SEG_OWNER, seal(h, segment, owner));
    store_slices(h, segment, &(slices){.free = all_slices(h)});
    insert_at_front(h, owner, segment);
    return segment;
}

static void unmap_segment(hl_heap *h, uint64_t segment)
{
    radix map = segment_map_of(h);
    ring_remove(h, segment);
    env_lock(h->env);
    radix_set(h, &map, segment >> segment_bits(h), 0, new_node);
    if (heap_load(h, near_word(h, segment)) == segment + 1)
        heap_store(h, near_word(h, segment), 0);
    heap_store(h, h->root + SEGMENTS_COUNT, heap_load(h, h->root + SEGMENTS_COUNT) - 1);
    env_unlock(h->env);
    env_unmap(h->env, segment, segment_size(h));
}

/* ---- slices ---- */

/* Takes the slices of `run` from the segment; whether they are clean. */
static int claim(hl_heap *h, uint64_t segment, uint64_t run)
{
    slices s = load_slices(h, segment);
    int clean = !(s.dirty & run);
    s.free &= ~run;
    s.dirty |= run;
    s.old &= ~run;
    store_slices(h, segment, &s);
    if (!s.free) {
        uint64_t owner = segments_owner(h, segment, heap_load(h, segment + SEG_OWNER));
        ring_remove(h, segment);
        insert_at_back(h, owner, segment);
    }
    return clean;
}

uint64_t segments_take(hl_heap *h, uint64_t owner, unsigned n, unsigned step, int *clean)
{
    for (uint64_t segment = owner; (segment = segments_next(h, owner, segment));) {
        uint64_t free_slices = heap_load(h, segment + SEG_FREE);
        if (!free_slices)
            break;
        uint64_t starts = run_starts(free_slices, n, step);
        if (!starts)
            continue;
        uint64_t used = run_starts(free_slices & heap_load(h, segment + SEG_DIRTY), n, step);
        unsigned at = (unsigned)__builtin_ctzll(used ? used : starts); /* pages that are there spare faults */
        *clean = claim(h, segment, run_mask(at, n));
        return segment + SLOT * at;
    }
    return 0;
}

uint64_t segments_grow(hl_heap *h, uint64_t owner, unsigned n, unsigned step, int *clean)
{
    uint64_t segment = map_segment(h, owner);
    if (!segment) {
        env_set_errno(h->env, ENOMEM);
        return 0;
    }
    unsigned at = (unsigned)__builtin_ctzll(run_starts(all_slices(h), n, step));
    *clean = claim(h, segment, run_mask(at, n));
    return segment + SLOT * at;
}

int segments_extend(hl_heap *h, uint64_t slot, unsigned n)
{
    uint64_t segment = segment_of(h, slot), free_slices = heap_load(h, segment + SEG_FREE);
    unsigned at = index_of(h, slot);
    if (at + n > SLICES || (free_slices & run_mask(at, n)) != run_mask(at, n))
        return 0;
    claim(h, segment, run_mask(at, n));
    return 1;
}

int segments_give(hl_heap *h, uint64_t owner, uint64_t slot, unsigned n)
{
    uint64_t segment = segment_of(h, slot);
    slices s = load_slices(h, segment);
    int was_full = !s.free;
    s.free |= run_mask(index_of(h, slot), n);
    store_slices(h, segment, &s);
    if (was_full) {
        ring_remove(h, segment);
        insert_at_front(h, owner, segment);
    }
    uint64_t emptied = heap_load(h, owner + OWNER_EMPTIED) + n;
    heap_store(h, owner + OWNER_EMPTIED, emptied);
    uint64_t owners = heap_load(h, h->root + SEGMENTS_OWNERS), shares = owners < MOST_SHARES ? owners : MOST_SHARES;
    return (emptied << slice_bits(h)) * shares >= heap_spec(h)->option[SEGMENTS_DELAY];
}

static void discard(hl_heap *h, uint64_t segment, uint64_t slices)
{
    while (slices) {
        unsigned at = (unsigned)__builtin_ctzll(slices), n = run_length(slices);
        env_discard(h->env, segment + ((uint64_t)at << slice_bits(h)), (uint64_t)n << slice_bits(h));
        slices &= ~run_mask(at, n);
    }
}

void segments_sweep(hl_heap *h, uint64_t owner, int all)
{
    all |= !heap_spec(h)->option[SEGMENTS_DELAY];
    heap_store(h, owner + OWNER_EMPTIED, 0);
    uint64_t segment = segments_next(h, owner, owner), next;
    for (; segment; segment = next) {
        slices s = load_slices(h, segment);
        if (!s.free)
            break;
        next = segments_next(h, owner, segment);
        uint64_t idle = s.free & s.dirty, old = all ? idle : s.old;
        if (s.free == all_slices(h) && old == s.dirty) {
            unmap_segment(h, segment);
            continue;
        }
        if (old)
            discard(h, segment, old);
        s.dirty &= ~old;
        s.old = idle & ~old;
        store_slices(h, segment, &s);
    }
}

void segments_move(hl_heap *h, uint64_t from, uint64_t to)
{
    uint64_t segment;
    while ((segment = segments_next(h, from, from))) {
        ring_remove(h, segment);
        heap_store(h, segment + SEG_OWNER, seal(h, segment, to));
        if (heap_load(h, segment + SEG_FREE))
            insert_at_front(h, to, segment);
        else
            insert_at_back(h, to, segment);
    }
}

void segments_check_near(hl_heap *h)
{
    for (uint64_t n = 0; n < NEAR_WORDS; n++) {
        uint64_t segment = heap_load(h, h->root + SEGMENTS_NEAR + 8 * n) - 1;
        if (segment + 1 && (segment != segment_of(h, segment) || !is_in_tree(h, segment)))
            heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    }
}

void segments_check(hl_heap *h, uint64_t owner, uint64_t at, uint64_t segment)
{
    if (segment != segment_of(h, segment) || !in_segment(h, segment) ||
        heap_load(h, segment + SEG_PREV) != seal(h, segment + SEG_PREV, at))
        heap_corrupt(h, at, HEAP_BROKEN_LINK);
    slices s = {.free = heap_load(h, segment + SEG_FREE)};
    s.dirty = heap_load(h, segment + SEG_DIRTY);
    s.old = heap_load(h, segment + SEG_OLD);
    uint64_t takeable = all_slices(h);
    if (heap_load(h, segment + SEG_SUM) != sum_of(h, segment, &s) ||
        heap_load(h, segment + SEG_SEAL) != seal(h, segment, SLICES) ||
        heap_load(h, segment + SEG_OWNER) != seal(h, segment, owner) || (s.free | s.dirty) & ~takeable ||
        s.old & ~(s.free & s.dirty) || takeable & ~(s.free | s.dirty))
        heap_corrupt(h, segment, HEAP_BROKEN_HEADER);
}
