/* The way into the heap from Python: one call, with somewhere to escape to.
 *
 * A call that fails says so in one of two places: the context's `failed` (an access killed the process)
 * or the heap's `corrupt_rule`.  Whoever called clears them.
 */
#include "model.h"

#include <setjmp.h>
#include <string.h>

#include "../sources/brk.h"

#define ENTER(h, result)                                                                               \
    jmp_buf escape;                                                                                    \
    (h)->env->escape = &escape;                                                                        \
    (h)->freed_rule = 0; /* the call before may have broken off */                                     \
    if (setjmp(escape)) {                                                                              \
        (h)->env->escape = NULL;                                                                       \
        return result;                                                                                 \
    }

#define LEAVE(h) (h)->env->escape = NULL

/* The linker gathers what HEAP_DESIGN has left, and names the ends. */
extern const hl_design *const __start_hl_designs[];
extern const hl_design *const __stop_hl_designs[];
extern const hl_design *const __start_hl_usual_designs[];
extern const hl_design *const __stop_hl_usual_designs[];

const hl_design *hl_design_at(unsigned n)
{
    return n < (size_t)(__stop_hl_designs - __start_hl_designs) ? __start_hl_designs[n] : NULL;
}

const hl_option hl_shared_options[] = {LARGE_OPTIONS, BRK_OPTIONS, HEAP_CHECK_OPTIONS, {0}};

const hl_design *hl_design_usual(const hl_design *design)
{
    const hl_design *const *d = __start_hl_usual_designs;
    while (d < __stop_hl_usual_designs && (*d)->magic != design->magic)
        d++;
    return d < __stop_hl_usual_designs ? *d : design;
}

const char *hl_design_lacks(const hl_design *d)
{
    return !d->name      ? "name"
           : !d->magic   ? "magic"
           : !d->options ? "options"
           : !d->create  ? "create"
           : !d->malloc  ? "malloc"
           : !d->free    ? "free"
           : !d->usable  ? "usable"
           : !d->walk    ? "walk"
           : !d->check   ? "check"
                         : NULL;
}

const hl_design *const *hl_designs_of(hl_written_fn library, uint64_t *n)
{
    static const hl_machine_calls calls = {hl_load_slow, hl_store_slow, hl_out_of_fuel, hl_cas64, hl_copy, hl_fill};
    return library(&calls, n);
}

const char hl_headers[] = HL_HEADERS;
const char hl_sources[] = HL_SOURCES;

void hl_heap_begin(hl_heap *h, const hl_design *usual)
{
    if (hl_is_usual(h->env->machine))
        h->design = usual;
    heap_begin(h);
}

void hl_heap_set(hl_heap *h, size_t place, uint64_t value) { memcpy((char *)h + place, &value, sizeof value); }

/* -1 also, with errno set, when the kernel gives no memory for the root or what belongs to it. */
int hl_heap_create(hl_heap *h)
{
    ENTER(h, -1);
    int stands = heap_create(h);
    LEAVE(h);
    return stands ? 0 : -1;
}

uint64_t hl_heap_malloc(hl_heap *h, uint64_t size)
{
    ENTER(h, 0);
    uint64_t p = heap_malloc(h, size);
    LEAVE(h);
    return p;
}

int hl_heap_free(hl_heap *h, uint64_t p)
{
    ENTER(h, -1);
    heap_free(h, p);
    LEAVE(h);
    return 0;
}

uint64_t hl_heap_calloc(hl_heap *h, uint64_t n, uint64_t size)
{
    ENTER(h, 0);
    uint64_t p = heap_calloc(h, n, size);
    LEAVE(h);
    return p;
}

uint64_t hl_heap_realloc(hl_heap *h, uint64_t p, uint64_t size)
{
    ENTER(h, 0);
    uint64_t q = heap_realloc(h, p, size);
    LEAVE(h);
    return q;
}

uint64_t hl_heap_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size)
{
    ENTER(h, 0);
    uint64_t p = heap_aligned_alloc(h, alignment, size);
    LEAVE(h);
    return p;
}

uint64_t hl_heap_usable_size(hl_heap *h, uint64_t p)
{
    ENTER(h, 0);
    uint64_t usable = heap_usable_size(h, p);
    LEAVE(h);
    return usable;
}

int hl_heap_thread_exit(hl_heap *h, unsigned thread)
{
    ENTER(h, -1);
    heap_thread_exit(h, thread);
    LEAVE(h);
    return 0;
}

/* Writes up to `capacity` spans; `cursor` starts with zeros.
 * How many were written, 0 at the end, -1 when the call failed. */
int64_t hl_heap_walk(hl_heap *h, hl_cursor *cursor, hl_span *out, uint64_t capacity)
{
    ENTER(h, -1);
    hl_span *span = out, *end = out + capacity;
    while (span < end && heap_walk(h, cursor, span))
        span++;
    LEAVE(h);
    return span - out;
}

int hl_heap_check(hl_heap *h)
{
    ENTER(h, -1);
    heap_check(h);
    LEAVE(h);
    return 0;
}
