/* brk.h says what the parts of the heap are. */
#include "brk.h"

#include <errno.h>

uint64_t brk_begin(hl_heap *h, uint64_t root_size)
{
    uint64_t start = env_break(h->env), root = heap_round_up(start, HEAP_ALIGN);
    uint64_t end = heap_round_up(root + root_size + heap_spec(h)->top_pad, env_page_size(h->env));
    if (env_grow(h->env, (int64_t)(end - start)) == ENV_FAILED)
        return 0;
    h->root = root;
    heap_store(h, root + ROOT_MAGIC, h->design->magic);
    heap_store(h, root + ROOT_END, end);
    return end;
}

uint64_t brk_grow(hl_heap *h, uint64_t need, uint64_t *grown)
{
    uint64_t page = env_page_size(h->env);
    uint64_t end = brk_end(h);
    uint64_t by = heap_round_up(need + heap_spec(h)->top_pad, page);
    if (env_break(h->env) != end) { /* somebody else moved the break: what follows us is theirs */
        env_set_errno(h->env, ENOMEM);
        return 0;
    }
    if (env_grow(h->env, (int64_t)by) == ENV_FAILED) {
        by = heap_round_up(need, page); /* without the luxury of the pad */
        if (env_grow(h->env, (int64_t)by) == ENV_FAILED)
            return 0;
    }
    heap_store(h, h->root + ROOT_END, end + by);
    *grown = by;
    return end;
}

int brk_shrink(hl_heap *h, uint64_t end)
{
    uint64_t old = brk_end(h);
    if (env_break(h->env) != old)
        return 0;
    if (env_grow(h->env, -(int64_t)(old - end)) == ENV_FAILED)
        return 0;
    heap_store(h, h->root + ROOT_END, end);
    return 1;
}
