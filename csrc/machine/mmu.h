/* The fast path of every memory access: one TLB probe.  Included by whatever must be fast. */
#ifndef HL_MMU_H
#define HL_MMU_H

#include <string.h>

#include "machine.h"

#define HL_LIKELY(x) __builtin_expect(!!(x), 1)

/* Slow paths: a TLB miss, a page fault, or an access that is not aligned. */
uint64_t hl_load_slow(hl_context *c, uint64_t va, unsigned size);
int hl_store_slow(hl_context *c, uint64_t va, uint64_t value, unsigned size);

static inline hl_tlb_entry *hl_tlb_slot(const hl_context *c, uint64_t va)
{
    return (hl_tlb_entry *)(void *)(c->tlb + ((va >> c->slot_shift) & c->slot_mask));
}

/* Whether `tag` serves an access at `va`.  A word's address that is not aligned keeps its low bits under
 * word_mask, and one beyond 48 bits its high ones, so that both miss and take the slow path: one branch
 * checks page, asid, alignment and range. */
static inline int hl_hit(const hl_context *c, uint64_t tag, uint64_t va, uint64_t mask)
{
    return (((va & mask) ^ c->asid_tag ^ tag) | (va >> 48)) == 0;
}

static inline uint8_t *hl_host(const hl_tlb_entry *e, uint64_t va)
{
    return (uint8_t *)(e->host + (uintptr_t)va);
}

/* The caller counts: c->loads, c->stores. */
static inline uint64_t hl_load64_inline(hl_context *c, uint64_t va)
{
    hl_tlb_entry *e = hl_tlb_slot(c, va);
    if (HL_LIKELY(hl_hit(c, e->read_tag, va, c->word_mask))) {
        uint64_t value;
        memcpy(&value, hl_host(e, va), 8);
        return value;
    }
    return hl_load_slow(c, va, 8);
}

static inline int hl_store64_inline(hl_context *c, uint64_t va, uint64_t value)
{
    hl_tlb_entry *e = hl_tlb_slot(c, va);
    if (HL_LIKELY(hl_hit(c, e->write_tag, va, c->word_mask))) {
        memcpy(hl_host(e, va), &value, 8);
        return 0;
    }
    return hl_store_slow(c, va, value, 8);
}

#endif
