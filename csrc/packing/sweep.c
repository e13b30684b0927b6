/* Sweeping through time: the gaps of a heap that has no headers, as two treaps, by address and by size.
 *
 * A gap is a node, named by its number; 0 is none.  The last gap has no end: what is taken of it makes the
 * heap higher.  A treap's priorities are a hash of the number, so that equal runs are equal.
 */
#include "packing.h"

#include <stdlib.h>

#define ENDLESS (UINT64_MAX / 4)

enum { BY_ADDRESS, BY_SIZE };

typedef struct {
    uint64_t start, size;
    uint64_t most; /* the size of the largest gap below this one in the treap by address, itself included */
    uint32_t left[2], right[2];
} gap;

typedef struct {
    gap *gaps;
    uint32_t root[2], spare, made; /* spare: a list of unused nodes, by left[0] */
    uint32_t room;
} space;

static inline uint32_t priority(uint32_t n) { return n * 0x9E3779B1u ^ (n * 0x85EBCA6Bu >> 13); }

/* Whether gap a stands before gap b. */
static inline int before(const space *s, int by, uint32_t a, uint32_t b)
{
    const gap *x = &s->gaps[a], *y = &s->gaps[b];
    if (by == BY_SIZE && x->size != y->size)
        return x->size < y->size;
    return x->start < y->start;
}

static inline void count_most(space *s, uint32_t n)
{
    gap *g = &s->gaps[n];
    uint64_t left = s->gaps[g->left[BY_ADDRESS]].most, right = s->gaps[g->right[BY_ADDRESS]].most;
    g->most = g->size;
    if (left > g->most)
        g->most = left;
    if (right > g->most)
        g->most = right;
}

/* Parts the tree t into those before gap n, and the others. */
static void part(space *s, int by, uint32_t t, uint32_t n, uint32_t *low, uint32_t *high)
{
    if (!t) {
        *low = *high = 0;
        return;
    }
    if (before(s, by, t, n)) {
        *low = t;
        part(s, by, s->gaps[t].right[by], n, &s->gaps[t].right[by], high);
    } else {
        *high = t;
        part(s, by, s->gaps[t].left[by], n, low, &s->gaps[t].left[by]);
    }
    if (by == BY_ADDRESS)
        count_most(s, t);
}

static uint32_t join(space *s, int by, uint32_t a, uint32_t b)
{
    if (!a || !b)
        return a ? a : b;
    uint32_t top = priority(a) < priority(b) ? b : a;
    if (top == a)
        s->gaps[a].right[by] = join(s, by, s->gaps[a].right[by], b);
    else
        s->gaps[b].left[by] = join(s, by, a, s->gaps[b].left[by]);
    if (by == BY_ADDRESS)
        count_most(s, top);
    return top;
}

static uint32_t insert_below(space *s, int by, uint32_t t, uint32_t n)
{
    if (!t || priority(t) < priority(n)) {
        part(s, by, t, n, &s->gaps[n].left[by], &s->gaps[n].right[by]);
        t = n;
    } else if (before(s, by, n, t)) {
        s->gaps[t].left[by] = insert_below(s, by, s->gaps[t].left[by], n);
    } else {
        s->gaps[t].right[by] = insert_below(s, by, s->gaps[t].right[by], n);
    }
    if (by == BY_ADDRESS)
        count_most(s, t);
    return t;
}

static uint32_t remove_below(space *s, int by, uint32_t t, uint32_t n)
{
    if (t == n)
        return join(s, by, s->gaps[n].left[by], s->gaps[n].right[by]);
    if (before(s, by, n, t))
        s->gaps[t].left[by] = remove_below(s, by, s->gaps[t].left[by], n);
    else
        s->gaps[t].right[by] = remove_below(s, by, s->gaps[t].right[by], n);
    if (by == BY_ADDRESS)
        count_most(s, t);
    return t;
}

static void gap_insert(space *s, uint32_t n)
{
    for (int by = BY_ADDRESS; by <= BY_SIZE; by++)
        s->root[by] = insert_below(s, by, s->root[by], n);
}

static void gap_remove(space *s, uint32_t n)
{
    for (int by = BY_ADDRESS; by <= BY_SIZE; by++)
        s->root[by] = remove_below(s, by, s->root[by], n);
}

/* Makes a gap; 0 without memory. */
static uint32_t gap_new(space *s, uint64_t start, uint64_t size)
{
    uint32_t n = s->spare;
    if (n) {
        s->spare = s->gaps[n].left[0];
    } else {
        if (s->made + 1 >= s->room) {
            uint32_t room = s->room ? 2 * s->room : 1024;
            gap *more = realloc(s->gaps, room * sizeof *more);
            if (!more)
                return 0;
            s->gaps = more;
            s->room = room;
            if (!s->made)
                s->gaps[0] = (gap){0};
        }
        n = ++s->made;
    }
    s->gaps[n] = (gap){.start = start, .size = size};
    gap_insert(s, n);
    return n;
}

static void gap_drop(space *s, uint32_t n)
{
    gap_remove(s, n);
    s->gaps[n].left[0] = s->spare;
    s->spare = n;
}

static inline uint64_t aligned(uint64_t start, uint64_t align) { return (start + align - 1) / align * align; }

static inline int fits(const gap *g, uint64_t size, uint64_t align)
{
    return aligned(g->start, align) + size <= g->start + g->size;
}

/* The gap with the lowest address that has room, below t. */
static uint32_t first_fit(const space *s, uint32_t t, uint64_t size, uint64_t align)
{
    while (t && s->gaps[t].most >= size) {
        const gap *g = &s->gaps[t];
        uint32_t left = g->left[BY_ADDRESS];
        if (align <= HL_GRANULE && s->gaps[left].most >= size) {
            t = left;
            continue;
        }
        uint32_t found = align <= HL_GRANULE ? 0 : first_fit(s, left, size, align);
        if (found)
            return found;
        if (fits(g, size, align))
            return t;
        t = g->right[BY_ADDRESS];
    }
    return 0;
}

/* The smallest gap that has room, below t; of equal ones the lowest. */
static uint32_t best_fit(const space *s, uint32_t t, uint64_t size, uint64_t align)
{
    while (t && s->gaps[t].size < size)
        t = s->gaps[t].right[BY_SIZE];
    if (!t)
        return 0;
    uint32_t found = best_fit(s, s->gaps[t].left[BY_SIZE], size, align);
    if (found || fits(&s->gaps[t], size, align))
        return found ? found : t;
    return best_fit(s, s->gaps[t].right[BY_SIZE], size, align);
}

/* The gap with the highest start that is not above `start`; 0: none. */
static uint32_t gap_at(const space *s, uint64_t start)
{
    uint32_t found = 0;
    for (uint32_t t = s->root[BY_ADDRESS]; t;) {
        if (s->gaps[t].start <= start) {
            found = t;
            t = s->gaps[t].right[BY_ADDRESS];
        } else {
            t = s->gaps[t].left[BY_ADDRESS];
        }
    }
    return found;
}

/* Takes [start, start + size) out of gap n. */
static int take(space *s, uint32_t n, uint64_t start, uint64_t size)
{
    uint64_t low = s->gaps[n].start, high = low + s->gaps[n].size, end = start + size;
    gap_drop(s, n);
    if (low < start && !gap_new(s, low, start - low))
        return HL_PACK_NO_MEMORY;
    return end < high && !gap_new(s, end, high - end) ? HL_PACK_NO_MEMORY : HL_PACK_DONE;
}

/* Gives [start, start + size) back. */
static int give(space *s, uint64_t start, uint64_t size)
{
    uint64_t end = start + size;
    uint32_t low = gap_at(s, start), high = gap_at(s, end);
    if (high && high != low && s->gaps[high].start == end) {
        end += s->gaps[high].size;
        gap_drop(s, high);
    }
    if (low && s->gaps[low].start + s->gaps[low].size == start) {
        start = s->gaps[low].start;
        gap_drop(s, low);
    }
    return gap_new(s, start, end - start) ? HL_PACK_DONE : HL_PACK_NO_MEMORY;
}

static int birth(hl_packing *p, space *s, uint64_t block, int fit)
{
    uint64_t size = p->size[block], align = p->align[block], start = p->address[block];
    uint32_t n;
    if (start == HL_UNPLACED) {
        n = fit == HL_BEST_FIT ? best_fit(s, s->root[BY_SIZE], size, align)
                               : first_fit(s, s->root[BY_ADDRESS], size, align);
        start = p->address[block] = aligned(s->gaps[n].start, align);
    } else {
        n = gap_at(s, start);
        if (!n || start + size > s->gaps[n].start + s->gaps[n].size)
            return HL_PACK_OVERLAP;
    }
    return take(s, n, start, size);
}

/* The stays that begin (or end) at each tick: rows[first[tick]] up to rows[first[tick + 1]] are their blocks. */
static void by_tick(const hl_packing *p, const uint64_t *order, const uint32_t *when, uint64_t *first, uint64_t *rows)
{
    for (uint64_t s = 0; s < p->stays[p->blocks]; s++)
        first[when[s] + 1]++;
    for (uint64_t tick = 0; tick <= p->ticks; tick++)
        first[tick + 1] += first[tick];
    for (uint64_t i = 0; i < p->blocks; i++)
        for (uint64_t s = p->stays[order[i]]; s < p->stays[order[i] + 1]; s++)
            rows[first[when[s]]++] = order[i];
    for (uint64_t tick = p->ticks + 1; tick; tick--)
        first[tick] = first[tick - 1];
    first[0] = 0;
}

int hl_pack_sweep(hl_packing *p, const uint64_t *order, int fit)
{
    uint64_t stays = p->stays[p->blocks];
    uint64_t *ends = calloc(p->ticks + 2, sizeof *ends), *begins = calloc(p->ticks + 2, sizeof *begins);
    uint64_t *dead = malloc((stays + 1) * sizeof *dead), *born = malloc((stays + 1) * sizeof *born);
    space s = {0};
    int why = ends && begins && dead && born && gap_new(&s, 0, ENDLESS) ? HL_PACK_DONE : HL_PACK_NO_MEMORY;
    if (!why) {
        by_tick(p, order, p->until, ends, dead);
        by_tick(p, order, p->from, begins, born);
    }
    for (uint64_t tick = 0; tick < p->ticks && !why; tick++) {
        for (uint64_t i = ends[tick]; i < ends[tick + 1] && !why; i++)
            why = give(&s, p->address[dead[i]], p->size[dead[i]]);
        for (int placed = 1; placed >= 0; placed--) /* those that have a place come first */
            for (uint64_t i = begins[tick]; i < begins[tick + 1] && !why; i++)
                if ((p->address[born[i]] != HL_UNPLACED) == placed)
                    why = birth(p, &s, born[i], fit);
    }
    free(ends), free(begins), free(dead), free(born), free(s.gaps);
    return why;
}
