/* The env on the model: memory is the MMU's, and the operating system is the model's kernel. */
#ifndef HL_ENV_MODEL_H
#define HL_ENV_MODEL_H

#include <errno.h>

#include "../machine/mmu.h"

typedef hl_context env;

/* What on_syscall gives when the handler raised: no errno is that large. */
#define ENV_TRAP_RAISED INT64_MIN

_Noreturn void env_escape(env *e);

static inline uint64_t env_load(env *e, uint64_t address)
{
    return hl_count_load(e) ? HL_BAD_LOAD : hl_load64_inline(e, address);
}

static inline void env_store(env *e, uint64_t address, uint64_t value)
{
    if (!hl_count_store(e))
        hl_store64_inline(e, address, value);
}

static inline void env_publish(env *e, uint64_t address, uint64_t value) { env_store(e, address, value); }

/* One thread of the model runs at a time, and none is interrupted inside the heap. */
static inline int env_cas(env *e, uint64_t address, uint64_t old, uint64_t new_value)
{
    return hl_cas64(e, address, old, new_value) > 0;
}

static inline void env_lock(env *e) { (void)e; }

static inline void env_unlock(env *e) { (void)e; }

static inline void env_copy(env *e, uint64_t dst, uint64_t src, uint64_t n) { hl_copy(e, dst, src, n); }

static inline void env_zero(env *e, uint64_t dst, uint64_t n) { hl_fill(e, dst, 0, n); }

static inline uint64_t env_page_size(const env *e) { return hl_page_size(e); }

static inline uint64_t env_break(const env *e) { return e->space ? e->space->brk : 0; }

static inline unsigned env_thread(const env *e) { return e->thread; }

static inline uint64_t env_note(const env *e)
{
    (void)e;
    return 0;
}

static inline void env_set_note(env *e, uint64_t value) { (void)e, (void)value; }

static inline uint64_t env_random(const env *e) { return e->space ? e->space->secret : 0; }

static inline void env_set_errno(env *e, int err) { e->err = err; }

uint64_t env_grow(env *e, int64_t increment);
uint64_t env_map(env *e, uint64_t length);
void env_unmap(env *e, uint64_t address, uint64_t length);
void env_discard(env *e, uint64_t address, uint64_t length);

#endif
