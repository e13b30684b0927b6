/* Bitmap and page map on an array of words, for ctypes: each call says in `failed` whether it was corrupt. */
#include "parts/bitmap.h"
#include "parts/pagemap.h"

_Noreturn void heap_corrupt(hl_heap *h, uint64_t address, int rule)
{
    (void)address, (void)rule;
    longjmp(h->env->corrupt, 1);
}

typedef struct array {
    uint64_t *words;
    uint64_t n, page;
    uint64_t loads, stores, failed;
} array;

#define ON(a)                                                                                                 \
    env world = {.words = (a)->words, .n = (a)->n, .page = (a)->page};                                        \
    hl_heap heap = {.env = &world}, *h = &heap;                                                               \
    (a)->failed = setjmp(world.corrupt) != 0;                                                                 \
    if ((a)->failed)                                                                                          \
        return 0

#define RETURN(a, value)                                                                                      \
    do {                                                                                                      \
        uint64_t result = (value);                                                                            \
        (a)->loads += world.loads, (a)->stores += world.stores;                                               \
        return result;                                                                                        \
    } while (0)

uint64_t fill(array *a, uint64_t at, uint64_t n)
{
    ON(a);
    bitmap_fill(h, at, n);
    RETURN(a, 0);
}

uint64_t next_word(array *a, uint64_t at, uint64_t n, uint64_t w)
{
    ON(a);
    RETURN(a, bitmap_next_word(h, at, n, w));
}

uint64_t is_full(array *a, uint64_t at, uint64_t n)
{
    ON(a);
    RETURN(a, (uint64_t)bitmap_is_full(h, at, n));
}

/* The start, and the length in the upper half. */
uint64_t run(array *a, uint64_t at, uint64_t n, uint64_t start, uint64_t enough)
{
    ON(a);
    uint64_t length, first = bitmap_run(h, at, n, start, enough, &length);
    RETURN(a, first | length << 32);
}

uint64_t find(array *a, uint64_t at, uint64_t n, uint64_t length)
{
    ON(a);
    RETURN(a, bitmap_find(h, at, n, length));
}

uint64_t set(array *a, uint64_t at, uint64_t start, uint64_t length)
{
    ON(a);
    bitmap_set(h, at, start, length);
    RETURN(a, 0);
}

uint64_t clear(array *a, uint64_t at, uint64_t start, uint64_t length)
{
    ON(a);
    bitmap_clear(h, at, start, length);
    RETURN(a, 0);
}

uint64_t map_begin(array *a, uint64_t at, uint64_t k)
{
    ON(a);
    pagemap_begin(h, 0, at, (unsigned)k);
    RETURN(a, 0);
}

/* The number and 1, or 0. */
uint64_t map_lookup(array *a, uint64_t p)
{
    ON(a);
    uint64_t slot;
    pagemap m = pagemap_load(h, 0);
    pagemap_search(h, &m, p, &slot);
    RETURN(a, slot ? pagemap_number(&m, slot) + 1 : 0);
}

uint64_t map_insert(array *a, uint64_t p, uint64_t number)
{
    ON(a);
    pagemap m = pagemap_load(h, 0);
    pagemap_insert(h, &m, p, number);
    pagemap_count(h, &m, 1);
    RETURN(a, 0);
}

uint64_t map_remove(array *a, uint64_t p)
{
    ON(a);
    pagemap m = pagemap_load(h, 0);
    pagemap_remove(h, &m, p);
    pagemap_count(h, &m, -1);
    RETURN(a, 0);
}

uint64_t map_has_room(array *a, uint64_t more)
{
    ON(a);
    pagemap m = pagemap_load(h, 0);
    RETURN(a, (uint64_t)pagemap_has_room(h, &m, more));
}

uint64_t map_move(array *a, uint64_t at, uint64_t k)
{
    ON(a);
    pagemap m = pagemap_load(h, 0);
    pagemap_move(h, &m, at, (unsigned)k);
    RETURN(a, 0);
}
