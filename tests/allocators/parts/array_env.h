/* The world of a part under test: an array of words, whose first has the address 0. */
#ifndef ARRAY_ENV_H
#define ARRAY_ENV_H

#include <setjmp.h>

typedef struct env {
    uint64_t *words;
    uint64_t n, page;
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

static inline uint64_t env_page_size(const env *e) { return e->page; }

#endif
