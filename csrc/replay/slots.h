/* What a replay remembers: for every slot of a process, the block that lives in it. */
#ifndef HL_REPLAY_SLOTS_H
#define HL_REPLAY_SLOTS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* address 0: nothing lives here.  16 bytes, so that the player's ten million live blocks take 160 MB. */
typedef struct hl_slot {
    uint64_t address : 48;
    uint64_t thread : 16; /* that allocated the block, or reallocated it last */
    uint64_t size : 48;
    uint64_t stamp : 16; /* of the event that allocated the block: tells it from the slot's former ones */
} hl_slot;

#define SLOT_BITS 48
#define SLOT_MASK ((1ull << SLOT_BITS) - 1) /* no address or size of a program is larger */

typedef struct hl_slots {
    hl_slot *at;
    uint32_t *born; /* for each slot: the event that made its block, or the last that reallocated it */
    uint64_t count; /* slots from here on were never used */
    uint64_t capacity;
} hl_slots;

/* 0, or -1 when the host has no memory. */
static inline int slots_grow(hl_slots *t, uint64_t capacity)
{
    hl_slot *at = realloc(t->at, capacity * sizeof *at);
    if (!at)
        return -1;
    t->at = at;
    uint32_t *born = realloc(t->born, capacity * sizeof *born);
    if (!born)
        return -1;
    t->born = born;
    t->capacity = capacity;
    return 0;
}

/* The slot `id`, which may be the next never used; NULL when the host has no memory. */
static inline hl_slot *slots_at(hl_slots *t, uint64_t id)
{
    if (id >= t->capacity) {
        uint64_t capacity = t->capacity ? 2 * t->capacity : 64;
        while (capacity <= id)
            capacity *= 2;
        if (slots_grow(t, capacity) < 0)
            return NULL;
    }
    while (t->count <= id) {
        t->born[t->count] = 0;
        t->at[t->count++] = (hl_slot){0};
    }
    return &t->at[id];
}

/* Makes `to`, which is empty, a copy: 0, or -1 when the host has no memory. */
static inline int slots_copy(hl_slots *to, const hl_slots *from)
{
    if (!from->count)
        return 0;
    if (slots_grow(to, from->count) < 0)
        return -1;
    memcpy(to->at, from->at, from->count * sizeof *to->at);
    memcpy(to->born, from->born, from->count * sizeof *to->born);
    to->count = from->count;
    return 0;
}

static inline void slots_clear(hl_slots *t)
{
    free(t->at);
    free(t->born);
    *t = (hl_slots){0};
}

#endif
