/* The order of a context's references: a hash of all, and the last ones themselves. */
#include "observe.h"

#include <stdlib.h>
#include <string.h>

#include "mmu.h"

/* Odd numbers with bits all over: the first two are those of MurmurHash3's finaliser. */
#define MIX 0xFF51AFD7ED558CCDull
#define STIR 0xC4CEB9FE1A85EC53ull
#define STORE 0x9E3779B97F4A7C15ull

#define FEW_LINES 1024

static int grow(hl_line_set *s, uint64_t capacity);

void hl_observer_delete(hl_observer *o)
{
    if (!o)
        return;
    free(o->touched.lines);
    free(o->touched.numbers);
    free(o);
}

int hl_observe(hl_context *c, uint64_t keep)
{
    uint64_t room = 1;
    while (room < keep && room < 1ull << 40)
        room *= 2;
    hl_observer *o = calloc(1, sizeof *o + room * sizeof *o->recent);
    if (!o || grow(&o->touched, FEW_LINES) < 0) {
        hl_observer_delete(o);
        return -1;
    }
    o->keep = room;
    hl_observer_delete(c->observer);
    c->observer = o;
    c->observing = 1;
    hl_choose_tlb(c);
    return 0;
}

void hl_observe_stop(hl_context *c)
{
    c->observing = 0;
    hl_choose_tlb(c);
}

static void add_line(hl_line_set *s, uint64_t line)
{
    uint64_t mask = s->capacity - 1, at = (line * MIX >> 32) & mask;
    if (s->count == mask) /* the table is full, since the host has no memory: new lines are not counted */
        return;
    for (; s->numbers[at] == s->number; at = (at + 1) & mask)
        if (s->lines[at] == line)
            return;
    s->lines[at] = line;
    s->numbers[at] = s->number;
    if (2 * ++s->count > s->capacity)
        grow(s, 2 * s->capacity);
}

/* Gives the set a table of `capacity`, with the lines that it has: 0, or -1 when the host has no memory. */
static int grow(hl_line_set *s, uint64_t capacity)
{
    hl_line_set old = *s;
    uint64_t *lines = calloc(capacity, sizeof *lines), *numbers = calloc(capacity, sizeof *numbers);
    if (!lines || !numbers) {
        free(lines);
        free(numbers);
        return -1;
    }
    *s = (hl_line_set){lines, numbers, capacity, old.number + 1, 0};
    for (uint64_t i = 0; i < old.capacity; i++)
        if (old.numbers[i] == old.number)
            add_line(s, old.lines[i]);
    free(old.lines);
    free(old.numbers);
    return 0;
}

uint64_t hl_lines(const hl_context *c) { return c->observing ? c->observer->touched.count : 0; }

void hl_lines_forget(hl_context *c)
{
    if (!c->observing)
        return;
    c->observer->touched.number++;
    c->observer->touched.count = 0;
}

void hl_note(hl_observer *o, uint64_t va, unsigned size, int is_store)
{
    add_line(&o->touched, va / HL_LINE);
    if ((va + size - 1) / HL_LINE != va / HL_LINE)
        add_line(&o->touched, (va + size - 1) / HL_LINE);
    uint64_t hash = (o->order ^ va ^ (is_store ? STORE : 0)) * MIX;
    o->order = (hash ^ hash >> 32) * STIR + 1;
    hl_reference *reference = &o->recent[o->seen++ & (o->keep - 1)];
    reference->address = va;
    reference->is_store = (uint64_t)is_store;
}

uint64_t hl_order(const hl_context *c) { return c->observer ? c->observer->order : 0; }

uint64_t hl_recent(const hl_context *c, uint64_t n, uint64_t *addresses, uint8_t *is_store)
{
    const hl_observer *o = c->observer;
    uint64_t there = !o ? 0 : o->seen < o->keep ? o->seen : o->keep;
    if (n > there)
        n = there;
    for (uint64_t i = 0; addresses && i < n; i++) {
        const hl_reference *reference = &o->recent[(o->seen - n + i) & (o->keep - 1)];
        addresses[i] = reference->address;
        is_store[i] = (uint8_t)reference->is_store;
    }
    return n;
}
