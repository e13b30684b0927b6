/* The replay's loops: what is done for each event of the allocator's, and for each live block at the end.
 *
 * Compiled twice: for every machine, and with HL_USUAL for the usual one alone (../machine/machine.h).  In each the
 * loop over the events is there twice again, with and without verifying payloads.
 */
#include "loops.h"
#include "payload.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* ---- payload: page by page through the MMU ---- */

static inline uint64_t left_in_page(const hl_context *c, uint64_t va, uint64_t n)
{
    uint64_t left = hl_page_size(c) - (va & ~hl_page_mask(c));
    return n < left ? n : left;
}

/* Writes bytes [from, n) of the payload at va; `from` is rounded down to a word. */
static void write_payload(hl_context *c, uint64_t va, uint64_t from, uint64_t n, uint64_t seed)
{
    for (uint64_t i = from & ~7ull, piece; i < n; i += piece) {
        piece = left_in_page(c, va + i, n - i);
        payload_fill(hl_translate_inline(c, va + i, 1), piece, payload_word(seed, i));
    }
}

/* The first wrong byte's offset, or n. */
static uint64_t verify_payload(hl_context *c, uint64_t va, uint64_t n, uint64_t seed)
{
    for (uint64_t i = 0, piece; i < n; i += piece) {
        piece = left_in_page(c, va + i, n - i);
        uint64_t good = payload_agrees(hl_translate_inline(c, va + i, 0), piece, payload_word(seed, i));
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
        uint8_t *at = hl_translate_inline(c, va + i, 1);
        uint64_t good = payload_zeros(at, piece);
        if (good < piece)
            return i + good;
        payload_fill(at, piece, payload_word(seed, i));
    }
    return n;
}

/* ---- one event ---- */

static inline uint64_t bucket_of(uint64_t mems)
{
    return HL_LIKELY(mems < HL_MEMS_EXACT) ? mems : hl_mems_bucket(mems);
}

/* Counts n, of one operation.  The caller adds to the total, which includes calls that were broken off. */
static inline void tally(hl_tally *t, uint64_t n)
{
    t->count[bucket_of(n)]++;
    if (n > t->most)
        t->most = n;
}

static ALWAYS_INLINE uint64_t call_heap(hl_heap *h, int op, uint64_t p, uint64_t size, uint64_t align)
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

/* One call of the allocator, counted.  A heap in Python must not find an escape set: it would jump over the
 * interpreter. */
static ALWAYS_INLINE uint64_t call(hl_replay *r, hl_replay_process *p, int op, uint64_t address, uint64_t size,
                                   uint64_t align)
{
    hl_context *c = p->context;
    uint64_t result;
    r->before = hl_mems(c);
    if (HL_UNLIKELY(r->lines != NULL))
        hl_lines_forget(c);
    if (HL_LIKELY(p->heap != NULL)) {
        result = call_heap(p->heap, op, address, size, align);
    } else {
        void *escape = c->escape;
        c->escape = NULL;
        result = r->call(p->handle, op, address, size, align);
        c->escape = escape;
    }
    uint64_t mems = hl_mems(c) - r->before;
    r->mems.total += mems;
    if (HL_UNLIKELY(result == HL_HEAP_RAISED)) /* as in C, where what is raised jumps over the rest */
        return result;
    r->ops++;
    tally(&r->mems, mems);
    if (HL_UNLIKELY(r->lines != NULL)) {
        uint64_t lines = hl_lines(c);
        r->lines->total += lines;
        tally(r->lines, lines);
    }
    return result;
}

/* The block that what follows is about. */
static ALWAYS_INLINE void about(hl_replay *r, uint64_t id, uint64_t address, uint64_t size)
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
static ALWAYS_INLINE int verify_place(hl_replay *r, hl_replay_process *p, uint64_t align, int verify)
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
    if (size > p->context->space->vm_pages * hl_page_size(p->context) || address + size < address)
        return HL_REPLAY_TOO_LARGE;
    if (!verify)
        return HL_REPLAY_DONE;
    int taken = shadow_mark(&p->shadow, address, size, 1);
    return taken < 0 ? HL_REPLAY_HOST_MEMORY : taken ? overlap(r, p) : HL_REPLAY_DONE;
}

static ALWAYS_INLINE int allocate(hl_replay *r, hl_replay_process *p, int op, uint32_t id, uint64_t size, uint64_t align,
                                  int verify)
{
    hl_slot *slot = slots_at(&p->slots, id);
    if (!slot)
        return HL_REPLAY_HOST_MEMORY;
    uint64_t address = call(r, p, op, 0, size, align), good = size;
    about(r, id, address, size);
    if (!address || address == HL_HEAP_RAISED)
        return address ? HL_REPLAY_RAISED : HL_REPLAY_NO_MEMORY;
    int why = verify_place(r, p, align, verify);
    if (why)
        return why;
    uint16_t stamp = payload_stamp(r->events);
    uint64_t seed = payload_seed(id, stamp);
    r->touching = 1;
    if (op == HL_OP_CALLOC && verify)
        good = write_over_zeros(p->context, address, size, seed);
    else if (r->payload)
        write_payload(p->context, address, 0, size, seed);
    r->touching = 0;
    if (good < size)
        return bad(r, good, HL_REPLAY_NOT_ZERO);
    *slot = (hl_slot){.address = address & SLOT_MASK,
                      .thread = p->context->thread & 0xFFFFu,
                      .size = size & SLOT_MASK,
                      .stamp = stamp};
    p->slots.born[id] = narrow(r->events);
    p->live += size;
    r->now.live += size;
    return HL_REPLAY_DONE;
}

static ALWAYS_INLINE int reallocate(hl_replay *r, hl_replay_process *p, uint32_t id, uint64_t size, int verify)
{
    hl_slot *slot = &p->slots.at[id];
    uint64_t old = slot->size, kept = old < size ? old : size, seed = payload_seed(id, slot->stamp);
    uint64_t address = call(r, p, HL_OP_REALLOC, slot->address, size, 0), good = kept;
    about(r, id, address, size);
    if (!address || address == HL_HEAP_RAISED)
        return address ? HL_REPLAY_RAISED : HL_REPLAY_NO_MEMORY;
    if (verify && shadow_mark(&p->shadow, slot->address, old, 0) < 0)
        return HL_REPLAY_HOST_MEMORY;
    int why = verify_place(r, p, 0, verify);
    if (why)
        return why;
    r->touching = 1;
    if (verify)
        good = verify_payload(p->context, address, kept, seed);
    if (good == kept && r->payload)
        write_payload(p->context, address, kept, size, seed);
    r->touching = 0;
    if (good < kept)
        return bad(r, good, HL_REPLAY_WRONG_BYTE);
    r->remote_frees += slot->thread != p->context->thread;
    slot->address = address & SLOT_MASK;
    slot->thread = p->context->thread & 0xFFFFu;
    slot->size = size & SLOT_MASK;
    p->slots.born[id] = narrow(r->events);
    p->live += size - old;
    r->now.live += size - old;
    return HL_REPLAY_DONE;
}

static ALWAYS_INLINE int verify_slot(hl_replay *r, hl_replay_process *p, uint64_t id)
{
    const hl_slot *slot = &p->slots.at[id];
    uint64_t seed = payload_seed(id, slot->stamp), address = slot->address, size = slot->size;
    about(r, id, address, size);
    r->touching = 1;
    uint64_t good = verify_payload(p->context, address, size, seed);
    r->touching = 0;
    return good == size ? HL_REPLAY_DONE : bad(r, good, HL_REPLAY_WRONG_BYTE);
}

static ALWAYS_INLINE int release(hl_replay *r, hl_replay_process *p, uint32_t id, int verify)
{
    hl_slot nothing = {0}, *slot = id == HL_NULL_ID ? &nothing : &p->slots.at[id];
    uint64_t address = slot->address, size = slot->size;
    if (verify && address) {
        int why = verify_slot(r, p, id);
        if (why)
            return why;
    }
    about(r, id, address, size);
    if (call(r, p, HL_OP_FREE, address, 0, 0) == HL_HEAP_RAISED)
        return HL_REPLAY_RAISED;
    if (verify && address && shadow_mark(&p->shadow, address, size, 0) < 0)
        return HL_REPLAY_HOST_MEMORY;
    r->remote_frees += address && slot->thread != p->context->thread;
    slot->address = r->bad_address = 0;
    p->live -= size;
    r->now.live -= size;
    return HL_REPLAY_DONE;
}

static ALWAYS_INLINE int end_thread(hl_replay *r, hl_replay_process *p)
{
    about(r, 0, 0, 0);
    return call(r, p, HL_OP_THREAD_EXIT, 0, 0, 0) == HL_HEAP_RAISED ? HL_REPLAY_RAISED : HL_REPLAY_DONE;
}

/* ---- many events ---- */

static ALWAYS_INLINE int replay_rows(hl_replay *r, const hl_events *e, uint64_t stop, void *escape, int verify)
{
    const hl_events events = *e;
    hl_replay_process *p = NULL;
    hl_context *c = NULL;
    uint64_t number = 0;
    for (; r->row < stop; r->row++) {
        uint64_t row = r->row;
        int op = events.op[row], why;
        if (HL_UNLIKELY(is_process_op(op)))
            return HL_REPLAY_PROCESS;
        if (HL_UNLIKELY(!p || events.process[row] != number)) {
            r->bad_process = number = events.process[row];
            p = process_of(r, number);
            if (!p || !p->context->space)
                return HL_REPLAY_KILLED;
            c = p->context;
            hl_replay_enter(r, c, escape);
        }
        if (HL_UNLIKELY(c->charged != r->charged)) /* bulk work takes fuel and is no mems */
            hl_replay_refuel(r);
        c->thread = events.thread[row];
        uint32_t id = events.id[row];
        if (op == HL_OP_FREE)
            why = release(r, p, id, verify);
        else if (op == HL_OP_MALLOC)
            why = allocate(r, p, HL_OP_MALLOC, id, events.size[row], 0, verify);
        else if (op == HL_OP_REALLOC)
            why = reallocate(r, p, id, events.size[row], verify);
        else if (op == HL_OP_THREAD_EXIT)
            why = end_thread(r, p);
        else
            why = allocate(r, p, op, id, events.size[row], events.align[row], verify);
        if (HL_UNLIKELY(why))
            return why;
        if (HL_UNLIKELY(!c->space)) /* killed, and the heap, in Python, has said nothing */
            return HL_REPLAY_KILLED;
        uint64_t pages = c->space->heap_pages;
        r->heap_pages += pages - p->heap_pages;
        p->heap_pages = pages;
        replay_note(r, hl_page_size(c));
    }
    return HL_REPLAY_DONE;
}

static int run(hl_replay *r, const hl_events *e, uint64_t stop, void *escape)
{
    return r->verify ? replay_rows(r, e, stop, escape, 1) : replay_rows(r, e, stop, escape, 0);
}

static int verify_all(hl_replay *r, hl_replay_process *p)
{
    for (uint64_t id = 0; id < p->slots.count; id++)
        if (p->slots.at[id].address) {
            int why = verify_slot(r, p, id);
            if (why)
                return why;
        }
    return HL_REPLAY_DONE;
}

#ifdef HL_USUAL
const hl_replay_loops hl_usual_loops = {run, verify_all};
#else
const hl_replay_loops hl_loops = {run, verify_all};
#endif
