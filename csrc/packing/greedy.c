/* The lowest gap that is free for a block's whole life, found in bitmaps: a bit is a granule of HL_GRANULE bytes.
 *
 * Time is cut into slices.  Of each slice there is a bitmap `covered`, of what is taken during all of it, and a
 * list of the blocks that are there during a part of it.  A tree over the slices has the bitmaps `touched`, of what
 * is taken at any moment.  A life is then a run of whole slices, which a few nodes of the tree describe, and the
 * parts of two slices at its ends: of these, `covered`, and those of the list that share time with it, are taken.
 */
#include "packing.h"

#include <stdlib.h>
#include <string.h>

#define SLICES 256 /* a power of two */
#define CHUNK 8    /* words that are looked at together */
#define MOST_MAPS 20 /* of a stay: two slices at its ends, and two nodes on each level of the tree */

typedef struct {
    uint32_t from, until;
    uint64_t first, count; /* granules */
} piece;

/* The bitmaps that say together what is taken. */
typedef struct {
    const uint64_t **maps;
    uint64_t count, room;
    uint64_t start; /* below word `start` nothing is free */
} view;

typedef struct {
    uint64_t words;        /* of a bitmap */
    uint32_t *begin;       /* of each slice, and one more: its first tick */
    uint16_t *slice;       /* of each tick */
    uint64_t *covered, *touched, *scratch;
    uint64_t full[3 * SLICES]; /* words at the beginning of each bitmap that have no free granule */
    struct {
        piece *pieces;
        uint64_t count, room;
    } partly[SLICES];
    view view;
} slices;

static void slices_end(slices *t)
{
    for (int i = 0; i < SLICES; i++)
        free(t->partly[i].pieces);
    free(t->view.maps);
    free(t->covered), free(t->begin), free(t->slice);
    free(t);
}

/* Cuts time so that about as many stays begin or end in each slice.  A tick with many is a slice of its own. */
static void cut(slices *t, const hl_packing *p, uint32_t *changes)
{
    uint64_t stays = p->stays[p->blocks], enough = 2 * stays / (SLICES / 2 - 1) + 1, here = 0, number = 0;
    for (uint64_t s = 0; s < stays; s++) {
        changes[p->from[s]]++;
        changes[p->until[s]]++;
    }
    for (uint64_t tick = 0; tick < p->ticks; tick++) {
        if (here + changes[tick] > enough && tick) {
            t->begin[++number] = (uint32_t)tick;
            here = 0;
        }
        here += changes[tick];
        t->slice[tick] = (uint16_t)number;
    }
    while (number < SLICES)
        t->begin[++number] = (uint32_t)p->ticks;
}

static slices *slices_begin(const hl_packing *p, uint64_t limit)
{
    slices *t = calloc(1, sizeof *t);
    uint32_t *changes = calloc(p->ticks + 1, sizeof *changes);
    if (t && changes) {
        t->words = (limit / HL_GRANULE / 64 / CHUNK + 1) * CHUNK;
        t->covered = calloc((3 * SLICES + 1) * t->words, sizeof *t->covered);
        t->begin = calloc(SLICES + 1, sizeof *t->begin);
        t->slice = calloc(p->ticks, sizeof *t->slice);
    }
    if (!t || !t->covered || !t->begin || !t->slice) {
        free(changes);
        if (t)
            slices_end(t);
        return NULL;
    }
    t->touched = t->covered + SLICES * t->words;
    t->scratch = t->touched + 2 * SLICES * t->words;
    cut(t, p, changes);
    free(changes);
    return t;
}

/* Sets (or clears) `count` bits from bit `first` on. */
static inline void paint(uint64_t *map, uint64_t first, uint64_t count, int set)
{
    while (count) {
        uint64_t bit = first % 64, here = count < 64 - bit ? count : 64 - bit;
        uint64_t mask = (here == 64 ? ~0ull : (1ull << here) - 1) << bit;
        map[first / 64] = set ? map[first / 64] | mask : map[first / 64] & ~mask;
        first += here;
        count -= here;
    }
}

static inline void paint_map(slices *t, uint64_t number, uint64_t first, uint64_t count)
{
    uint64_t *map = t->covered + number * t->words;
    paint(map, first, count, 1);
    if (first / 64 <= t->full[number])
        while (t->full[number] < t->words && map[t->full[number]] == ~0ull)
            t->full[number]++;
}

static int slices_add(slices *t, uint32_t from, uint32_t until, uint64_t first, uint64_t count)
{
    uint64_t low = t->slice[from], high = t->slice[until - 1];
    for (uint64_t i = low; i <= high; i++) {
        if (from <= t->begin[i] && t->begin[i + 1] <= until) {
            paint_map(t, i, first, count);
            continue;
        }
        if (t->partly[i].count == t->partly[i].room) {
            uint64_t room = t->partly[i].room ? 2 * t->partly[i].room : 64;
            piece *more = realloc(t->partly[i].pieces, room * sizeof *more);
            if (!more)
                return HL_PACK_NO_MEMORY;
            t->partly[i].pieces = more;
            t->partly[i].room = room;
        }
        t->partly[i].pieces[t->partly[i].count++] = (piece){from, until, first, count};
    }
    low += SLICES;
    high += SLICES;
    for (; low; low /= 2, high /= 2)
        for (uint64_t i = low; i <= high; i++)
            paint_map(t, SLICES + i, first, count);
    return HL_PACK_DONE;
}

static int view_reserve(view *v, uint64_t count)
{
    if (count <= v->room)
        return HL_PACK_DONE;
    const uint64_t **more = realloc(v->maps, count * sizeof *more);
    if (!more)
        return HL_PACK_NO_MEMORY;
    v->maps = more;
    v->room = count;
    return HL_PACK_DONE;
}

static inline void view_add(view *v, const slices *t, uint64_t number)
{
    v->maps[v->count++] = t->covered + number * t->words;
    if (t->full[number] > v->start)
        v->start = t->full[number];
}

/* Paints what shares time with [from, until) in slice i into the scratch bitmap, or takes it off. */
static void paint_partly(slices *t, uint64_t i, uint32_t from, uint32_t until, int set)
{
    const piece *pieces = t->partly[i].pieces;
    for (uint64_t k = 0; k < t->partly[i].count; k++)
        if (pieces[k].from < until && from < pieces[k].until)
            paint(t->scratch, pieces[k].first, pieces[k].count, set);
}

/* The first granule of `count` free ones, a multiple of `align` granules; UINT64_MAX: none. */
static uint64_t lowest(const slices *t, const view *v, uint64_t start, uint64_t count, uint64_t align)
{
    uint64_t run = start * 64; /* where the free granules begin that end at the granule at hand */
    for (uint64_t w = start; w < t->words; w += CHUNK) {
        uint64_t taken[CHUNK], all = ~0ull;
        for (int k = 0; k < CHUNK; k++)
            taken[k] = t->scratch[w + k];
        for (uint64_t m = 0; m < v->count; m++)
            for (int k = 0; k < CHUNK; k++)
                taken[k] |= v->maps[m][w + k];
        for (int k = 0; k < CHUNK; k++)
            all &= taken[k];
        if (all == ~0ull) {
            run = (w + CHUNK) * 64;
            continue;
        }
        for (int k = 0; k < CHUNK; k++) {
            uint64_t at = (w + k) * 64, word = taken[k];
            while (word) {
                uint64_t bit = (uint64_t)__builtin_ctzll(word), fit = (run + align - 1) / align * align;
                if (fit + count <= at + bit)
                    return fit;
                uint64_t behind = word >> bit; /* ones at the bottom */
                uint64_t ones = ~behind ? (uint64_t)__builtin_ctzll(~behind) : 64;
                run = at + bit + ones;
                if (bit + ones >= 64)
                    break;
                word &= ~0ull << (bit + ones);
            }
            uint64_t fit = (run + align - 1) / align * align;
            if (fit + count <= at + 64)
                return fit;
        }
    }
    return UINT64_MAX;
}

/* What is taken at some moment of [from, until): bitmaps in the view, and bits in the scratch bitmap. */
static void look(slices *t, view *v, uint32_t from, uint32_t until)
{
    uint64_t low = t->slice[from], high = t->slice[until - 1];
    paint_partly(t, low, from, until, 1);
    view_add(v, t, low);
    if (high == low)
        return;
    paint_partly(t, high, from, until, 1);
    view_add(v, t, high);
    for (uint64_t l = low + 1 + SLICES, r = high + SLICES; l < r; l /= 2, r /= 2) {
        if (l & 1)
            view_add(v, t, SLICES + l++);
        if (r & 1)
            view_add(v, t, SLICES + --r);
    }
}

static int place(slices *t, hl_packing *p, uint64_t block)
{
    uint64_t first = p->stays[block], behind = p->stays[block + 1];
    uint64_t count = p->size[block] / HL_GRANULE, align = p->align[block] / HL_GRANULE;
    view *v = &t->view;
    v->count = v->start = 0;
    if (view_reserve(v, (behind - first) * MOST_MAPS))
        return HL_PACK_NO_MEMORY;
    for (uint64_t s = first; s < behind; s++)
        look(t, v, p->from[s], p->until[s]);
    uint64_t found = lowest(t, v, v->start / CHUNK * CHUNK, count, align);
    for (uint64_t s = first; s < behind; s++) {
        paint_partly(t, t->slice[p->from[s]], p->from[s], p->until[s], 0);
        paint_partly(t, t->slice[p->until[s] - 1], p->from[s], p->until[s], 0);
    }
    if (found == UINT64_MAX)
        return HL_PACK_FULL;
    p->address[block] = found * HL_GRANULE;
    for (uint64_t s = first; s < behind; s++)
        if (slices_add(t, p->from[s], p->until[s], found, count))
            return HL_PACK_NO_MEMORY;
    return HL_PACK_DONE;
}

int hl_pack_greedy(hl_packing *p, const uint64_t *order, uint64_t limit)
{
    slices *t = slices_begin(p, limit);
    int why = t ? HL_PACK_DONE : HL_PACK_NO_MEMORY;
    for (uint64_t i = 0; i < p->blocks && !why; i++)
        why = place(t, p, order[i]);
    if (t)
        slices_end(t);
    return why;
}
