/* Four-level page tables in frames, and the operations on ranges of their leaf entries. */
#include <stdlib.h>
#include <string.h>

#include "machine.h"

/* Entries of the upper levels allow everything; the leaf decides. */
#define TABLE_FLAGS (HL_PTE_P | HL_PTE_W | HL_PTE_U | HL_PTE_A)

static uint64_t frame_of(uint64_t entry) { return (entry & HL_PTE_FRAME_MASK) >> HL_PTE_FRAME_SHIFT; }

static uint64_t *table_at(const hl_machine *m, uint64_t frame)
{
    return (uint64_t *)(void *)(m->ram + frame * m->page_size);
}

static uint64_t entry_for(uint64_t frame, uint64_t flags) { return frame << HL_PTE_FRAME_SHIFT | flags; }

/* Level 0 is the leaf table; an entry at `level` serves 1 << level_shift(level) bytes. */
static unsigned level_shift(const hl_machine *m, int level)
{
    return m->page_shift + (unsigned)level * m->index_bits;
}

static uint64_t index_at(const hl_machine *m, uint64_t va, int level)
{
    return (va >> level_shift(m, level)) & ((1ull << m->index_bits) - 1);
}

static int walkable(const hl_machine *m, uint64_t va) { return (va >> m->va_bits) == 0; }

/* ---- spaces ---- */

hl_space *hl_space_new(hl_machine *m)
{
    uint64_t asid = 0;
    for (uint64_t tried = 1; tried <= 65535 && !asid; tried++) {
        uint64_t candidate = (m->next_asid + tried) % 65536;
        if (candidate && !m->spaces[candidate])
            asid = candidate;
    }
    if (!asid)
        return NULL;
    uint64_t root = hl_frame_alloc(m, HL_TABLE, 1);
    if (root == HL_NO_FRAME)
        return NULL;
    hl_space *s = calloc(1, sizeof *s);
    if (!s) {
        hl_frame_put(m, root);
        return NULL;
    }
    s->machine = m;
    s->root = root;
    s->asid = asid;
    s->tables = 1;
    m->spaces[asid] = s;
    m->next_asid = asid;
    return s;
}

void hl_space_delete(hl_space *s)
{
    hl_machine *m = s->machine;
    uint64_t end = 1ull << m->va_bits;
    hl_unmap_range(s, 0, end);
    hl_free_tables(s, 0, end, 0, end);
    hl_flush_space(s);
    hl_frame_put(m, s->root);
    m->spaces[s->asid] = NULL;
    free(s);
}

/* ---- one entry ---- */

/* The place of va's leaf entry; NULL where no table leads there.  With `make`, tables are added, and
 * NULL means that there was no frame for one. */
static uint64_t *leaf(hl_space *s, uint64_t va, int make)
{
    hl_machine *m = s->machine;
    uint64_t table = s->root;
    if (!walkable(m, va))
        return NULL;
    for (int level = HL_LEVELS - 1; level > 0; level--) {
        uint64_t *entry = table_at(m, table) + index_at(m, va, level);
        if (!(*entry & HL_PTE_P)) {
            if (!make)
                return NULL;
            uint64_t below = hl_frame_alloc(m, HL_TABLE, 1);
            if (below == HL_NO_FRAME)
                return NULL;
            *entry = entry_for(below, TABLE_FLAGS);
            m->mapcount[table]++;
            s->tables++;
        }
        table = frame_of(*entry);
    }
    return table_at(m, table) + index_at(m, va, 0);
}

static uint64_t table_of(const hl_machine *m, const uint64_t *entry)
{
    return (uint64_t)((const uint8_t *)entry - m->ram) / m->page_size;
}

/* Takes over one reference of the caller's. */
static void set_entry(hl_space *s, uint64_t *entry, uint64_t frame, uint64_t flags)
{
    hl_machine *m = s->machine;
    *entry = entry_for(frame, flags);
    m->mapcount[table_of(m, entry)]++;
    m->mapcount[frame]++;
    s->rss[m->kind[frame]]++;
    uint64_t rss = s->rss[HL_ANON] + s->rss[HL_FILE];
    if (rss > s->peak_rss)
        s->peak_rss = rss;
}

static void clear_entry(hl_space *s, uint64_t *entry)
{
    hl_machine *m = s->machine;
    uint64_t frame = frame_of(*entry);
    s->rss[m->kind[frame]]--;
    m->mapcount[frame]--;
    m->mapcount[table_of(m, entry)]--;
    *entry = 0;
    hl_frame_put(m, frame);
}

uint64_t hl_pte(const hl_space *s, uint64_t va)
{
    uint64_t *entry = leaf((hl_space *)s, va, 0);
    return entry ? *entry : 0;
}

int hl_walk(const hl_space *s, uint64_t va, uint64_t *tables, uint64_t *entries)
{
    const hl_machine *m = s->machine;
    uint64_t table = s->root;
    int steps = 0;
    if (!walkable(m, va))
        return 0;
    for (int level = HL_LEVELS - 1; level >= 0; level--) {
        uint64_t entry = table_at(m, table)[index_at(m, va, level)];
        tables[steps] = table;
        entries[steps++] = entry;
        if (!(entry & HL_PTE_P))
            break;
        table = frame_of(entry);
    }
    return steps;
}

int hl_map(hl_space *s, uint64_t va, uint64_t frame, uint64_t flags)
{
    uint64_t *entry = leaf(s, va, 1);
    if (!entry)
        return -1;
    if (*entry & HL_PTE_P)
        clear_entry(s, entry);
    set_entry(s, entry, frame, flags | HL_PTE_P);
    return 0;
}

uint64_t hl_map_zeroed(hl_space *s, uint64_t va, int kind, uint64_t flags)
{
    hl_machine *m = s->machine;
    uint64_t frame = hl_frame_alloc(m, kind, 1);
    if (frame == HL_NO_FRAME)
        return HL_NO_FRAME;
    if (hl_map(s, va, frame, flags) < 0) {
        hl_frame_put(m, frame);
        return HL_NO_FRAME;
    }
    return frame;
}

uint64_t hl_map_copy(hl_space *s, uint64_t va, uint64_t flags)
{
    hl_machine *m = s->machine;
    uint64_t old = frame_of(hl_pte(s, va));
    uint64_t frame = hl_frame_alloc(m, HL_ANON, 0);
    if (frame == HL_NO_FRAME)
        return HL_NO_FRAME;
    memcpy(m->ram + frame * m->page_size, m->ram + old * m->page_size, m->page_size);
    hl_map(s, va, frame, flags); /* cannot fail: the tables are there */
    return frame;
}

int hl_pte_update(hl_space *s, uint64_t va, uint64_t clear, uint64_t set)
{
    uint64_t *entry = leaf(s, va, 0);
    if (!entry || !(*entry & HL_PTE_P))
        return 0;
    *entry = (*entry & ~clear) | set;
    return 1;
}

/* ---- ranges ---- */

/* The first present leaf entry at or after *va and below end, skipping what no table serves; its
 * address goes to *va.  NULL when there is none. */
static uint64_t *next_leaf(hl_space *s, uint64_t *va, uint64_t end)
{
    hl_machine *m = s->machine;
    while (*va < end) {
        uint64_t table = s->root;
        int level = HL_LEVELS - 1;
        uint64_t *entry;
        for (;; level--) {
            entry = table_at(m, table) + index_at(m, *va, level);
            if (!(*entry & HL_PTE_P) || level == 0)
                break;
            table = frame_of(*entry);
        }
        if (level == 0) {
            /* along the leaf table, which serves up to the next multiple of its span */
            uint64_t span = 1ull << level_shift(m, 1);
            uint64_t stop = (*va & ~(span - 1)) + span;
            if (stop > end)
                stop = end;
            for (; *va < stop; *va += m->page_size, entry++)
                if (*entry & HL_PTE_P)
                    return entry;
        } else {
            uint64_t span = 1ull << level_shift(m, level);
            *va = (*va & ~(span - 1)) + span;
        }
    }
    return NULL;
}

/* The first of `end` and the end of what va's leaf table serves. */
static uint64_t leaf_table_end(const hl_machine *m, uint64_t va, uint64_t end)
{
    uint64_t span = 1ull << level_shift(m, 1);
    uint64_t stop = (va & ~(span - 1)) + span;
    return stop < end ? stop : end;
}

static uint64_t clip(const hl_machine *m, uint64_t end)
{
    uint64_t limit = 1ull << m->va_bits;
    return end < limit ? end : limit;
}

uint64_t hl_unmap_range(hl_space *s, uint64_t start, uint64_t end)
{
    hl_machine *m = s->machine;
    uint64_t count = 0, va = start, *entry;
    end = clip(m, end);
    while ((entry = next_leaf(s, &va, end))) {
        for (uint64_t stop = leaf_table_end(m, va, end); va < stop; va += m->page_size, entry++)
            if (*entry & HL_PTE_P) {
                clear_entry(s, entry);
                count++;
            }
    }
    return count;
}

uint64_t hl_protect_range(hl_space *s, uint64_t start, uint64_t end, uint64_t having, uint64_t clear,
                          uint64_t set)
{
    hl_machine *m = s->machine;
    uint64_t count = 0, va = start, *entry;
    end = clip(m, end);
    having |= HL_PTE_P;
    while ((entry = next_leaf(s, &va, end))) {
        for (uint64_t stop = leaf_table_end(m, va, end); va < stop; va += m->page_size, entry++)
            if ((*entry & having) == having) {
                *entry = (*entry & ~clear) | set;
                count++;
            }
    }
    return count;
}

int64_t hl_fork_range(hl_space *parent, hl_space *child, uint64_t start, uint64_t end, int cow)
{
    hl_machine *m = parent->machine;
    int64_t count = 0;
    uint64_t va = start, *entry;
    uint64_t shared = cow ? ~(HL_PTE_W | HL_PTE_EXCLUSIVE) : ~0ull;
    uint64_t fresh = cow ? ~HL_PTE_A : ~(HL_PTE_A | HL_PTE_D);
    end = clip(m, end);
    while ((entry = next_leaf(parent, &va, end))) {
        uint64_t *to = leaf(child, va, 1);
        if (!to)
            return -1;
        uint64_t child_table = table_of(m, to), copied = 0;
        for (uint64_t stop = leaf_table_end(m, va, end); va < stop; va += m->page_size, entry++, to++) {
            if (!(*entry & HL_PTE_P))
                continue;
            uint64_t frame = frame_of(*entry);
            *entry &= shared;
            *to = *entry & fresh;
            m->refcount[frame]++;
            m->mapcount[frame]++;
            child->rss[m->kind[frame]]++;
            copied++;
        }
        m->mapcount[child_table] += (uint32_t)copied;
        count += (int64_t)copied;
    }
    uint64_t rss = child->rss[HL_ANON] + child->rss[HL_FILE];
    if (rss > child->peak_rss)
        child->peak_rss = rss;
    return count;
}

int64_t hl_move_range(hl_space *s, uint64_t old_start, uint64_t length, uint64_t new_start)
{
    hl_machine *m = s->machine;
    int64_t count = 0;
    uint64_t va = old_start, end = clip(m, old_start + length), *entry;
    /* tables first, so that running out of frames moves nothing */
    for (; next_leaf(s, &va, end); va += m->page_size)
        if (!leaf(s, new_start + (va - old_start), 1))
            return -1;
    for (va = old_start; (entry = next_leaf(s, &va, end)); va += m->page_size, count++) {
        uint64_t *to = leaf(s, new_start + (va - old_start), 0);
        *to = *entry;
        m->mapcount[table_of(m, to)]++;
        *entry = 0;
        m->mapcount[table_of(m, entry)]--;
    }
    return count;
}

void hl_read_ptes(const hl_space *s, uint64_t start, uint64_t count, uint64_t *out)
{
    const hl_machine *m = s->machine;
    uint64_t va = start, end = clip(m, start + count * m->page_size), *entry;
    memset(out, 0, count * sizeof *out);
    for (; (entry = next_leaf((hl_space *)s, &va, end)); va += m->page_size)
        out[(va - start) >> m->page_shift] = *entry;
}

/* Frees the tables under `table` (which stands at `level` and serves from `base` on) that overlap
 * [start, end) and lie wholly in [floor, ceiling). */
static void free_below(hl_space *s, uint64_t table, int level, uint64_t base, uint64_t start,
                       uint64_t end, uint64_t floor, uint64_t ceiling)
{
    hl_machine *m = s->machine;
    uint64_t span = 1ull << level_shift(m, level);
    uint64_t first = start > base ? (start - base) / span : 0;
    for (uint64_t i = first; i < m->page_size / 8; i++) {
        uint64_t low = base + i * span;
        uint64_t *entry = table_at(m, table) + i;
        if (low >= end)
            break;
        if (!(*entry & HL_PTE_P))
            continue;
        uint64_t below = frame_of(*entry);
        if (level > 1)
            free_below(s, below, level - 1, low, start, end, floor, ceiling);
        if (low >= floor && low + span <= ceiling && m->mapcount[below] == 0) {
            *entry = 0;
            m->mapcount[table]--;
            s->tables--;
            hl_frame_put(m, below);
        }
    }
}

void hl_free_tables(hl_space *s, uint64_t start, uint64_t end, uint64_t floor, uint64_t ceiling)
{
    free_below(s, s->root, HL_LEVELS - 1, 0, start, end, floor, ceiling);
}
