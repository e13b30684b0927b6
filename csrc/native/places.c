#include "places.h"

#include <errno.h>

#include "../parts/classes.h"

#define CLASSES 512 /* more than class_of gives for any address */

static uint64_t free_places[CLASSES]; /* addresses; each holds the next, 0 for none */
static uint64_t fresh;

static void give_back(const hl_slot *slot)
{
    unsigned number = class_of(slot->size);
    *(uint64_t *)(uintptr_t)slot->address = free_places[number];
    free_places[number] = slot->address;
}

static uint64_t take(uint64_t size)
{
    unsigned number = class_of(size);
    uint64_t at = free_places[number];
    if (at) {
        free_places[number] = *(uint64_t *)(uintptr_t)at;
        return at;
    }
    uint64_t align = class_size(number) >= PLAY_PAGE ? PLAY_PAGE : PLACE_UNIT;
    at = (fresh + align - 1) & ~(align - 1);
    fresh = at + class_size(number);
    if (fresh > (uintptr_t)PLAY_PLACES + PLAY_PLACES_SIZE)
        play_host_fails(ENOMEM);
    return at;
}

/* What a parent has is its child's too, at the same place; its own is it no more when one of the two frees it. */
static void share(const hl_play_process *parent, hl_play_process *child)
{
    hl_slot *from = slots_of(parent), *to = slots_of(child);
    memset(to, 0, child->slot_count * sizeof *to);
    for (uint64_t id = 0; id < parent->slot_count; id++) {
        from[id].thread = from[id].address != 0;
        to[id] = from[id];
    }
}

static void leave(hl_play_process *p)
{
    hl_slot *slots = slots_of(p);
    for (uint64_t id = 0; id < p->slot_count; id++)
        if (slots[id].address && !slots[id].thread)
            give_back(&slots[id]);
    memset(slots, 0, p->slot_count * sizeof *slots);
}

static void plan_row(uint64_t row)
{
    hl_play_process *p = &processes[events.process[row]];
    int op = events.op[row];
    if (op == HL_OP_FORK)
        share(p, &processes[events.id[row]]);
    else if (op == HL_OP_EXEC || op == HL_OP_EXIT)
        leave(p);
    if (is_process_op(op) || op == HL_OP_THREAD_EXIT || events.id[row] == HL_NULL_ID)
        return;
    hl_slot *slot = &slots_of(p)[events.id[row]];
    uint64_t size = events.size[row];
    if (op == HL_OP_REALLOC && class_of(size) == class_of(slot->size)) {
        slot->size = size & SLOT_MASK;
    } else {
        hl_slot old = *slot;
        *slot = (hl_slot){0};
        if (op != HL_OP_FREE)
            *slot = (hl_slot){.address = take(size) & SLOT_MASK, .size = size & SLOT_MASK};
        if (old.address && !old.thread)
            give_back(&old);
    }
    ((uint32_t *)play_at(player->places_at))[row] =
        (uint32_t)((slot->address - (uintptr_t)PLAY_PLACES) / PLACE_UNIT);
}

void places_touch(void)
{
    for (volatile uint8_t *at = PLAY_PLACES; (uintptr_t)at < player->places_end; at += PLAY_PAGE)
        *at = 0;
}

void places_plan(void)
{
    fresh = (uintptr_t)PLAY_PLACES;
    for (uint64_t row = 0; row < player->events; row++)
        plan_row(row);
    for (uint64_t number = 0; number < player->processes; number++)
        memset(slots_of(&processes[number]), 0, processes[number].slot_count * sizeof(hl_slot));
    player->places_end = fresh;
    places_touch();
}
