#include "native.h"

#include <malloc.h>

#include "payload.h"

hl_native *hl_native_new(void)
{
    hl_native *n = calloc(1, sizeof *n);
    if (n)
        n->clock.overhead = clock_overhead();
    return n;
}

static void *pointer(const hl_slot *slot) { return (void *)(uintptr_t)slot->address; }

static void free_all(hl_slots *t)
{
    for (uint64_t id = 0; id < t->count; id++)
        free(pointer(&t->at[id]));
    slots_clear(t);
}

void hl_native_delete(hl_native *n)
{
    if (!n)
        return;
    for (uint64_t number = 0; number < n->process_count; number++)
        free_all(&n->processes[number]);
    free(n->processes);
    free(n);
}

static int has_process(hl_native *n, uint64_t number)
{
    if (number < n->process_count)
        return 1;
    hl_slots *grown = realloc(n->processes, (number + 1) * sizeof *grown);
    if (!grown)
        return 0;
    for (uint64_t i = n->process_count; i <= number; i++)
        grown[i] = (hl_slots){0};
    n->processes = grown;
    n->process_count = number + 1;
    return 1;
}

/* The child's blocks: as large as the parent's, with the same payload. */
static int fork_slots(hl_native *n, uint64_t parent, uint64_t child)
{
    if (!has_process(n, child) || slots_copy(&n->processes[child], &n->processes[parent]) < 0)
        return -1;
    hl_slots *t = &n->processes[child];
    int result = 0;
    for (uint64_t id = 0; id < t->count; id++) {
        hl_slot *slot = &t->at[id];
        if (!slot->address)
            continue;
        uint8_t *p = result ? NULL : malloc(slot->size);
        slot->address = (uintptr_t)p & SLOT_MASK; /* none of the parent's may stay */
        if (p)
            payload_fill(p, slot->size, payload_seed(id, slot->stamp));
        else
            result = -1;
    }
    return result;
}

static void *timed(hl_native *n, int op, void *p, uint64_t size, uint64_t align)
{
    void *result = NULL;
    uint64_t start = clock_ticks();
    switch (op) {
    case HL_OP_MALLOC:
        result = malloc(size);
        break;
    case HL_OP_CALLOC:
        result = calloc(1, size);
        break;
    case HL_OP_REALLOC:
        result = realloc(p, size);
        break;
    case HL_OP_ALIGNED:
        result = memalign(align, size);
        break;
    default:
        free(p);
    }
    clock_add(&n->clock, start, clock_ticks());
    n->ops++;
    return result;
}

static int heap_event(hl_native *n, hl_slots *t, int op, uint32_t id, uint64_t size, uint64_t align)
{
    if (op == HL_OP_THREAD_EXIT)
        return 0; /* all of them are this one thread */
    if (op == HL_OP_FREE && id == HL_NULL_ID) {
        timed(n, op, NULL, 0, 0);
        return 0;
    }
    hl_slot *slot = slots_at(t, id);
    if (!slot)
        return -1;
    uint8_t *p = timed(n, op, pointer(slot), size, align);
    if (op == HL_OP_FREE) {
        slot->address = 0;
        return 0;
    }
    if (!p)
        return -1;
    uint64_t from = 0; /* bytes before are written already */
    if (op == HL_OP_REALLOC)
        from = (slot->size < size ? slot->size : size) & ~7ull;
    else
        slot->stamp = payload_stamp(n->ops);
    payload_fill(p + from, size - from, payload_word(payload_seed(id, slot->stamp), from));
    slot->address = (uintptr_t)p & SLOT_MASK;
    slot->size = size & SLOT_MASK;
    return 0;
}

static int process_event(hl_native *n, const hl_events *e, uint64_t row)
{
    if (e->op[row] == HL_OP_FORK)
        return fork_slots(n, e->process[row], e->id[row]);
    free_all(&n->processes[e->process[row]]);
    return 0;
}

/* Rows from `row` to the next process event, or `count`; the row after the last carried out. */
static uint64_t heap_events(hl_native *n, const hl_events *e, uint64_t row, uint64_t count, int *failed)
{
    uint64_t start_ns = clock_ns(), start = clock_ticks();
    for (; row < count && !is_process_op(e->op[row]); row++) {
        hl_slots *t = &n->processes[e->process[row]];
        if (heap_event(n, t, e->op[row], e->id[row], e->size[row], e->align[row]) < 0) {
            *failed = 1;
            break;
        }
    }
    n->clock.wall_ticks += clock_ticks() - start;
    n->clock.wall_ns += clock_ns() - start_ns;
    return row;
}

int hl_native_run(hl_native *n, const hl_events *events, uint64_t count)
{
    int failed = !has_process(n, 0);
    uint64_t row = 0;
    while (row < count && !failed) {
        row = heap_events(n, events, row, count, &failed);
        if (row < count && !failed)
            failed = process_event(n, events, row++) < 0;
    }
    return failed ? -1 : 0;
}
