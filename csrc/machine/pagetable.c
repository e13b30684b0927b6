/* Four-level page tables in frames, and the operations on ranges of their leaf entries. */
#include <stdlib.h>
#include <string.h>

#include "look.h"

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
        uint64_t candidate = (m->next_asid + tried) % 65535; /* 65535 would look like no TLB entry */
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
    hl_look_away(s);
    hl_unmap_range(s, 0, end);
    hl_free_tables(s, 0, end, 0, end);
    hl_flush_space(s);
    hl_frame_put(m, s->root);
    m->spaces[s->asid] = NULL;
    free(s);
}

/* ---- one entry ---- */

static uint64_t table_of(const hl_machine *m, const uint64_t *entry)
{
    return (uint64_t)((const uint8_t *)entry - m->ram) >> m->page_shift;
}

/* Copies `n` entries of a leaf table to a leaf table without, `keep` choosing the bits that both have after
 * it and `fresh` those of the copies.  The pages get one more owner each; `counts` by kind what was copied. */
static void copy_entries(hl_machine *m, uint64_t *from, uint64_t *to, uint64_t n, uint64_t keep,
                         uint64_t fresh, uint64_t *counts)
{
    uint64_t table = table_of(m, to), copied = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (!(from[i] & HL_PTE_P))
            continue;
        uint64_t frame = frame_of(from[i]);
        from[i] &= keep;
        to[i] = from[i] & fresh;
        m->refcount[frame]++;
        m->mapcount[frame]++;
        counts[m->kind[frame]]++;
    }
    for (int kind = 0; kind < HL_KINDS; kind++) {
        m->held[table][kind] = (uint16_t)(m->held[table][kind] + counts[kind]);
        copied += counts[kind];
    }
    m->mapcount[table] += (uint32_t)copied;
}

/* Whether others have the leaf table below this entry too, or had it since the last write through it. */
static int maybe_shared(uint64_t upper) { return (upper & (HL_PTE_P | HL_PTE_W)) == HL_PTE_P; }

/* Makes the leaf table below `upper` its space's own; -1 when there is no frame for the copy.
 * No flush is owed: the pages stay where they are, and no TLB entry allowed writes through a shared table. */
static int own_table(hl_machine *m, uint64_t *upper)
{
    uint64_t shared = frame_of(*upper);
    if (m->refcount[shared] > 1) {
        uint64_t own = hl_frame_alloc(m, HL_TABLE, 1), counts[HL_KINDS] = {0};
        if (own == HL_NO_FRAME)
            return -1;
        copy_entries(m, table_at(m, shared), table_at(m, own), m->page_size / 8,
                     ~(HL_PTE_W | HL_PTE_EXCLUSIVE), ~0ull, counts);
        hl_frame_put(m, shared);
        *upper = entry_for(own, TABLE_FLAGS);
    }
    *upper |= HL_PTE_W;
    return 0;
}

enum purpose { LOOK, CHANGE, MAKE };

/* The place of the entry at `level` on the way to va; NULL where no table leads there.  To CHANGE it, its
 * table becomes the space's own first; to MAKE it, tables are added; NULL then means no frame for one. */
static uint64_t *entry_at(hl_space *s, uint64_t va, int at, enum purpose purpose)
{
    hl_machine *m = s->machine;
    uint64_t table = s->root;
    if (!walkable(m, va))
        return NULL;
    for (int level = HL_LEVELS - 1; level > at; level--) {
        uint64_t *entry = table_at(m, table) + index_at(m, va, level);
        if (maybe_shared(*entry) && purpose != LOOK) {
            if (own_table(m, entry) < 0)
                return NULL;
        } else if (!(*entry & HL_PTE_P)) {
            if (purpose != MAKE)
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
    return table_at(m, table) + index_at(m, va, at);
}

static uint64_t *leaf(hl_space *s, uint64_t va, enum purpose purpose)
{
    return entry_at(s, va, 0, purpose);
}

/* Takes over one reference of the caller's. */
static void set_entry(hl_space *s, uint64_t *entry, uint64_t frame, uint64_t flags)
{
    hl_machine *m = s->machine;
    uint64_t table = table_of(m, entry);
    *entry = entry_for(frame, flags);
    m->mapcount[table]++;
    m->held[table][m->kind[frame]]++;
    m->mapcount[frame]++;
    s->rss[m->kind[frame]]++;
    uint64_t rss = s->rss[HL_ANON] + s->rss[HL_FILE];
    if (rss > s->peak_rss)
        s->peak_rss = rss;
}

static void clear_entry(hl_space *s, uint64_t *entry)
{
    hl_machine *m = s->machine;
    uint64_t frame = frame_of(*entry), table = table_of(m, entry);
    s->rss[m->kind[frame]]--;
    m->mapcount[frame]--;
    m->mapcount[table]--;
    m->held[table][m->kind[frame]]--;
    if (*entry & HL_PTE_D && m->kind[frame] == HL_FILE)
        m->flags[frame] |= HL_DIRTY;
    *entry = 0;
    hl_frame_put(m, frame);
}

uint64_t hl_pte(const hl_space *s, uint64_t va)
{
    const hl_machine *m = s->machine;
    const uint64_t *upper = entry_at((hl_space *)s, va, 1, LOOK);
    if (!upper || !(*upper & HL_PTE_P))
        return 0;
    uint64_t entry = table_at(m, frame_of(*upper))[index_at(m, va, 0)];
    return maybe_shared(*upper) ? entry & ~(HL_PTE_W | HL_PTE_EXCLUSIVE) : entry;
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
    uint64_t *entry = leaf(s, va, MAKE);
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

/* Makes `to`, an ANON frame, a copy of `from`. */
static void copy_page(hl_machine *m, uint64_t to, uint64_t from)
{
    memcpy(m->ram + to * m->page_size, m->ram + from * m->page_size, m->page_size);
    if (m->kind[from] == HL_ANON)
        m->origin[to] = m->origin[from];
}

uint64_t hl_map_copy(hl_space *s, uint64_t va, uint64_t flags)
{
    hl_machine *m = s->machine;
    uint64_t old = frame_of(hl_pte(s, va));
    uint64_t frame = hl_frame_alloc(m, HL_ANON, 0);
    if (frame == HL_NO_FRAME)
        return HL_NO_FRAME;
    copy_page(m, frame, old);
    if (hl_map(s, va, frame, flags) < 0) {
        hl_frame_put(m, frame);
        return HL_NO_FRAME;
    }
    return frame;
}

int hl_pte_update(hl_space *s, uint64_t va, uint64_t clear, uint64_t set)
{
    uint64_t *entry = leaf(s, va, CHANGE);
    if (!entry || !(*entry & HL_PTE_P))
        return 0;
    *entry = (*entry & ~clear) | set;
    return 1;
}

/* ---- ranges ---- */

/* The first present entry at level `at` that serves *va or what follows it below end, skipping what no table
 * serves; *va becomes the first address that it serves, if that is higher.  NULL when there is none. */
static inline uint64_t *next_entry(hl_space *s, uint64_t *va, uint64_t end, int at)
{
    hl_machine *m = s->machine;
    while (*va < end) {
        uint64_t table = s->root;
        int level = HL_LEVELS - 1;
        uint64_t *entry;
        for (;; level--) {
            entry = table_at(m, table) + index_at(m, *va, level);
            if (!(*entry & HL_PTE_P) || level == at)
                break;
            table = frame_of(*entry);
        }
        uint64_t span = 1ull << level_shift(m, level);
        if (level == at) {
            /* along the table, which serves up to the next multiple of its span */
            uint64_t all = 1ull << level_shift(m, at + 1);
            uint64_t stop = (*va & ~(all - 1)) + all;
            if (stop > end)
                stop = end;
            for (; *va < stop; *va = (*va & ~(span - 1)) + span, entry++)
                if (*entry & HL_PTE_P)
                    return entry;
        } else {
            *va = (*va & ~(span - 1)) + span;
        }
    }
    return NULL;
}

static uint64_t *next_leaf(hl_space *s, uint64_t *va, uint64_t end) { return next_entry(s, va, end, 0); }

/* The same for the entries above leaf tables. */
static uint64_t *next_upper(hl_space *s, uint64_t *va, uint64_t end) { return next_entry(s, va, end, 1); }

/* The first of `end` and the end of what the entry at `level` on the way to va serves. */
static uint64_t entry_end(const hl_machine *m, uint64_t va, int level, uint64_t end)
{
    uint64_t span = 1ull << level_shift(m, level);
    uint64_t stop = (va & ~(span - 1)) + span;
    return stop < end ? stop : end;
}

/* The same for va's leaf table. */
static uint64_t leaf_table_end(const hl_machine *m, uint64_t va, uint64_t end)
{
    return entry_end(m, va, 1, end);
}

/* Where `from` has an entry at `level` for addresses in [start, end), `to` gets the tables down to the one
 * whose entries are at level `made`, for the same addresses moved by `by`.  -1 when there is no frame for
 * one. */
static int make_tables_alike(hl_space *from, uint64_t start, uint64_t end, hl_space *to, uint64_t by, int level,
                             int made)
{
    hl_machine *m = from->machine;
    for (uint64_t va = start, stop; next_entry(from, &va, end, level); va = stop) {
        stop = entry_end(m, va, level, end);
        for (uint64_t at = va + by; at < stop + by; at = entry_end(m, at, level, stop + by))
            if (!entry_at(to, at, made, MAKE))
                return -1;
    }
    return 0;
}

static uint64_t clip(const hl_machine *m, uint64_t end)
{
    uint64_t limit = 1ull << m->va_bits;
    return end < limit ? end : limit;
}

/* Whether all that va's leaf table, below `upper`, holds is for addresses in [start, end). */
static int holds_only(const hl_machine *m, const uint64_t *upper, uint64_t va, uint64_t start, uint64_t end)
{
    uint64_t span = 1ull << level_shift(m, 1), base = va & ~(span - 1);
    if (start <= base && base + span <= end)
        return 1;
    uint64_t table = frame_of(*upper), found = 0;
    const uint64_t *entries = table_at(m, table);
    uint64_t from = start > base ? (start - base) >> m->page_shift : 0;
    uint64_t to = end < base + span ? (end - base) >> m->page_shift : m->page_size / 8;
    for (uint64_t i = from; i < to; i++)
        found += entries[i] & HL_PTE_P;
    return found == m->mapcount[table];
}

int hl_make_upper_tables(hl_space *s, uint64_t va) { return entry_at(s, va, 1, MAKE) ? 0 : -1; }

int hl_own_range(hl_space *s, uint64_t start, uint64_t end)
{
    hl_machine *m = s->machine;
    end = clip(m, end);
    for (uint64_t va = start, *upper; (upper = next_upper(s, &va, end)); va = leaf_table_end(m, va, end))
        if (maybe_shared(*upper) && own_table(m, upper) < 0)
            return -1;
    return 0;
}

/* The space leaves a shared leaf table to the others; returns how many pages it had there. */
static int64_t leave_table(hl_space *s, uint64_t *upper)
{
    hl_machine *m = s->machine;
    uint64_t table = frame_of(*upper);
    for (int kind = 0; kind < HL_KINDS; kind++)
        s->rss[kind] -= m->held[table][kind];
    s->tables--;
    m->mapcount[table_of(m, upper)]--;
    *upper = 0;
    hl_frame_put(m, table);
    return m->mapcount[table];
}

int64_t hl_unmap_range(hl_space *s, uint64_t start, uint64_t end)
{
    hl_machine *m = s->machine;
    int64_t count = 0;
    uint64_t va, *upper;
    end = clip(m, end);
    /* tables that stay first, so that running out of frames drops nothing */
    for (va = start; (upper = next_upper(s, &va, end)); va = leaf_table_end(m, va, end))
        if (maybe_shared(*upper) && !holds_only(m, upper, va, start, end) && own_table(m, upper) < 0)
            return -1;
    for (va = start; (upper = next_upper(s, &va, end));) {
        uint64_t *entry = table_at(m, frame_of(*upper)) + index_at(m, va, 0);
        uint64_t stop = leaf_table_end(m, va, end);
        if (maybe_shared(*upper) && m->refcount[frame_of(*upper)] > 1) {
            count += leave_table(s, upper);
            va = stop;
            continue;
        }
        for (; va < stop; va += m->page_size, entry++)
            if (*entry & HL_PTE_P) {
                clear_entry(s, entry);
                count++;
            }
    }
    return count;
}

int64_t hl_protect_range(hl_space *s, uint64_t start, uint64_t end, uint64_t having, uint64_t clear,
                         uint64_t set)
{
    hl_machine *m = s->machine;
    int64_t count = 0;
    uint64_t va = start, *entry;
    end = clip(m, end);
    having |= HL_PTE_P;
    if (hl_own_range(s, start, end) < 0)
        return -1;
    while ((entry = next_leaf(s, &va, end))) {
        for (uint64_t stop = leaf_table_end(m, va, end); va < stop; va += m->page_size, entry++)
            if ((*entry & having) == having) {
                *entry = (*entry & ~clear) | set;
                count++;
            }
    }
    return count;
}

/* ---- fork ---- */

/* Adds pages, counted by kind, to what a child has; returns how many. */
static int64_t add_rss(hl_space *child, const uint64_t *counts)
{
    uint64_t pages = 0;
    for (int kind = 0; kind < HL_KINDS; kind++) {
        child->rss[kind] += counts[kind];
        pages += counts[kind];
    }
    uint64_t rss = child->rss[HL_ANON] + child->rss[HL_FILE];
    if (rss > child->peak_rss)
        child->peak_rss = rss;
    return (int64_t)pages;
}

int64_t hl_fork_range(hl_space *parent, hl_space *child, uint64_t start, uint64_t end, int cow)
{
    hl_machine *m = parent->machine;
    int64_t count = 0;
    uint64_t shared = cow ? ~(HL_PTE_W | HL_PTE_EXCLUSIVE) : ~0ull;
    uint64_t fresh = cow ? ~HL_PTE_A : ~(HL_PTE_A | HL_PTE_D);
    end = clip(m, end);
    if (make_tables_alike(parent, start, end, child, 0, 3, 2) < 0 ||
        make_tables_alike(parent, start, end, child, 0, 2, 1) < 0)
        return -1;
    for (uint64_t va = start, stop; next_upper(parent, &va, end); va = stop) {
        uint64_t *from = leaf(parent, va, CHANGE), *to = leaf(child, va, MAKE), counts[HL_KINDS] = {0};
        stop = leaf_table_end(m, va, end);
        if (!from || !to)
            return -1;
        copy_entries(m, from, to, (stop - va) >> m->page_shift, shared, fresh, counts);
        count += add_rss(child, counts);
    }
    return count;
}

int64_t hl_fork_copies(hl_space *parent, hl_space *child, uint64_t start, uint64_t end)
{
    hl_machine *m = parent->machine;
    int64_t count = 0;
    uint64_t *entry;
    end = clip(m, end);
    for (uint64_t va = start; (entry = next_leaf(parent, &va, end)); va += m->page_size, count++) {
        uint64_t frame = frame_of(*entry), copy = frame;
        if (m->kind[frame] == HL_ANON)
            copy = hl_frame_alloc(m, HL_ANON, 0);
        else
            hl_frame_get(m, frame);
        if (copy == HL_NO_FRAME)
            return -1;
        if (copy != frame)
            copy_page(m, copy, frame);
        if (hl_map(child, va, copy, *entry & ~(HL_PTE_FRAME_MASK | HL_PTE_A)) < 0) {
            hl_frame_put(m, copy);
            return -1;
        }
    }
    return count;
}

int64_t hl_fork_tables(hl_space *parent, hl_space *child, uint64_t start, uint64_t end)
{
    hl_machine *m = parent->machine;
    int64_t count = 0;
    uint64_t *from, *to;
    end = clip(m, end);
    for (uint64_t va = start, stop; (from = next_upper(parent, &va, end)); va = stop) {
        uint64_t counts[HL_KINDS] = {0};
        stop = entry_end(m, va, 2, end);
        for (to = NULL; va < stop; va = leaf_table_end(m, va, end), from++, to += to != NULL) {
            uint64_t table = frame_of(*from);
            if (!(*from & HL_PTE_P) || !m->mapcount[table])
                continue;
            if (!holds_only(m, from, va, start, end)) {
                uint64_t first = va, last = leaf_table_end(m, va, end);
                if (!next_leaf(parent, &first, last))
                    continue; /* another range's alone: to be shared, it has to find no table in the child */
                int64_t copied = hl_fork_range(parent, child, va, last, 1);
                if (copied < 0)
                    return -1;
                count += copied;
                continue;
            }
            if (!to && !(to = entry_at(child, va, 1, MAKE)))
                return -1;
            *from &= ~HL_PTE_W;
            *to = *from; /* empty until now: no other range has entries in this table */
            m->refcount[table]++;
            m->mapcount[table_of(m, to)]++;
            child->tables++;
            for (int kind = 0; kind < HL_KINDS; kind++)
                counts[kind] += m->held[table][kind];
        }
        count += add_rss(child, counts);
    }
    return count;
}

int64_t hl_move_range(hl_space *s, uint64_t old_start, uint64_t length, uint64_t new_start)
{
    hl_machine *m = s->machine;
    int64_t count = 0;
    uint64_t va = old_start, end = clip(m, old_start + length), *entry;
    /* tables first, so that running out of frames moves nothing: one for each there was, if it was empty too */
    if (hl_own_range(s, old_start, end) < 0)
        return -1;
    uint64_t by = new_start - old_start;
    if (make_tables_alike(s, va, end, s, by, 2, 2) < 0 || make_tables_alike(s, va, end, s, by, 1, 0) < 0)
        return -1;
    for (va = old_start; (entry = next_leaf(s, &va, end)); va += m->page_size, count++) {
        uint64_t *to = leaf(s, new_start + (va - old_start), CHANGE);
        uint64_t from_table = table_of(m, entry), to_table = table_of(m, to);
        int kind = m->kind[frame_of(*entry)];
        *to = *entry;
        m->mapcount[to_table]++;
        m->held[to_table][kind]++;
        *entry = 0;
        m->mapcount[from_table]--;
        m->held[from_table][kind]--;
    }
    return count;
}

void hl_read_ptes(const hl_space *s, uint64_t start, uint64_t count, uint64_t *out)
{
    const hl_machine *m = s->machine;
    uint64_t va = start, end = clip(m, start + count * m->page_size);
    memset(out, 0, count * sizeof *out);
    for (; next_leaf((hl_space *)s, &va, end); va += m->page_size)
        out[(va - start) >> m->page_shift] = hl_pte(s, va);
}

uint64_t hl_next_mapped(const hl_space *s, uint64_t va, uint64_t end)
{
    uint64_t stop = clip(s->machine, end);
    return next_leaf((hl_space *)s, &va, stop) ? va : end;
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
