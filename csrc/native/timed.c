#include "timed.h"

#include "../replay/clock.h"
#include "../replay/payload.h"
#include "ask.h"
#include "places.h"

static inline void *block(const hl_slot *slot) { return (void *)(uintptr_t)slot->address; }

/* ---- between the measured stretches: fork, exec and exit ---- */

/* The child's blocks: as large as the parent's, with the same payload. */
static void fork_blocks(const hl_play_process *parent, const hl_play_process *child, int pass)
{
    const hl_slot *from = slots_of(parent);
    hl_slot *to = slots_of(child);
    memset(to, 0, child->slot_count * sizeof *to);
    for (uint64_t id = 0; id < parent->slot_count; id++) {
        to[id] = from[id];
        if (!from[id].address || pass == HL_PLAY_FLOOR)
            continue;
        uint8_t *p = malloc(from[id].size);
        if (!p)
            play_fail(HL_PLAY_NO_MEMORY);
        to[id].address = (uintptr_t)p & SLOT_MASK;
        payload_fill(p, to[id].size, payload_seed(id, to[id].stamp));
    }
}

static void free_blocks(const hl_play_process *p, int pass)
{
    hl_slot *slots = slots_of(p);
    for (uint64_t id = 0; id < p->slot_count; id++) {
        if (slots[id].address && pass != HL_PLAY_FLOOR)
            free(block(&slots[id]));
        slots[id].address = 0;
    }
}

static void process_event(uint64_t row, int pass)
{
    const hl_play_process *p = &processes[events.process[row]];
    if (events.op[row] == HL_OP_FORK)
        fork_blocks(p, &processes[events.id[row]], pass);
    else
        free_blocks(p, pass);
}

/* ---- what is measured ---- */

/* Carries out rows from `row` on, up to the next process event or the end; returns that row.  `pass` is constant
 * where this is called. */
static inline __attribute__((always_inline)) uint64_t heap_events(uint64_t row, const int pass)
{
    const uint64_t count = player->events;
    uint64_t made = player->operations;
    uint32_t *ticks = play_at(player->ticks_at);
    for (; row < count && !is_process_op(events.op[row]); row++) {
        int op = events.op[row];
        __atomic_store_n(&player->row, row, __ATOMIC_RELAXED); /* for whoever watches */
        if (op == HL_OP_THREAD_EXIT)
            continue; /* all of them are this one thread */
        uint32_t id = events.id[row];
        uint64_t size = events.size[row];
        hl_slot nothing = {0}, *slot = id == HL_NULL_ID ? &nothing : &slots_of(&processes[events.process[row]])[id];
        uint8_t *p = NULL;
        if (pass == HL_PLAY_FLOOR) {
            if (op != HL_OP_FREE)
                p = (uint8_t *)(uintptr_t)place_of(row);
        } else {
            uint64_t start = pass == HL_PLAY_LATENCY ? clock_ticks() : 0;
            p = ask(op, block(slot), size, events.align[row]);
            if (pass == HL_PLAY_LATENCY) {
                uint64_t took = clock_ticks() - start;
                ticks[made] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
            }
        }
        made++;
        if (op == HL_OP_FREE) {
            slot->address = 0;
            continue;
        }
        if (!p && size) {
            about(id, 0, size);
            play_fail(HL_PLAY_NO_MEMORY);
        }
        uint64_t from = 0; /* bytes before are written already */
        if (op == HL_OP_REALLOC)
            from = (slot->size < size ? slot->size : size) & ~7ull;
        else
            slot->stamp = payload_stamp(made);
        payload_fill(p + from, size - from, payload_word(payload_seed(id, slot->stamp), from));
        slot->address = (uintptr_t)p & SLOT_MASK;
        slot->size = size & SLOT_MASK;
    }
    player->operations = made;
    return row;
}

static uint64_t stretch(uint64_t row)
{
    switch (player->pass) {
    case HL_PLAY_FLOOR:
        return heap_events(row, HL_PLAY_FLOOR);
    case HL_PLAY_LATENCY:
        return heap_events(row, HL_PLAY_LATENCY);
    default:
        return heap_events(row, HL_PLAY_TIME);
    }
}

void play_timed(void)
{
    int pass = (int)player->pass;
    player->calling = 1; /* a signal is the allocator's: payloads were verified by another pass */
    player->overhead = clock_overhead();
    if (pass == HL_PLAY_FLOOR)
        places_plan();
    for (uint64_t row = 0; row < player->events;) {
        uint64_t faults = ground_faults(), start_wall = clock_ns(), start = clock_ticks(), start_own = clock_own_ns();
        row = stretch(row);
        player->ns += clock_own_ns() - start_own;
        player->wall_ticks += clock_ticks() - start;
        player->wall_ns += clock_ns() - start_wall;
        player->faults += ground_faults() - faults;
        if (row < player->events)
            process_event(row++, pass);
    }
    play_end(HL_PLAY_DONE);
}
