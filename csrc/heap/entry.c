/* The way into the heap from Python: one call, with somewhere to escape to.
 *
 * A call that fails says so in one of two places: the context's `failed` (an access killed the process)
 * or the heap's `corrupt_rule`.  Whoever called clears them.
 */
#include "entry.h"

#include <setjmp.h>
#include <string.h>

#define ENTER(h, result)                                                                               \
    jmp_buf escape;                                                                                    \
    (h)->seam->escape = &escape;                                                                       \
    if (setjmp(escape)) {                                                                              \
        (h)->seam->escape = NULL;                                                                      \
        return result;                                                                                 \
    }

#define LEAVE(h) (h)->seam->escape = NULL

static const hl_design *const designs[] = {&hl_freelist, &hl_buddy, &hl_binheap, &hl_rbtree, NULL};

int hl_heap_design(hl_heap *h, const char *name)
{
    for (const hl_design *const *design = designs; *design; design++)
        if (!strcmp((*design)->name, name)) {
            h->design = *design;
            return 0;
        }
    return -1;
}

/* -1 also, with errno set, when the kernel gives no memory for the root or what belongs to it. */
int hl_heap_create(hl_heap *h)
{
    ENTER(h, -1);
    seam *s = h->seam;
    uint64_t start = seam_sbrk(s, 0);
    uint64_t root = heap_round_up(start, HL_ALIGN);
    uint64_t end = heap_round_up(root + h->design->root_size + h->top_pad, seam_page_size(s));
    if (seam_sbrk(s, (int64_t)(end - start)) == SEAM_FAILED) {
        LEAVE(h);
        return -1;
    }
    h->root = root;
    heap_store(h, root + HL_ROOT_MAGIC, h->design->magic);
    heap_store(h, root + HL_ROOT_END, end);
    heap_store(h, root + HL_ROOT_LARGE, 0);
    int stands = h->design->init(h, end);
    if (!stands) {
        int err = h->seam->err;
        seam_sbrk(s, (int64_t)(start - end));
        seam_set_errno(s, err);
    }
    LEAVE(h);
    return stands ? 0 : -1;
}

/* Below the break there is memory; an address beyond it may kill the process that looks. */
static void verify_root(hl_heap *h)
{
    int beyond = h->root + HL_ROOT_DESIGN > seam_sbrk(h->seam, 0);
    if (beyond || heap_load(h, h->root + HL_ROOT_MAGIC) != h->design->magic)
        heap_corrupt(h, h->root, HL_BROKEN_ROOT);
}

int hl_heap_attach(hl_heap *h)
{
    ENTER(h, -1);
    verify_root(h);
    LEAVE(h);
    return 0;
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

/* Writes up to `capacity` blocks: the design's in address order, then the large ones in list order.
 * cursor[0] (the design's) and cursor[1] (the large ones) start at 0 and are UINT64_MAX when done.
 * How many were written, 0 at the end, -1 when the call failed. */
int64_t hl_heap_walk(hl_heap *h, uint64_t *cursor, hl_block *out, uint64_t capacity)
{
    ENTER(h, -1);
    hl_block *block = out, *end = out + capacity;
    while (block < end && cursor[0] != UINT64_MAX) {
        if (h->design->next(h, &cursor[0], block))
            block++;
        else
            cursor[0] = UINT64_MAX;
    }
    while (block < end && cursor[1] != UINT64_MAX) {
        if (large_next(h, &cursor[1], block))
            block++;
        else
            cursor[1] = UINT64_MAX;
    }
    LEAVE(h);
    return block - out;
}

int hl_heap_check(hl_heap *h)
{
    ENTER(h, -1);
    verify_root(h);
    h->design->check(h);
    large_check(h);
    LEAVE(h);
    return 0;
}
