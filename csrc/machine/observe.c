/* The order of a context's references: a hash of all, and the last ones themselves. */
#include "observe.h"

#include <stdlib.h>
#include <string.h>

#include "mmu.h"

/* Odd numbers with bits all over: the first two are those of MurmurHash3's finaliser. */
#define MIX 0xFF51AFD7ED558CCDull
#define STIR 0xC4CEB9FE1A85EC53ull
#define STORE 0x9E3779B97F4A7C15ull

int hl_observe(hl_context *c, uint64_t keep)
{
    uint64_t room = 1;
    while (room < keep && room < 1ull << 40)
        room *= 2;
    hl_observer *o = realloc(c->observer, sizeof *o + room * sizeof *o->recent);
    if (!o)
        return -1;
    o->order = o->seen = 0;
    o->keep = room;
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

void hl_note(hl_observer *o, uint64_t va, int is_store)
{
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
