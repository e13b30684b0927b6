/* Stacking, and the height at each tick: one tree over the ticks, of maxima.
 *
 * highest[n] is the maximum over the ticks below node n of what was raised at nodes from n down; raised[n] is
 * what was raised for all ticks below n at once.  Nothing is pushed down: a reader takes what the nodes above have.
 */
#include "packing.h"

#include <stdlib.h>

typedef struct {
    uint64_t leaves; /* a power of two */
    uint64_t *highest, *raised;
} heights;

static int heights_begin(heights *t, uint64_t ticks)
{
    for (t->leaves = 1; t->leaves < ticks; t->leaves *= 2)
        ;
    t->highest = calloc(4 * t->leaves, sizeof *t->highest);
    t->raised = t->highest ? t->highest + 2 * t->leaves : NULL;
    return t->highest ? HL_PACK_DONE : HL_PACK_NO_MEMORY;
}

static void heights_end(heights *t) { free(t->highest); }

static inline uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* The maximum over [from, until). */
static uint64_t heights_top(const heights *t, uint64_t from, uint64_t until)
{
    uint64_t top = 0, first = from + t->leaves, last = until - 1 + t->leaves;
    for (uint64_t l = first, r = last + 1; l < r; l /= 2, r /= 2) {
        if (l & 1)
            top = larger(top, t->highest[l++]);
        if (r & 1)
            top = larger(top, t->highest[--r]);
    }
    for (first /= 2, last /= 2; last; first /= 2, last /= 2)
        top = larger(top, larger(t->raised[first], t->raised[last]));
    return top;
}

/* Every tick of [from, until) is at least `height` high now. */
static void heights_raise(heights *t, uint64_t from, uint64_t until, uint64_t height)
{
    uint64_t first = from + t->leaves, last = until - 1 + t->leaves;
    for (uint64_t l = first, r = last + 1; l < r; l /= 2, r /= 2) {
        if (l & 1) {
            t->highest[l] = larger(t->highest[l], height);
            t->raised[l] = larger(t->raised[l], height);
            l++;
        }
        if (r & 1) {
            r--;
            t->highest[r] = larger(t->highest[r], height);
            t->raised[r] = larger(t->raised[r], height);
        }
    }
    for (first /= 2, last /= 2; last; first /= 2, last /= 2) {
        t->highest[first] = larger(t->highest[first], height);
        t->highest[last] = larger(t->highest[last], height);
    }
}

int hl_pack_stack(hl_packing *p, const uint64_t *order)
{
    heights t;
    if (heights_begin(&t, p->ticks))
        return HL_PACK_NO_MEMORY;
    for (uint64_t i = 0; i < p->blocks; i++) {
        uint64_t block = order[i], top = 0;
        for (uint64_t s = p->stays[block]; s < p->stays[block + 1]; s++)
            top = larger(top, heights_top(&t, p->from[s], p->until[s]));
        p->address[block] = (top + p->align[block] - 1) / p->align[block] * p->align[block];
        for (uint64_t s = p->stays[block]; s < p->stays[block + 1]; s++)
            heights_raise(&t, p->from[s], p->until[s], p->address[block] + p->size[block]);
    }
    heights_end(&t);
    return HL_PACK_DONE;
}

int hl_pack_tops(const hl_packing *p, uint64_t *tops)
{
    heights t;
    if (heights_begin(&t, p->ticks))
        return HL_PACK_NO_MEMORY;
    for (uint64_t block = 0; block < p->blocks; block++)
        for (uint64_t s = p->stays[block]; s < p->stays[block + 1]; s++)
            heights_raise(&t, p->from[s], p->until[s], p->address[block] + p->size[block]);
    for (uint64_t n = 1; n < t.leaves; n++) {
        t.raised[2 * n] = larger(t.raised[2 * n], t.raised[n]);
        t.raised[2 * n + 1] = larger(t.raised[2 * n + 1], t.raised[n]);
    }
    for (uint64_t tick = 0; tick < p->ticks; tick++)
        tops[tick] = t.raised[t.leaves + tick];
    heights_end(&t);
    return HL_PACK_DONE;
}
