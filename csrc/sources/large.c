/* large.h says what a large block is. */
#include "large.h"

#include <errno.h>

#include "../parts/seal.h"

enum { PAYLOAD = 0, BASE = 8, LENGTH = 16, SEAL = 24, SLOT = 32 };

enum { TABLE_BITS = 63 }; /* of the root's word of the table: log2 of its slots */

/* The table as the root has it. */
typedef struct table {
    uint64_t at, slots;
    unsigned shift; /* brings the hash to a number of a slot */
    uint64_t page;
} table;

static table table_of(hl_heap *h, uint64_t word)
{
    unsigned bits = word & TABLE_BITS;
    return (table){word - bits, word ? 1ull << bits : 0, 64 - bits, env_page_size(h->env)};
}

static table load_table(hl_heap *h) { return table_of(h, heap_load(h, h->root + LARGE_TABLE)); }

/* Where the search for a payload begins. */
static uint64_t home_of(const table *t, uint64_t p) { return p / t->page * SEAL_FACTOR >> t->shift; }

static uint64_t slot_at(const table *t, uint64_t n) { return t->at + SLOT * n; }

static uint64_t seal_of(const hl_heap *h, uint64_t p, uint64_t base, uint64_t length)
{
    return seal(h, p, (base ^ length << 1) & SEAL_TAG);
}

static void write_slot(hl_heap *h, uint64_t slot, uint64_t p, uint64_t base, uint64_t length)
{
    heap_store(h, slot + PAYLOAD, p);
    heap_store(h, slot + BASE, base);
    heap_store(h, slot + LENGTH, length);
    heap_store(h, slot + SEAL, seal_of(h, p, base, length));
}

/* The number of the slot that has p, or of the free one where the search ends; *found is what it has. */
static uint64_t search(hl_heap *h, const table *t, uint64_t p, uint64_t *found)
{
    uint64_t n = home_of(t, p);
    for (uint64_t probes = 0; probes < t->slots; probes++) {
        *found = heap_load(h, slot_at(t, n) + PAYLOAD);
        if (!*found || *found == p)
            return n;
        n = (n + 1) & (t->slots - 1);
    }
    heap_corrupt(h, h->root, HEAP_BROKEN_INDEX); /* half of the slots are free, in a sound table */
}

/* ---- the table ---- */

/* Makes sure that one more block has a slot: 1, and the table in *t; or 0 with errno. */
static int reserve(hl_heap *h, table *t)
{
    *t = load_table(h);
    if (2 * (heap_load(h, h->root + LARGE_COUNT) + 1) <= t->slots)
        return 1;
    table old = *t;
    uint64_t slots = old.slots ? 2 * old.slots : t->page / SLOT, found;
    uint64_t at = env_map(h->env, heap_round_up(SLOT * slots, t->page));
    if (at == ENV_FAILED)
        return 0;
    uint64_t word = at | (unsigned)__builtin_ctzll(slots);
    *t = table_of(h, word);
    if (old.slots) {
        for (uint64_t n = 0; n < old.slots; n++) {
            uint64_t p = heap_load(h, slot_at(&old, n) + PAYLOAD);
            if (p)
                env_copy(h->env, slot_at(t, search(h, t, p, &found)), slot_at(&old, n), SLOT);
        }
        env_unmap(h->env, old.at, SLOT * old.slots);
    }
    heap_store(h, h->root + LARGE_TABLE, word);
    return 1;
}

/* The number of p's slot, and the table, base and length; or heap_corrupt. */
static uint64_t slot_of_allocated(hl_heap *h, uint64_t p, table *t, uint64_t *base, uint64_t *length)
{
    uint64_t found;
    *t = load_table(h);
    if (p & (t->page - 1) || !t->slots)
        heap_corrupt(h, p, HEAP_FOREIGN_POINTER);
    uint64_t n = search(h, t, p, &found);
    if (!found)
        heap_corrupt(h, p, HEAP_FOREIGN_POINTER);
    uint64_t slot = slot_at(t, n);
    *base = heap_load(h, slot + BASE);
    *length = heap_load(h, slot + LENGTH);
    if (heap_checks_all(h) && heap_load(h, slot + SEAL) != seal_of(h, p, *base, *length))
        heap_corrupt(h, p, HEAP_BROKEN_HEADER);
    return n;
}

/* Empties slot n and moves what was kept from its own place by it (algorithm R). */
static void empty_slot(hl_heap *h, const table *t, uint64_t n)
{
    uint64_t mask = t->slots - 1, hole = n, at = n;
    for (;;) {
        at = (at + 1) & mask;
        uint64_t p = heap_load(h, slot_at(t, at) + PAYLOAD);
        if (!p || at == n)
            break;
        if (((at - home_of(t, p)) & mask) >= ((at - hole) & mask)) { /* its search passes the hole */
            env_copy(h->env, slot_at(t, hole), slot_at(t, at), SLOT);
            hole = at;
        }
    }
    heap_store(h, slot_at(t, hole) + PAYLOAD, 0);
}

/* ---- the contract ---- */

uint64_t large_malloc(hl_heap *h, uint64_t size, uint64_t alignment)
{
    uint64_t page = env_page_size(h->env), found;
    uint64_t room = HEAP_MOST - page; /* so that no sum below wraps around */
    uint64_t padding = alignment > page ? alignment : 0;
    table t;
    if (size > room || padding > room - size) {
        env_set_errno(h->env, ENOMEM);
        return 0;
    }
    if (!reserve(h, &t))
        return 0;
    uint64_t length = heap_round_up(padding + (size ? size : 1), page);
    uint64_t base = env_map(h->env, length);
    if (base == ENV_FAILED)
        return 0;
    uint64_t p = heap_round_up(base, alignment);
    write_slot(h, slot_at(&t, search(h, &t, p, &found)), p, base, length);
    heap_store(h, h->root + LARGE_COUNT, heap_load(h, h->root + LARGE_COUNT) + 1);
    h->zeroed = 1;
    return p;
}

void large_free(hl_heap *h, uint64_t p)
{
    table t;
    uint64_t base, length, n = slot_of_allocated(h, p, &t, &base, &length);
    empty_slot(h, &t, n);
    heap_store(h, h->root + LARGE_COUNT, heap_load(h, h->root + LARGE_COUNT) - 1);
    if (heap_spec(h)->mmap_threshold == LARGE_DYNAMIC && length <= LARGE_HIGHEST &&
        length > heap_load(h, h->root + LARGE_THRESHOLD))
        heap_store(h, h->root + LARGE_THRESHOLD, length);
    env_unmap(h->env, base, length);
}

uint64_t large_usable(hl_heap *h, uint64_t p)
{
    table t;
    uint64_t base, length;
    slot_of_allocated(h, p, &t, &base, &length);
    return base + length - p;
}

int large_resize(hl_heap *h, uint64_t p, uint64_t size)
{
    table t;
    uint64_t base, length, n = slot_of_allocated(h, p, &t, &base, &length);
    uint64_t least = heap_spec(h)->mmap_threshold == LARGE_DYNAMIC ? LARGE_LEAST : heap_spec(h)->mmap_threshold;
    if (size < least || size > base + length - p)
        return 0;
    uint64_t needed = heap_round_up(p - base + size, t.page);
    if (needed < length) {
        env_unmap(h->env, base + needed, length - needed);
        write_slot(h, slot_at(&t, n), p, base, needed);
    }
    return 1;
}

int large_walk(hl_heap *h, uint64_t *n, hl_span *out)
{
    table t = load_table(h);
    if (!t.slots)
        return 0;
    if (!*n) {
        *out = heap_metadata(t.at, heap_round_up(SLOT * t.slots, t.page));
        ++*n;
        return 1;
    }
    for (; *n <= t.slots; ++*n) {
        uint64_t slot = slot_at(&t, *n - 1), p = heap_load(h, slot + PAYLOAD);
        if (!p)
            continue;
        out->start = heap_load(h, slot + BASE);
        out->size = heap_load(h, slot + LENGTH);
        out->payload = p;
        out->usable = out->start + out->size - p;
        out->state = HEAP_LARGE;
        if (p - out->start >= out->size)
            heap_corrupt(h, p, HEAP_BROKEN_HEADER);
        ++*n;
        return 1;
    }
    return 0;
}

void large_check(hl_heap *h)
{
    table t = load_table(h);
    uint64_t count = 0, found;
    for (uint64_t n = 0; n < t.slots; n++) {
        uint64_t slot = slot_at(&t, n), p = heap_load(h, slot + PAYLOAD);
        if (!p)
            continue;
        uint64_t base = heap_load(h, slot + BASE), length = heap_load(h, slot + LENGTH);
        if (base % t.page || length % t.page || p % t.page || p - base >= length ||
            heap_load(h, slot + SEAL) != seal_of(h, p, base, length))
            heap_corrupt(h, p, HEAP_BROKEN_HEADER);
        if (search(h, &t, p, &found) != n)
            heap_corrupt(h, p, HEAP_BROKEN_INDEX);
        count++;
    }
    if (count != heap_load(h, h->root + LARGE_COUNT) || 2 * count > t.slots)
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
}
