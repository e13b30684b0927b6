/* The fast path of every memory access: one TLB probe.  Included by whatever must be fast. */
#ifndef HL_MMU_H
#define HL_MMU_H

#include <string.h>

#include "machine.h"

#define HL_LIKELY(x) __builtin_expect(!!(x), 1)

/* Slow paths: a TLB miss, a page fault, or an access that is not aligned. */
uint64_t hl_load_slow(hl_context *c, uint64_t va, unsigned size);
int hl_store_slow(hl_context *c, uint64_t va, uint64_t value, unsigned size);

static inline hl_tlb_entry *hl_tlb_slot(const hl_machine *m, uint64_t va)
{
    return &m->tlb[(va >> m->page_shift) & (m->tlb_size - 1)];
}

/* Whether `tag` serves an access of `size` bytes at `va`.  An address that is not aligned keeps its low
 * bits and one beyond 48 bits its high ones, so that both miss and take the slow path: one branch checks
 * page, asid, alignment and range. */
static inline int hl_hit(const hl_context *c, uint64_t tag, uint64_t va, unsigned size)
{
    uint64_t page = va & (~(c->machine->page_size - 1) | (size - 1));
    return ((page ^ c->asid_tag ^ tag) | (va >> 48)) == 0;
}

/* The caller counts: c->loads, c->stores. */
static inline uint64_t hl_load64_inline(hl_context *c, uint64_t va)
{
    hl_machine *m = c->machine;
    hl_tlb_entry *e = hl_tlb_slot(m, va);
    if (HL_LIKELY(hl_hit(c, e->read_tag, va, 8))) {
        uint64_t value;
        memcpy(&value, e->page + (va & (m->page_size - 1)), 8);
        return value;
    }
    return hl_load_slow(c, va, 8);
}

static inline int hl_store64_inline(hl_context *c, uint64_t va, uint64_t value)
{
    hl_machine *m = c->machine;
    hl_tlb_entry *e = hl_tlb_slot(m, va);
    if (HL_LIKELY(hl_hit(c, e->write_tag, va, 8))) {
        memcpy(e->page + (va & (m->page_size - 1)), &value, 8);
        return 0;
    }
    return hl_store_slow(c, va, value, 8);
}

#endif
