/* The replay on the model; replay.h says what is verified and measured. */
#include "replay.h"

#include <setjmp.h>

#include "clock.h"
#include "loops.h"

static const uint64_t never[] = {UINT64_MAX};

hl_replay *hl_replay_new(hl_machine *m, hl_heap_fn call)
{
    hl_replay *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->machine = m;
    r->call = call;
    r->payload = 1;
    r->mems_limit = HL_NO_LIMIT;
    r->sample_at = never;
    r->strayed = UINT64_MAX;
    return r;
}

/* Frees what is kept for a process, whose context may be gone. */
static void drop(hl_replay *r, uint64_t number)
{
    hl_replay_process *p = process_of(r, number);
    if (!p)
        return;
    slots_clear(&p->slots);
    shadow_clear(&p->shadow);
    free(p);
    r->processes[number] = NULL;
}

void hl_replay_delete(hl_replay *r)
{
    if (!r)
        return;
    for (uint64_t number = 0; number < r->process_capacity; number++)
        drop(r, number);
    free(r->processes);
    free(r->lines);
    free(r);
}

hl_replay *hl_replay_branch(const hl_replay *r)
{
    hl_replay *branch = hl_replay_new(r->machine, r->call);
    if (!branch)
        return NULL;
    branch->payload = r->payload;
    branch->mems_limit = r->mems_limit;
    branch->mems.total = r->mems.total;
    branch->events = branch->now.event = r->events;
    branch->row = r->row;
    branch->strayed = r->strayed;
    if (r->compares)
        hl_replay_compare(branch, r->log);
    return branch;
}

/* ---- processes ---- */

/* Adds the minor faults of the process since its last event. */
static void settle_faults(hl_replay *r, hl_replay_process *p)
{
    r->faults += p->context->minor_faults - p->faults;
    p->faults = p->context->minor_faults;
}

int hl_replay_start(hl_replay *r, uint64_t number, hl_context *c, hl_heap *heap, void *handle)
{
    if (number >= r->process_capacity) {
        uint64_t capacity = 2 * number + 1;
        hl_replay_process **grown = realloc(r->processes, capacity * sizeof(hl_replay_process *));
        if (!grown)
            return -1;
        for (uint64_t i = r->process_capacity; i < capacity; i++)
            grown[i] = NULL;
        r->processes = grown;
        r->process_capacity = capacity;
    }
    hl_replay_process *p = calloc(1, sizeof *p);
    if (!p)
        return -1;
    p->context = c;
    p->heap = heap;
    p->handle = handle;
    p->heap_pages = c->space->heap_pages;
    r->heap_pages += p->heap_pages;
    settle_faults(r, p);
    r->processes[number] = p;
    return 0;
}

int hl_replay_fork(hl_replay *r, const hl_replay *from, uint64_t parent, uint64_t number, hl_context *c, hl_heap *heap,
                   void *handle)
{
    if (hl_replay_start(r, number, c, heap, handle) < 0)
        return -1;
    hl_replay_process *p = r->processes[number], *old = from->processes[parent];
    if (slots_copy(&p->slots, &old->slots) < 0 || (r->verify && shadow_copy(&p->shadow, &old->shadow) < 0))
        return -1;
    p->live = old->live;
    r->now.live += p->live;
    return 0;
}

void hl_replay_end(hl_replay *r, uint64_t number)
{
    hl_replay_process *p = process_of(r, number);
    if (!p)
        return;
    settle_faults(r, p);
    r->now.live -= p->live;
    r->heap_pages -= p->heap_pages;
    drop(r, number);
}

const hl_slot *hl_replay_slots(const hl_replay *r, uint64_t number, uint64_t *count)
{
    const hl_replay_process *p = process_of(r, number);
    *count = p ? p->slots.count : 0;
    return p ? p->slots.at : NULL;
}

const uint32_t *hl_replay_born(const hl_replay *r, uint64_t number)
{
    const hl_replay_process *p = process_of(r, number);
    return p ? p->slots.born : NULL;
}

int hl_replay_count_lines(hl_replay *r)
{
    r->lines = calloc(1, sizeof *r->lines);
    return r->lines ? 0 : -1;
}

/* ---- the log ---- */

void hl_replay_log(hl_replay *r, const hl_log *log)
{
    r->log = log;
    r->logged_mems = r->mems.total;
    r->logged_faults = r->faults;
}

void hl_replay_compare(hl_replay *r, const hl_log *log)
{
    hl_replay_log(r, log);
    r->compares = 1;
}

void hl_replay_log_event(hl_replay *r)
{
    const hl_log *log = r->log;
    uint64_t row = r->events - 1;
    uint32_t mems = narrow(r->mems.total - r->logged_mems);
    r->logged_mems = r->mems.total;
    if (r->compares) {
        if (r->strayed == UINT64_MAX && (log->address[row] != r->bad_address || log->mems[row] != mems))
            r->strayed = row;
        return;
    }
    hl_replay_process *p = process_of(r, r->bad_process);
    if (p)
        settle_faults(r, p);
    log->address[row] = r->bad_address;
    log->mems[row] = mems;
    log->faults[row] = narrow(r->faults - r->logged_faults);
    log->live[row] = r->now.live;
    log->heap[row] = r->now.heap;
    log->resident[row] = r->now.resident;
    r->logged_faults = r->faults;
}

void hl_replay_origins(const hl_events *events, uint64_t n, uint64_t process, uint64_t count, uint64_t *event)
{
    uint64_t wanted = 0;
    for (uint64_t id = 0; id < count; id++)
        wanted += event[id] == UINT64_MAX;
    while (wanted && n--) {
        int op = events->op[n];
        uint32_t id = events->id[n];
        if (op == HL_OP_FORK && id == process)
            process = events->process[n]; /* what it did before is done in the name of its parent */
        if (events->process[n] != process || op == HL_OP_FREE || is_process_op(op) || op == HL_OP_THREAD_EXIT)
            continue;
        if (id < count && event[id] == UINT64_MAX) {
            event[id] = n;
            wanted--;
        }
    }
}

/* ---- mems of one operation ---- */

uint64_t hl_mems_bucket(uint64_t mems)
{
    if (mems < HL_MEMS_EXACT)
        return mems;
    unsigned octave = 63u - (unsigned)__builtin_clzll(mems); /* 12 or more */
    return HL_MEMS_EXACT + (octave - 12u) * 128u + ((mems >> (octave - 7u)) & 127u);
}

uint64_t hl_mems_bucket_top(uint64_t bucket)
{
    if (bucket < HL_MEMS_EXACT)
        return bucket;
    unsigned shift = (unsigned)((bucket - HL_MEMS_EXACT) / 128u) + 5u;
    uint64_t first = (128u + (bucket - HL_MEMS_EXACT) % 128u) << shift;
    return first + ((1ull << shift) - 1);
}

/* ---- many events ---- */

static const hl_replay_loops *loops_for(const hl_machine *m) { return hl_is_usual(m) ? &hl_usual_loops : &hl_loops; }

void hl_replay_refuel(hl_replay *r)
{
    hl_context *c = r->entered;
    if (r->mems_limit != HL_NO_LIMIT)
        hl_set_fuel(c, r->mems_limit - r->mems.total);
    r->charged = c->charged;
}

void hl_replay_enter(hl_replay *r, hl_context *c, void *escape)
{
    if (r->entered && r->entered != c) {
        r->entered->escape = NULL;
        hl_set_fuel(r->entered, HL_NO_LIMIT);
    }
    r->entered = c;
    if (c) {
        c->escape = escape;
        hl_replay_refuel(r);
    }
}

void hl_replay_passed(hl_replay *r)
{
    r->row++;
    r->bad_address = 0;
    replay_note(r, r->machine->page_size);
}

/* Why a jump out of the loops came: of a call of the allocator the references count. */
static int escaped(hl_replay *r)
{
    int why = r->touching ? HL_REPLAY_NO_ACCESS : HL_REPLAY_RAISED;
    if (!r->touching)
        r->mems.total += hl_mems(r->entered) - r->before;
    r->touching = 0;
    return why;
}

int hl_replay_step(hl_replay *r, const hl_events *events, uint64_t stop)
{
    jmp_buf escape;
    int why;
    if (setjmp(escape))
        why = escaped(r);
    else
        why = loops_for(r->machine)->run(r, events, stop, &escape);
    hl_replay_enter(r, NULL, NULL);
    return why;
}

int hl_replay_run(hl_replay *r, const hl_events *events, uint64_t stop)
{
    uint64_t start = clock_own_ns();
    int why = hl_replay_step(r, events, stop);
    r->ns += clock_own_ns() - start;
    return why;
}

int hl_replay_verify(hl_replay *r, uint64_t number)
{
    jmp_buf escape;
    int why;
    hl_replay_process *p = process_of(r, number);
    r->bad_process = number;
    if (!p || !p->context->space)
        return HL_REPLAY_KILLED;
    hl_replay_enter(r, p->context, &escape);
    if (setjmp(escape))
        why = escaped(r);
    else
        why = loops_for(r->machine)->verify_all(r, p);
    hl_replay_enter(r, NULL, NULL);
    return why;
}
