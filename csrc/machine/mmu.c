/* The MMU: the TLB in front of the page walk, and the hand-over of faults to the kernel. */
#include "mmu.h"

#include <setjmp.h>
#include <stdlib.h>

/* A kernel that says "try again" this often without mapping the page is broken, not slow. */
#define MOST_RETRIES 64

hl_context *hl_context_new(hl_space *s, void *handle)
{
    hl_machine *m = s->machine;
    hl_context *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    unsigned entry_bits = (unsigned)__builtin_ctzll(sizeof *m->tlb);
    c->machine = m;
    c->handle = handle;
    c->tlb = (uint8_t *)m->tlb;
    c->slot_shift = m->page_shift - entry_bits;
    c->slot_mask = (m->tlb_size - 1) << entry_bits;
    c->page_mask = ~(m->page_size - 1);
    c->word_mask = c->page_mask | 7;
    hl_context_switch(c, s);
    return c;
}

void hl_context_delete(hl_context *c) { free(c); }

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

void hl_flush_page(hl_space *s, uint64_t va)
{
    hl_machine *m = s->machine;
    hl_tlb_entry *e = &m->tlb[(va >> m->page_shift) & (m->tlb_size - 1)];
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
    hl_tlb_entry *e = hl_tlb_slot(c, va);
    uint64_t page = va & c->page_mask;
    if (!is_empty(e))
        space_of(m, e)->cached--;
    c->space->cached++;
    e->read_tag = page | c->asid_tag;
    e->write_tag = rights && (*entry & HL_PTE_D) ? e->read_tag : UINT64_MAX;
    e->host = (uintptr_t)(m->ram + table * m->page_size) - (uintptr_t)page;
    return e;
}

uint8_t *hl_translate(hl_context *c, uint64_t va, int write)
{
    hl_machine *m = c->machine;
    hl_tlb_entry *e = hl_tlb_slot(c, va);
    if (!hl_hit(c, write ? e->write_tag : e->read_tag, va, c->page_mask)) {
        unsigned error = 0;
        e = NULL;
        for (int tries = 0; tries < MOST_RETRIES; tries++) {
            c->tlb_misses++;
            e = walk(c, va, write, &error);
            if (e)
                break;
            c->faults++;
            if (!m->on_fault || m->on_fault(c->handle, va, error) != 0)
                break;
        }
        if (!e) {
            c->failed = 1;
            if (c->escape)
                longjmp(*(jmp_buf *)c->escape, 1);
            return NULL;
        }
    }
    return hl_host(e, va);
}

/* ---- loads and stores ---- */

static int crosses(const hl_machine *m, uint64_t va, unsigned size)
{
    return (va & (m->page_size - 1)) + size > m->page_size;
}

uint64_t hl_load_slow(hl_context *c, uint64_t va, unsigned size)
{
    hl_machine *m = c->machine;
    uint64_t value = 0;
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
    c->loads++;
    return hl_load64_inline(c, va);
}

int hl_store64(hl_context *c, uint64_t va, uint64_t value)
{
    c->stores++;
    return hl_store64_inline(c, va, value);
}

uint64_t hl_load(hl_context *c, uint64_t va, unsigned size)
{
    c->loads++;
    return hl_load_slow(c, va, size);
}

int hl_store(hl_context *c, uint64_t va, uint64_t value, unsigned size)
{
    c->stores++;
    return hl_store_slow(c, va, value, size);
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
