/* The fast path of every memory access: one TLB probe.  Included by whatever must be fast. */
#ifndef HL_MMU_H
#define HL_MMU_H

#include <string.h>

#include "machine.h"

#define HL_LIKELY(x) __builtin_expect(!!(x), 1)
#define HL_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Slow paths: a TLB miss, a page fault, or an access that is not aligned. */
uint64_t hl_load_slow(hl_context *c, uint64_t va, unsigned size);
int hl_store_slow(hl_context *c, uint64_t va, uint64_t value, unsigned size);

/* The access at `va` fails: takes the escape, if there is one. */
void hl_fail(hl_context *c, int why, uint64_t va);
/* The budget is spent: fails, and returns -1. */
int hl_out_of_fuel(hl_context *c);

/* Count one reference: 0, or -1 when the budget is spent and the access must not be made. */
static inline int hl_count_load(hl_context *c) { return HL_UNLIKELY(--c->left < 0) ? hl_out_of_fuel(c) : 0; }

static inline int hl_count_store(hl_context *c)
{
    if (HL_UNLIKELY(--c->left < 0))
        return hl_out_of_fuel(c);
    c->stores++;
    return 0;
}

/* References so far. */
static inline uint64_t hl_mems(const hl_context *c) { return c->granted - (uint64_t)c->left - c->charged; }

/* What the fast path has to know of the machine. */
#define HL_ENTRY_BITS 5 /* a TLB entry has 32 bytes */
#ifdef HL_USUAL
static inline uint64_t hl_page_mask(const hl_context *c) { return (void)c, ~(HL_USUAL_PAGE - 1ull); }
static inline unsigned hl_slot_shift(const hl_context *c)
{
    return (void)c, (unsigned)__builtin_ctz(HL_USUAL_PAGE) - HL_ENTRY_BITS;
}
static inline uint64_t hl_slot_mask(const hl_context *c) { return (void)c, (HL_USUAL_TLB - 1ull) << HL_ENTRY_BITS; }
#else
static inline uint64_t hl_page_mask(const hl_context *c) { return c->page_mask; }
static inline unsigned hl_slot_shift(const hl_context *c) { return c->slot_shift; }
static inline uint64_t hl_slot_mask(const hl_context *c) { return c->slot_mask; }
#endif
static inline uint64_t hl_page_size(const hl_context *c) { return -hl_page_mask(c); }

/* A TLB that never hits: for contexts whose accesses must all take the slow path. */
extern const hl_tlb_entry hl_no_tlb[HL_USUAL_TLB];
/* Lets the fast path look into the TLB that belongs to what the context is: see c->tlb. */
void hl_choose_tlb(hl_context *c);

static inline const hl_tlb_entry *hl_tlb_slot(const hl_context *c, uint64_t va)
{
    return (const hl_tlb_entry *)(const void *)(c->tlb + ((va >> hl_slot_shift(c)) & hl_slot_mask(c)));
}

/* Whether `tag` serves an access at `va`.  A word's address that is not aligned keeps its low bits under the mask
 * of words, and one beyond 48 bits its high ones, so that both miss and take the slow path: one branch checks page,
 * asid, alignment and range. */
static inline int hl_hit(const hl_context *c, uint64_t tag, uint64_t va, uint64_t mask)
{
    return (((va & mask) ^ c->asid_tag ^ tag) | (va >> 48)) == 0;
}

static inline uint8_t *hl_host(const hl_tlb_entry *e, uint64_t va)
{
    return (uint8_t *)(e->host + (uintptr_t)va);
}

/* The mask of words: the page's, but for the bits that a word's address has clear. */
static inline uint64_t hl_word_mask(const hl_context *c) { return hl_page_mask(c) | 7; }

/* The byte at `va` in the host's memory, good up to the page's end; NULL when the access failed. */
static inline uint8_t *hl_translate_inline(hl_context *c, uint64_t va, int write)
{
    const hl_tlb_entry *e = hl_tlb_slot(c, va);
    if (HL_LIKELY(hl_hit(c, write ? e->write_tag : e->read_tag, va, hl_page_mask(c))))
        return hl_host(e, va);
    return hl_translate(c, va, write);
}

/* The caller counts first. */
static inline uint64_t hl_load64_inline(hl_context *c, uint64_t va)
{
    const hl_tlb_entry *e = hl_tlb_slot(c, va);
    if (HL_LIKELY(hl_hit(c, e->read_tag, va, hl_word_mask(c)))) {
        uint64_t value;
        memcpy(&value, hl_host(e, va), 8);
        return value;
    }
    return hl_load_slow(c, va, 8);
}

static inline int hl_store64_inline(hl_context *c, uint64_t va, uint64_t value)
{
    const hl_tlb_entry *e = hl_tlb_slot(c, va);
    if (HL_LIKELY(hl_hit(c, e->write_tag, va, hl_word_mask(c)))) {
        memcpy(hl_host(e, va), &value, 8);
        return 0;
    }
    return hl_store_slow(c, va, value, 8);
}

#endif
