/* The contract, for every design: which requests are the design's, which are large, and what POSIX says
 * of the rest. */
#include "heap.h"

#include <errno.h>

_Noreturn void heap_corrupt(hl_heap *h, uint64_t address, int rule)
{
    h->corrupt_address = address;
    h->corrupt_rule = rule;
    seam_escape(h->seam);
}

/* Small blocks lie between the root and the end; everything else is large, or foreign. */
static int is_small(hl_heap *h, uint64_t p)
{
    return p >= h->root + h->design->root_size && p < heap_load(h, h->root + HL_ROOT_END);
}

uint64_t heap_malloc(hl_heap *h, uint64_t size)
{
    if (size >= h->mmap_threshold)
        return large_malloc(h, HL_ALIGN, size);
    return h->design->malloc(h, size);
}

void heap_free(hl_heap *h, uint64_t p)
{
    if (!p)
        return;
    if (is_small(h, p))
        h->design->free(h, p);
    else
        large_free(h, p);
}

uint64_t heap_usable_size(hl_heap *h, uint64_t p)
{
    if (!p)
        return 0;
    return is_small(h, p) ? h->design->usable_size(h, p) : large_usable_size(h, p);
}

uint64_t heap_calloc(hl_heap *h, uint64_t n, uint64_t size)
{
    uint64_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        bytes = UINT64_MAX;
    uint64_t p = heap_malloc(h, bytes);
    if (p && bytes < h->mmap_threshold) /* what mmap gives is zero already */
        seam_fill_zero(h->seam, p, bytes);
    return p;
}

uint64_t heap_realloc(hl_heap *h, uint64_t p, uint64_t size)
{
    if (!p)
        return heap_malloc(h, size);
    if (!size) { /* as glibc does */
        heap_free(h, p);
        return 0;
    }
    int small = is_small(h, p);
    /* a block stays where it is only if the new size belongs on its side of the threshold */
    if (small == (size < h->mmap_threshold) &&
        (small ? h->design->resize(h, p, size) : large_resize(h, p, size)))
        return p;
    uint64_t usable = small ? h->design->usable_size(h, p) : large_usable_size(h, p);
    uint64_t to = heap_malloc(h, size);
    if (!to)
        return 0;
    seam_copy(h->seam, to, p, usable < size ? usable : size);
    heap_free(h, p);
    return to;
}

uint64_t heap_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size)
{
    if (!alignment || (alignment & (alignment - 1))) {
        seam_set_errno(h->seam, EINVAL);
        return 0;
    }
    if (alignment <= HL_ALIGN)
        return heap_malloc(h, size);
    if (alignment >= h->mmap_threshold || size >= h->mmap_threshold)
        return large_malloc(h, alignment, size);
    return h->design->aligned_alloc(h, alignment, size);
}

uint64_t heap_grow(hl_heap *h, uint64_t need, uint64_t *grown)
{
    uint64_t page = seam_page_size(h->seam);
    uint64_t end = heap_load(h, h->root + HL_ROOT_END);
    uint64_t by = heap_round_up(need + h->top_pad, page);
    if (seam_sbrk(h->seam, 0) != end) { /* somebody else moved the break: what follows us is theirs */
        seam_set_errno(h->seam, ENOMEM);
        return 0;
    }
    if (seam_sbrk(h->seam, (int64_t)by) == SEAM_FAILED) {
        by = heap_round_up(need, page); /* without the luxury of the pad */
        if (seam_sbrk(h->seam, (int64_t)by) == SEAM_FAILED)
            return 0;
    }
    heap_store(h, h->root + HL_ROOT_END, end + by);
    *grown = by;
    return end;
}

int heap_shrink(hl_heap *h, uint64_t end)
{
    uint64_t old = heap_load(h, h->root + HL_ROOT_END);
    if (seam_sbrk(h->seam, 0) != old)
        return 0;
    if (seam_sbrk(h->seam, -(int64_t)(old - end)) == SEAM_FAILED)
        return 0;
    heap_store(h, h->root + HL_ROOT_END, end);
    return 1;
}
