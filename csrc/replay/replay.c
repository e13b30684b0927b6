/* The replay on the model; replay.h says what is verified and measured. */
#include "replay.h"

#include <setjmp.h>

#include "payload.h"

hl_replay *hl_replay_new(hl_machine *m, hl_heap_fn call)
{
    hl_replay *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->machine = m;
    r->call = call;
    r->mems_limit = HL_NO_LIMIT;
    r->clock.overhead = clock_overhead();
    return r;
}

void hl_replay_delete(hl_replay *r)
{
    if (!r)
        return;
    for (uint64_t number = 0; number < r->process_capacity; number++)
        hl_replay_end(r, number);
    free(r->processes);
    free(r);
}

/* ---- processes ---- */

static hl_replay_process *process_of(const hl_replay *r, uint64_t number)
{
    return number < r->process_capacity ? r->processes[number] : NULL;
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
    r->processes[number] = p;
    return 0;
}

int hl_replay_fork(hl_replay *r, uint64_t parent, uint64_t number, hl_context *c, hl_heap *heap, void *handle)
{
    if (hl_replay_start(r, number, c, heap, handle) < 0)
        return -1;
    hl_replay_process *p = r->processes[number], *from = r->processes[parent];
    if (slots_copy(&p->slots, &from->slots) < 0 || shadow_copy(&p->shadow, &from->shadow) < 0)
        return -1;
    p->live = from->live;
    r->now.live += p->live;
    return 0;
}

void hl_replay_end(hl_replay *r, uint64_t number)
{
    hl_replay_process *p = process_of(r, number);
    if (!p)
        return;
    r->now.live -= p->live;
    r->heap_pages -= p->heap_pages;
    slots_clear(&p->slots);
    shadow_clear(&p->shadow);
    free(p);
    r->processes[number] = NULL;
}

const hl_slot *hl_replay_slots(const hl_replay *r, uint64_t number, uint64_t *count)
{
    const hl_replay_process *p = process_of(r, number);
    *count = p ? p->slots.count : 0;
    return p ? p->slots.at : NULL;
}

/* ---- payload, on the model: page by page through the MMU ---- */

static uint64_t left_in_page(const hl_context *c, uint64_t va, uint64_t n)
{
    uint64_t left = c->machine->page_size - (va & (c->machine->page_size - 1));
    return n < left ? n : left;
}

/* Writes bytes [from, n) of the payload at va; `from` is rounded down to a word. */
static void write_payload(hl_context *c, uint64_t va, uint64_t from, uint64_t n, uint64_t seed)
{
    for (uint64_t i = from & ~7ull, piece; i < n; i += piece) {
        piece = left_in_page(c, va + i, n - i);
        payload_fill(hl_translate(c, va + i, 1), piece, payload_word(seed, i));
    }
}

/* The first wrong byte's offset, or n. */
static uint64_t verify_payload(hl_context *c, uint64_t va, uint64_t n, uint64_t seed)
{
    for (uint64_t i = 0, piece; i < n; i += piece) {
        piece = left_in_page(c, va + i, n - i);
        uint64_t good = payload_agrees(hl_translate(c, va + i, 0), piece, payload_word(seed, i));
        if (good < piece)
            return i + good;
    }
    return n;
}

/* Writes a payload over bytes that must be zero: the first that is not, or n.  They are looked at through
 * the write's own translation, since to read them first would fault twice on memory never touched. */
static uint64_t write_over_zeros(hl_context *c, uint64_t va, uint64_t n, uint64_t seed)
{
    for (uint64_t i = 0, piece; i < n; i += piece) {
        piece = left_in_page(c, va + i, n - i);
        uint8_t *at = hl_translate(c, va + i, 1);
        uint64_t good = payload_zeros(at, piece);
        if (good < piece)
            return i + good;
        payload_fill(at, piece, payload_word(seed, i));
    }
    return n;
}

/* ---- one event ---- */

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

static uint64_t call_heap(hl_heap *h, int op, uint64_t p, uint64_t size, uint64_t align)
{
    switch (op) {
    case HL_OP_MALLOC:
        return heap_malloc(h, size);
    case HL_OP_CALLOC:
        return heap_calloc(h, 1, size);
    case HL_OP_REALLOC:
        return heap_realloc(h, p, size);
    case HL_OP_ALIGNED:
        return heap_aligned_alloc(h, align, size);
    case HL_OP_THREAD_EXIT:
        heap_thread_exit(h, env_thread(h->env));
        return 0;
    default:
        heap_free(h, p);
        return 0;
    }
}

/* Counts the references of the call that has returned, or was left. */
static uint64_t end_call(hl_replay *r, const hl_context *c)
{
    uint64_t mems = r->calling ? hl_mems(c) - r->before : 0;
    r->calling = 0;
    r->mems += mems;
    return mems;
}

/* One call of the allocator, counted and timed.  A heap in Python must not find an escape set: it would jump
 * over the interpreter. */
static uint64_t call(hl_replay *r, hl_replay_process *p, int op, uint64_t address, uint64_t size, uint64_t align)
{
    hl_context *c = p->context;
    uint64_t result;
    r->before = hl_mems(c);
    r->calling = 1;
    if (p->heap) {
        uint64_t start = clock_ticks();
        result = call_heap(p->heap, op, address, size, align);
        clock_add(&r->clock, start, clock_ticks());
    } else {
        void *escape = c->escape;
        c->escape = NULL;
        uint64_t start = clock_ticks();
        result = r->call(p->handle, op, address, size, align);
        clock_add(&r->clock, start, clock_ticks());
        c->escape = escape;
    }
    uint64_t mems = end_call(r, c);
    if (result == HL_HEAP_RAISED) /* as in C, where what is raised jumps over the rest */
        return result;
    r->ops++;
    r->mems_count[hl_mems_bucket(mems)]++;
    if (mems > r->mems_max)
        r->mems_max = mems;
    return result;
}

/* The block that what follows is about. */
static void about(hl_replay *r, uint64_t id, uint64_t address, uint64_t size)
{
    r->bad_id = id;
    r->bad_address = address;
    r->bad_size = size;
}

static int bad(hl_replay *r, uint64_t offset, int why)
{
    r->bad_offset = offset;
    return why;
}

/* Names the live block, not `id`, that has a byte of the one at hand. */
static int overlap(hl_replay *r, const hl_replay_process *p)
{
    uint64_t end = r->bad_address + (r->bad_size ? r->bad_size : 1);
    for (uint64_t id = 0; id < p->slots.count; id++) {
        const hl_slot *slot = &p->slots.at[id];
        if (id == r->bad_id || !slot->address || slot->address >= end)
            continue;
        if (r->bad_address < slot->address + (slot->size ? slot->size : 1)) {
            r->other_id = id;
            r->other_address = slot->address;
            r->other_size = slot->size;
            break;
        }
    }
    return HL_REPLAY_OVERLAP;
}

/* Verifies where the allocator has placed the block at hand, before a byte of it is touched. */
static int verify_place(hl_replay *r, hl_replay_process *p, uint64_t align)
{
    uint64_t address = r->bad_address, size = r->bad_size;
    if (!p->context->space)
        return HL_REPLAY_KILLED;
    if (align < HEAP_ALIGN)
        align = HEAP_ALIGN;
    if (address & (align - 1))
        return bad(r, align, HL_REPLAY_MISALIGNED);
    if (address & ~SLOT_MASK)
        return HL_REPLAY_NOWHERE;
    if (size > p->context->space->vm_pages * r->machine->page_size || address + size < address)
        return HL_REPLAY_TOO_LARGE;
    if (!r->verify)
        return HL_REPLAY_DONE;
    int taken = shadow_mark(&p->shadow, address, size, 1);
    return taken < 0 ? HL_REPLAY_HOST_MEMORY : taken ? overlap(r, p) : HL_REPLAY_DONE;
}

static int allocate(hl_replay *r, hl_replay_process *p, int op, uint32_t id, uint64_t size, uint64_t align)
{
    hl_slot *slot = slots_at(&p->slots, id);
    if (!slot)
        return HL_REPLAY_HOST_MEMORY;
    uint64_t address = call(r, p, op, 0, size, align), good = size;
    about(r, id, address, size);
    if (!address || address == HL_HEAP_RAISED)
        return address ? HL_REPLAY_RAISED : HL_REPLAY_NO_MEMORY;
    int why = verify_place(r, p, align);
    if (why)
        return why;
    uint16_t stamp = payload_stamp(r->events);
    uint64_t seed = payload_seed(id, stamp);
    r->touching = 1;
    if (op == HL_OP_CALLOC && r->verify)
        good = write_over_zeros(p->context, address, size, seed);
    else
        write_payload(p->context, address, 0, size, seed);
    r->touching = 0;
    if (good < size)
        return bad(r, good, HL_REPLAY_NOT_ZERO);
    *slot = (hl_slot){.address = address & SLOT_MASK,
                      .thread = p->context->thread & 0xFFFFu,
                      .size = size & SLOT_MASK,
                      .stamp = stamp};
    p->live += size;
    r->now.live += size;
    return HL_REPLAY_DONE;
}

static int reallocate(hl_replay *r, hl_replay_process *p, uint32_t id, uint64_t size)
{
    hl_slot *slot = &p->slots.at[id];
    uint64_t old = slot->size, kept = old < size ? old : size, seed = payload_seed(id, slot->stamp);
    uint64_t address = call(r, p, HL_OP_REALLOC, slot->address, size, 0), good = kept;
    about(r, id, address, size);
    if (!address || address == HL_HEAP_RAISED)
        return address ? HL_REPLAY_RAISED : HL_REPLAY_NO_MEMORY;
    if (r->verify && shadow_mark(&p->shadow, slot->address, old, 0) < 0)
        return HL_REPLAY_HOST_MEMORY;
    int why = verify_place(r, p, 0);
    if (why)
        return why;
    r->touching = 1;
    if (r->verify)
        good = verify_payload(p->context, address, kept, seed);
    if (good == kept)
        write_payload(p->context, address, kept, size, seed);
    r->touching = 0;
    if (good < kept)
        return bad(r, good, HL_REPLAY_WRONG_BYTE);
    r->remote_frees += slot->thread != p->context->thread;
    slot->address = address & SLOT_MASK;
    slot->thread = p->context->thread & 0xFFFFu;
    slot->size = size & SLOT_MASK;
    p->live += size - old;
    r->now.live += size - old;
    return HL_REPLAY_DONE;
}

static int verify_slot(hl_replay *r, hl_replay_process *p, uint64_t id)
{
    const hl_slot *slot = &p->slots.at[id];
    uint64_t seed = payload_seed(id, slot->stamp), address = slot->address, size = slot->size;
    about(r, id, address, size);
    r->touching = 1;
    uint64_t good = verify_payload(p->context, address, size, seed);
    r->touching = 0;
    return good == size ? HL_REPLAY_DONE : bad(r, good, HL_REPLAY_WRONG_BYTE);
}

static int release(hl_replay *r, hl_replay_process *p, uint32_t id)
{
    hl_slot nothing = {0}, *slot = id == HL_NULL_ID ? &nothing : &p->slots.at[id];
    uint64_t address = slot->address, size = slot->size;
    if (r->verify && address) {
        int why = verify_slot(r, p, id);
        if (why)
            return why;
    }
    about(r, id, address, size);
    if (call(r, p, HL_OP_FREE, address, 0, 0) == HL_HEAP_RAISED)
        return HL_REPLAY_RAISED;
    if (r->verify && address && shadow_mark(&p->shadow, address, size, 0) < 0)
        return HL_REPLAY_HOST_MEMORY;
    r->remote_frees += address && slot->thread != p->context->thread;
    slot->address = 0;
    p->live -= size;
    r->now.live -= size;
    return HL_REPLAY_DONE;
}

static int end_thread(hl_replay *r, hl_replay_process *p)
{
    about(r, 0, 0, 0);
    return call(r, p, HL_OP_THREAD_EXIT, 0, 0, 0) == HL_HEAP_RAISED ? HL_REPLAY_RAISED : HL_REPLAY_DONE;
}

/* ---- many events ---- */

/* Lets this context run next; NULL: none. */
static void enter(hl_replay *r, hl_context *c, void *escape)
{
    if (r->entered == c)
        return;
    if (r->entered) {
        r->entered->escape = NULL;
        hl_set_fuel(r->entered, HL_NO_LIMIT);
    }
    if (c)
        c->escape = escape;
    r->entered = c;
}

/* Gives the context what is left of the limit, unless it has just that: bulk work takes fuel and is no mems. */
static inline void refuel(hl_replay *r, hl_context *c)
{
    if (r->mems_limit != HL_NO_LIMIT && hl_fuel(c) != r->mems_limit - r->mems)
        hl_set_fuel(c, r->mems_limit - r->mems);
}

/* After an event: peaks, and a sample if one is due. */
static void note(hl_replay *r)
{
    hl_sample *now = &r->now;
    uint64_t page = r->machine->page_size;
    now->event = ++r->events;
    now->heap = r->heap_pages * page;
    now->resident = r->machine->used[HL_ANON] * page;
    if (now->live > r->peak_live)
        r->peak_live = now->live;
    if (now->heap > r->peak_heap)
        r->peak_heap = now->heap;
    if (now->resident > r->peak_resident)
        r->peak_resident = now->resident;
    if (r->sample_at && r->events == r->sample_at[r->sampled])
        r->samples[r->sampled++] = *now;
}

void hl_replay_passed(hl_replay *r)
{
    r->row++;
    note(r);
}

static int replay_rows(hl_replay *r, const hl_events *e, uint64_t stop, void *escape)
{
    for (; r->row < stop; r->row++) {
        uint64_t row = r->row;
        int op = e->op[row], why;
        if (is_process_op(op))
            return HL_REPLAY_PROCESS;
        r->bad_process = e->process[row];
        hl_replay_process *p = process_of(r, r->bad_process);
        if (!p || !p->context->space)
            return HL_REPLAY_KILLED;
        enter(r, p->context, escape);
        refuel(r, p->context);
        p->context->thread = e->thread[row];
        uint32_t id = e->id[row];
        if (op == HL_OP_FREE)
            why = release(r, p, id);
        else if (op == HL_OP_REALLOC)
            why = reallocate(r, p, id, e->size[row]);
        else if (op == HL_OP_THREAD_EXIT)
            why = end_thread(r, p);
        else
            why = allocate(r, p, op, id, e->size[row], e->align[row]);
        if (why)
            return why;
        if (!p->context->space) /* killed, and the heap, in Python, has said nothing */
            return HL_REPLAY_KILLED;
        uint64_t pages = p->context->space->heap_pages;
        r->heap_pages += pages - p->heap_pages;
        p->heap_pages = pages;
        note(r);
    }
    return HL_REPLAY_DONE;
}

/* Why a jump out of replay_rows or verify_all came. */
static int escaped(hl_replay *r)
{
    int why = r->touching ? HL_REPLAY_NO_ACCESS : HL_REPLAY_RAISED;
    r->touching = 0;
    end_call(r, r->entered);
    return why;
}

int hl_replay_run(hl_replay *r, const hl_events *events, uint64_t stop)
{
    jmp_buf escape;
    uint64_t start_ns = clock_ns(), start = clock_ticks();
    int why;
    if (setjmp(escape))
        why = escaped(r);
    else
        why = replay_rows(r, events, stop, &escape);
    enter(r, NULL, NULL);
    r->clock.wall_ticks += clock_ticks() - start;
    r->clock.wall_ns += clock_ns() - start_ns;
    return why;
}

static int verify_all(hl_replay *r, hl_replay_process *p, void *escape)
{
    enter(r, p->context, escape);
    for (uint64_t id = 0; id < p->slots.count; id++)
        if (p->slots.at[id].address) {
            int why = verify_slot(r, p, id);
            if (why)
                return why;
        }
    return HL_REPLAY_DONE;
}

int hl_replay_verify(hl_replay *r, uint64_t number)
{
    jmp_buf escape;
    int why;
    hl_replay_process *p = process_of(r, number);
    r->bad_process = number;
    if (!p || !p->context->space)
        return HL_REPLAY_KILLED;
    if (setjmp(escape))
        why = escaped(r);
    else
        why = verify_all(r, p, &escape);
    enter(r, NULL, NULL);
    return why;
}
