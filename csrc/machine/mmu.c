/* The MMU: the TLB in front of the page walk, and the hand-over of faults to the kernel. */
#include "mmu.h"

#include "look.h"
#include "observe.h"

#include <setjmp.h>
#include <stdlib.h>

/* A kernel that says "try again" this often without mapping the page is broken, not slow. */
#define MOST_RETRIES 64
_Static_assert(sizeof(hl_tlb_entry) == 1u << HL_ENTRY_BITS, "the fast path shifts by HL_ENTRY_BITS");

hl_context *hl_context_new(hl_space *s, void *handle)
{
    hl_machine *m = s->machine;
    hl_context *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->machine = m;
    c->handle = handle;
    c->slot_shift = m->page_shift - HL_ENTRY_BITS;
    c->page_mask = ~(m->page_size - 1);
    hl_set_fuel(c, HL_NO_LIMIT);
    hl_choose_tlb(c);
    hl_context_switch(c, s);
    return c;
}

void hl_context_delete(hl_context *c)
{
    hl_look_end(c);
    hl_observer_delete(c->observer);
    free(c);
}

const hl_tlb_entry hl_no_tlb[HL_USUAL_TLB] = {[0 ... HL_USUAL_TLB - 1] = {UINT64_MAX, UINT64_MAX, 0, 0}};

void hl_choose_tlb(hl_context *c)
{
    int slow = c->observing || c->look;
    c->tlb = (const uint8_t *)(slow ? hl_no_tlb : c->machine->tlb);
    c->slot_mask = slow ? 0 : (c->machine->tlb_size - 1) << HL_ENTRY_BITS;
}

void hl_context_switch(hl_context *c, hl_space *s)
{
    c->space = s;
    c->asid_tag = s ? s->asid << 48 : 0;
}

/* ---- TLB ---- */

static int is_empty(const hl_tlb_entry *e) { return e->read_tag == UINT64_MAX; }

static hl_space *space_of(const hl_machine *m, const hl_tlb_entry *e) { return m->spaces[e->read_tag >> 48]; }

static void drop(hl_machine *m, hl_tlb_entry *e)
{
    space_of(m, e)->cached--;
    e->read_tag = e->write_tag = UINT64_MAX;
}

/* Where the machine's TLB has the page of `va`, if it has it. */
static hl_tlb_entry *slot(const hl_machine *m, uint64_t va)
{
    return &m->tlb[(va >> m->page_shift) & (m->tlb_size - 1)];
}

void hl_flush_page(hl_space *s, uint64_t va)
{
    hl_machine *m = s->machine;
    hl_tlb_entry *e = slot(m, va);
    uint64_t tag = (va & ~(m->page_size - 1)) | s->asid << 48;
    if (e->read_tag == tag)
        drop(m, e);
}

void hl_flush_space(hl_space *s)
{
    hl_machine *m = s->machine;
    for (hl_tlb_entry *e = m->tlb; s->cached; e++)
        if (e->read_tag >> 48 == s->asid)
            drop(m, e);
}

uint64_t hl_tlb_entries(const hl_space *s)
{
    const hl_machine *m = s->machine;
    uint64_t found = 0;
    for (uint64_t i = 0; i < m->tlb_size; i++)
        found += m->tlb[i].read_tag >> 48 == s->asid;
    return found;
}

uint64_t hl_tlb_stale(hl_machine *m, uint64_t *va)
{
    uint64_t stale = 0, lowest = UINT64_MAX;
    for (uint64_t i = 0; i < m->tlb_size; i++) {
        const hl_tlb_entry *e = &m->tlb[i];
        if (is_empty(e))
            continue;
        const hl_space *s = space_of(m, e);
        uint64_t page = e->read_tag & ((1ull << 48) - 1);
        uint64_t entry = s ? hl_pte(s, page) : 0;
        uint64_t frame = (entry & HL_PTE_FRAME_MASK) >> HL_PTE_FRAME_SHIFT;
        uint64_t write_bits = HL_PTE_W | HL_PTE_D;
        int agrees = (entry & HL_PTE_P) && (entry & HL_PTE_U) &&
                     hl_host(e, page) == m->ram + frame * m->page_size &&
                     (e->write_tag == UINT64_MAX || (entry & write_bits) == write_bits);
        if (!agrees) {
            stale++;
            if (page < lowest)
                lowest = page;
        }
    }
    *va = lowest;
    return stale;
}

/* The page walk.  Fills the TLB and returns the slot, or NULL with the error code of the fault. */
static hl_tlb_entry *walk(hl_context *c, uint64_t va, int write, unsigned *error)
{
    hl_machine *m = c->machine;
    *error = HL_FAULT_USER | (write ? HL_FAULT_WRITE : 0);
    if (!c->space || va >> m->va_bits)
        return NULL;
    uint64_t table = c->space->root, rights = HL_PTE_W, *entry = NULL;
    for (int level = HL_LEVELS - 1; level >= 0; level--) {
        unsigned shift = m->page_shift + (unsigned)level * m->index_bits;
        uint64_t index = (va >> shift) & ((1ull << m->index_bits) - 1);
        entry = (uint64_t *)(void *)(m->ram + table * m->page_size) + index;
        if (!(*entry & HL_PTE_P))
            return NULL;
        rights &= *entry;
        table = (*entry & HL_PTE_FRAME_MASK) >> HL_PTE_FRAME_SHIFT;
    }
    if (!(*entry & HL_PTE_U) || (write && !rights)) {
        *error |= HL_FAULT_PROTECTION;
        return NULL;
    }
    *entry |= HL_PTE_A | (write ? HL_PTE_D : 0);
    hl_tlb_entry *e = slot(m, va);
    uint64_t page = va & c->page_mask;
    if (!is_empty(e))
        space_of(m, e)->cached--;
    c->space->cached++;
    e->read_tag = page | c->asid_tag;
    e->write_tag = rights && (*entry & HL_PTE_D) ? e->read_tag : UINT64_MAX;
    e->host = (uintptr_t)(m->ram + table * m->page_size) - (uintptr_t)page;
    return e;
}

void hl_fail(hl_context *c, int why, uint64_t va)
{
    c->failed = why;
    c->fault_address = va;
    if (c->escape)
        longjmp(*(jmp_buf *)c->escape, 1);
}

/* Whether the page at `va` has an anonymous frame that something else has too. */
static int is_shared(const hl_space *s, uint64_t va)
{
    uint64_t frame = (hl_pte(s, va) & HL_PTE_FRAME_MASK) >> HL_PTE_FRAME_SHIFT;
    return s->machine->kind[frame] == HL_ANON && s->machine->refcount[frame] > 1;
}

/* Answers a write that faults in the space's demand window: 1, or 0 when the kernel has to.  It has to also where a
 * frame might be missing, for the page or for one of the tables above it: then nothing is begun here. */
static int map_on_demand(hl_context *c, uint64_t va, unsigned error)
{
    hl_space *s = c->space;
    if (!(error & HL_FAULT_WRITE) || !s || va - s->demand_start >= s->demand_end - s->demand_start ||
        c->machine->used[HL_FREE] < HL_LEVELS)
        return 0;
    if (!(error & HL_FAULT_PROTECTION)) {
        hl_map_zeroed(s, va, HL_ANON, s->demand_flags);
    } else {
        if (!is_shared(s, va))
            return 0;
        hl_map_copy(s, va, s->demand_flags);
        hl_flush_page(s, va);
    }
    c->minor_faults++;
    return 1;
}

uint8_t *hl_translate(hl_context *c, uint64_t va, int write)
{
    hl_machine *m = c->machine;
    if (HL_UNLIKELY(c->look != NULL))
        return hl_look_at(c, va, write);
    hl_tlb_entry *e = slot(m, va);
    if (!hl_hit(c, write ? e->write_tag : e->read_tag, va, c->page_mask)) {
        unsigned error = 0;
        e = NULL;
        for (int tries = 0; tries < MOST_RETRIES; tries++) {
            c->tlb_misses++;
            e = walk(c, va, write, &error);
            if (e)
                break;
            c->faults++;
            if (map_on_demand(c, va, error))
                continue;
            if (!m->on_fault || m->on_fault(c->handle, va, error) != 0)
                break;
        }
        if (!e) {
            hl_fail(c, HL_REFUSED, va);
            return NULL;
        }
    }
    return hl_host(e, va);
}

/* ---- fuel ---- */

int hl_out_of_fuel(hl_context *c)
{
    c->left = 0;
    hl_fail(c, HL_OUT_OF_FUEL, c->fault_address);
    return -1;
}

void hl_set_fuel(hl_context *c, uint64_t references)
{
    int64_t given = references < INT64_MAX ? (int64_t)references : INT64_MAX;
    c->granted += (uint64_t)given - (uint64_t)c->left;
    c->left = given;
    c->budget = references;
}

uint64_t hl_fuel(const hl_context *c) { return c->budget == HL_NO_LIMIT ? HL_NO_LIMIT : (uint64_t)c->left; }

int hl_charge(hl_context *c, uint64_t units)
{
    if (c->budget == HL_NO_LIMIT)
        return 0;
    int enough = units <= (uint64_t)c->left;
    uint64_t taken = enough ? units : (uint64_t)c->left;
    c->charged += taken;
    c->left -= (int64_t)taken;
    return enough ? 0 : hl_out_of_fuel(c);
}

uint64_t hl_loads(const hl_context *c) { return hl_mems(c) - c->stores; }

/* What moving n bytes takes from the budget. */
static int charge_bulk(hl_context *c, uint64_t n) { return hl_charge(c, 1 + n / 4096); }

/* ---- loads and stores ---- */

static int crosses(const hl_machine *m, uint64_t va, unsigned size)
{
    return (va & (m->page_size - 1)) + size > m->page_size;
}

uint64_t hl_load_slow(hl_context *c, uint64_t va, unsigned size)
{
    hl_machine *m = c->machine;
    uint64_t value = 0;
    if (HL_UNLIKELY(c->observing))
        hl_note(c->observer, va, size, 0);
    if (!crosses(m, va, size)) {
        const uint8_t *p = hl_translate(c, va, 0);
        if (!p)
            return HL_BAD_LOAD;
        memcpy(&value, p, size);
        return value;
    }
    for (unsigned i = 0; i < size; i++) {
        const uint8_t *p = hl_translate(c, va + i, 0);
        if (!p)
            return HL_BAD_LOAD;
        value |= (uint64_t)*p << (8 * i);
    }
    return value;
}

int hl_store_slow(hl_context *c, uint64_t va, uint64_t value, unsigned size)
{
    hl_machine *m = c->machine;
    if (HL_UNLIKELY(c->observing))
        hl_note(c->observer, va, size, 1);
    uint8_t *p = hl_translate(c, va, 1);
    if (!p)
        return -1;
    if (!crosses(m, va, size)) {
        memcpy(p, &value, size);
        return 0;
    }
    /* both pages must be writable before the first byte changes, and the first still be after the
     * second's fault */
    uint64_t first = m->page_size - (va & (m->page_size - 1));
    if (!hl_translate(c, va + first, 1))
        return -1;
    for (unsigned i = 0; i < size; i++) {
        p = hl_translate(c, va + i, 1);
        if (!p)
            return -1;
        *p = (uint8_t)(value >> (8 * i));
    }
    return 0;
}

uint64_t hl_load64(hl_context *c, uint64_t va)
{
    return hl_count_load(c) ? HL_BAD_LOAD : hl_load64_inline(c, va);
}

int hl_store64(hl_context *c, uint64_t va, uint64_t value)
{
    return hl_count_store(c) ? -1 : hl_store64_inline(c, va, value);
}

int hl_cas64(hl_context *c, uint64_t va, uint64_t old, uint64_t new_value)
{
    if (hl_count_load(c) || !hl_translate(c, va, 1))
        return -1;
    if (hl_load64_inline(c, va) != old)
        return 0;
    return hl_store64(c, va, new_value) ? -1 : 1;
}

uint64_t hl_load(hl_context *c, uint64_t va, unsigned size)
{
    return hl_count_load(c) ? HL_BAD_LOAD : hl_load_slow(c, va, size);
}

int hl_store(hl_context *c, uint64_t va, uint64_t value, unsigned size)
{
    return hl_count_store(c) ? -1 : hl_store_slow(c, va, value, size);
}

/* ---- bulk ---- */

/* How many of n bytes from va on lie in its page. */
static uint64_t run(const hl_machine *m, uint64_t va, uint64_t n)
{
    uint64_t left = m->page_size - (va & (m->page_size - 1));
    return n < left ? n : left;
}

/* How many of the n bytes that end at va lie in the page of va - 1. */
static uint64_t run_back(const hl_machine *m, uint64_t va, uint64_t n)
{
    uint64_t left = ((va - 1) & (m->page_size - 1)) + 1;
    return n < left ? n : left;
}

/* One piece within a page on either side.  The source's fault may take the destination's frame away
 * (or the other way round), so both are translated until neither faults in between. */
static int copy_piece(hl_context *c, uint64_t dst, uint64_t src, uint64_t n)
{
    for (;;) {
        uint8_t *to = hl_translate(c, dst, 1);
        uint64_t faults = c->faults;
        const uint8_t *from = to ? hl_translate(c, src, 0) : NULL;
        if (!from)
            return -1;
        if (c->faults == faults) {
            memmove(to, from, n);
            c->bulk += n;
            return 0;
        }
    }
}

int hl_copy(hl_context *c, uint64_t dst, uint64_t src, uint64_t n)
{
    const hl_machine *m = c->machine;
    if (charge_bulk(c, n) < 0)
        return -1;
    if (dst - src >= n) { /* forwards is safe: dst below src, or no overlap */
        while (n) {
            uint64_t piece = run(m, dst, run(m, src, n));
            if (copy_piece(c, dst, src, piece) < 0)
                return -1;
            dst += piece, src += piece, n -= piece;
        }
    } else {
        while (n) {
            uint64_t piece = run_back(m, dst + n, run_back(m, src + n, n));
            n -= piece;
            if (copy_piece(c, dst + n, src + n, piece) < 0)
                return -1;
        }
    }
    return 0;
}

int hl_fill(hl_context *c, uint64_t dst, uint8_t byte, uint64_t n)
{
    if (charge_bulk(c, n) < 0)
        return -1;
    while (n) {
        uint64_t piece = run(c->machine, dst, n);
        uint8_t *to = hl_translate(c, dst, 1);
        if (!to)
            return -1;
        memset(to, byte, piece);
        c->bulk += piece;
        dst += piece, n -= piece;
    }
    return 0;
}

int hl_read(hl_context *c, uint64_t va, uint8_t *out, uint64_t n)
{
    if (charge_bulk(c, n) < 0)
        return -1;
    while (n) {
        uint64_t piece = run(c->machine, va, n);
        const uint8_t *from = hl_translate(c, va, 0);
        if (!from)
            return -1;
        memcpy(out, from, piece);
        c->bulk += piece;
        va += piece, out += piece, n -= piece;
    }
    return 0;
}

int hl_write(hl_context *c, uint64_t va, const uint8_t *in, uint64_t n)
{
    if (charge_bulk(c, n) < 0)
        return -1;
    while (n) {
        uint64_t piece = run(c->machine, va, n);
        uint8_t *to = hl_translate(c, va, 1);
        if (!to)
            return -1;
        memcpy(to, in, piece);
        c->bulk += piece;
        va += piece, in += piece, n -= piece;
    }
    return 0;
}
