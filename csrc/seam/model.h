/* The seam on the model: memory is the MMU's, and the operating system is the model's kernel. */
#ifndef HL_SEAM_MODEL_H
#define HL_SEAM_MODEL_H

#include <errno.h>

#include "../machine/mmu.h"

typedef hl_context seam;

/* What on_syscall gives when the handler raised: no errno is that large. */
#define SEAM_TRAP_RAISED INT64_MIN

_Noreturn void seam_escape(seam *s);

static inline uint64_t seam_load(seam *s, uint64_t address)
{
    s->loads++;
    return hl_load64_inline(s, address);
}

static inline void seam_store(seam *s, uint64_t address, uint64_t value)
{
    s->stores++;
    hl_store64_inline(s, address, value);
}

static inline void seam_copy(seam *s, uint64_t dst, uint64_t src, uint64_t n) { hl_copy(s, dst, src, n); }

static inline void seam_fill_zero(seam *s, uint64_t dst, uint64_t n) { hl_fill(s, dst, 0, n); }

static inline uint64_t seam_page_size(const seam *s) { return s->machine->page_size; }

static inline void seam_set_errno(seam *s, int err) { s->err = err; }

uint64_t seam_sbrk(seam *s, int64_t increment);
uint64_t seam_mmap(seam *s, uint64_t length);
void seam_munmap(seam *s, uint64_t address, uint64_t length);

#endif
