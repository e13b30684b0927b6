/* The world of a part under test: an array of words, whose first has the address 0.  Mappings are given from its
 * end downwards, and never again; blocks stand below `brk`. */
#ifndef ARRAY_ENV_H
#define ARRAY_ENV_H

#include <setjmp.h>

typedef struct env {
    uint64_t *words;
    uint64_t n, page;
    uint64_t brk;    /* bytes; none when nothing in it is a block */
    uint64_t mapped; /* bytes */
    uint64_t loads, stores;
    jmp_buf corrupt; /* where heap_corrupt goes, and an access behind the last word */
} env;

static inline uint64_t *env_word(env *e, uint64_t address)
{
    if (address % 8 || address / 8 >= e->n)
        longjmp(e->corrupt, 1);
    return &e->words[address / 8];
}

static inline uint64_t env_load(env *e, uint64_t address)
{
    e->loads++;
    return *env_word(e, address);
}

static inline void env_store(env *e, uint64_t address, uint64_t value)
{
    e->stores++;
    *env_word(e, address) = value;
}

static inline void env_copy(env *e, uint64_t dst, uint64_t src, uint64_t n)
{
    for (uint64_t at = 0; at < n; at += 8)
        *env_word(e, dst + at) = *env_word(e, src + at);
}

static inline uint64_t env_map(env *e, uint64_t length)
{
    if (length > 8 * e->n - e->brk - e->mapped)
        return ENV_FAILED;
    e->mapped += length;
    return 8 * e->n - e->mapped;
}

/* What was unmapped reads as junk. */
static inline void env_unmap(env *e, uint64_t address, uint64_t length)
{
    for (uint64_t at = 0; at < length; at += 8)
        *env_word(e, address + at) = 0xDEADDEADDEADDEADull;
}

static inline uint64_t env_break(const env *e) { return e->brk; }

static inline uint64_t env_random(const env *e) { return e->n * 0x9E3779B97F4A7C15ull; }

static inline uint64_t env_page_size(const env *e) { return e->page; }

#endif
