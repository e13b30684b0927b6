/* What POSIX and glibc say of malloc and its family, once for all designs: NULL, overflow, moving. */
#include <errno.h>

#include "../heap/heap.h"
#include "../parts/seal.h"

_Noreturn void heap_corrupt(hl_heap *h, uint64_t address, int rule)
{
    h->corrupt_address = address;
    h->corrupt_rule = rule == HEAP_DOUBLE_FREE && h->freed_rule ? h->freed_rule : rule;
    h->freed_rule = 0;
    env_escape(h->env);
}

void heap_begin(hl_heap *h) { seal_begin(h); }

int heap_create(hl_heap *h)
{
    uint64_t start = env_break(h->env);
    heap_begin(h);
    h->root = 0;
    if (heap_design(h)->create(h))
        return 1;
    uint64_t end = env_break(h->env);
    if (end != start)
        env_grow(h->env, (int64_t)(start - end));
    env_set_errno(h->env, ENOMEM);
    return 0;
}

uint64_t heap_malloc(hl_heap *h, uint64_t size) { return heap_design(h)->malloc(h, size, HEAP_ALIGN); }

void heap_free(hl_heap *h, uint64_t p)
{
    if (p)
        heap_design(h)->free(h, p);
}

/* The usable size of the block at p, which must not be freed: else it breaks the rule `freed`.  0 for p = 0. */
static uint64_t usable_in(hl_heap *h, uint64_t p, int freed)
{
    h->freed_rule = freed;
    uint64_t usable = p ? heap_design(h)->usable(h, p) : 0;
    h->freed_rule = 0;
    return usable;
}

uint64_t heap_usable_size(hl_heap *h, uint64_t p) { return usable_in(h, p, HEAP_FREED_USABLE_SIZE); }

/* Whether the block at p stays where it is; frees it for size 0, as glibc does. */
static inline int stays(hl_heap *h, uint64_t p, uint64_t size)
{
    int done = 1;
    h->freed_rule = HEAP_FREED_REALLOC;
    if (!size)
        heap_free(h, p);
    else
        done = heap_design(h)->resize && heap_design(h)->resize(h, p, size);
    h->freed_rule = 0;
    return done;
}

uint64_t heap_calloc(hl_heap *h, uint64_t n, uint64_t size)
{
    uint64_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        bytes = UINT64_MAX;
    h->zeroed = 0;
    uint64_t p = heap_malloc(h, bytes);
    if (p && !h->zeroed)
        env_zero(h->env, p, bytes);
    return p;
}

uint64_t heap_realloc(hl_heap *h, uint64_t p, uint64_t size)
{
    if (!p)
        return heap_malloc(h, size);
    if (stays(h, p, size))
        return size ? p : 0;
    uint64_t usable = usable_in(h, p, HEAP_FREED_REALLOC);
    uint64_t to = heap_malloc(h, size);
    if (!to)
        return 0;
    env_copy(h->env, to, p, usable < size ? usable : size);
    heap_free(h, p);
    return to;
}

uint64_t heap_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size)
{
    if (!alignment || (alignment & (alignment - 1))) {
        env_set_errno(h->env, EINVAL);
        return 0;
    }
    return heap_design(h)->malloc(h, size, alignment < HEAP_ALIGN ? HEAP_ALIGN : alignment);
}

void heap_thread_exit(hl_heap *h, unsigned thread)
{
    if (heap_design(h)->thread_exit)
        heap_design(h)->thread_exit(h, thread);
}

/* A walk whose links run in a circle comes back to a span: Brent's algorithm meets it again at the latest after
 * three times as many steps as the circle and the way into it have. */
int heap_walk(hl_heap *h, hl_cursor *cursor, hl_span *out)
{
    if (cursor->over || !heap_design(h)->walk(h, cursor->place, out)) {
        cursor->over = 1;
        return 0;
    }
    if (!out->size || (cursor->steps && out->start == cursor->seen))
        heap_corrupt(h, out->payload, HEAP_NO_PROGRESS);
    if (cursor->steps == cursor->turn) {
        cursor->seen = out->start;
        cursor->turn = 2 * cursor->turn + 1;
    }
    cursor->steps++;
    return 1;
}

void heap_check(hl_heap *h) { heap_design(h)->check(h); }
