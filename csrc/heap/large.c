/* Large blocks: a mapping each, in a doubly linked list.
 *
 *   base                 payload: base + 32, or the next multiple of the alignment
 *   |                    |
 *   +-----...-----+------+------+------+------+---------...--------+
 *   |  (padding)  | base |length| next | prev | payload            |
 *   +-----...-----+------+------+------+------+---------...--------+
 *                 -32    -24    -16    -8     0                    base + length
 *
 * next and prev are payload addresses, 0 at the ends.  A pointer is known to be large only by being in
 * the list: to free one costs a walk over the large blocks alive, and no foreign pointer gets through.
 */
#include <errno.h>

#include "heap.h"

enum { HEADER = 32, BASE = 32, LENGTH = 24, NEXT = 16, PREV = 8 };

static void demand(hl_heap *h, uint64_t p)
{
    uint64_t q = heap_load(h, h->root + HL_ROOT_LARGE);
    while (q && q != p)
        q = heap_load(h, q - NEXT);
    if (!q)
        heap_corrupt(h, p, HL_FOREIGN_POINTER);
}

uint64_t large_malloc(hl_heap *h, uint64_t alignment, uint64_t size)
{
    uint64_t page = seam_page_size(h->seam);
    uint64_t room = HL_MOST - HEADER - page; /* so that no sum below wraps around */
    uint64_t padding = alignment > HL_ALIGN ? alignment : 0;
    if (size > room || padding > room - size) {
        seam_set_errno(h->seam, ENOMEM);
        return 0;
    }
    uint64_t length = heap_round_up(HEADER + padding + size, page);
    uint64_t base = seam_mmap(h->seam, length);
    if (base == SEAM_FAILED)
        return 0;
    uint64_t p = heap_round_up(base + HEADER, alignment);
    uint64_t first = heap_load(h, h->root + HL_ROOT_LARGE);
    heap_store(h, p - BASE, base);
    heap_store(h, p - LENGTH, length);
    heap_store(h, p - NEXT, first);
    heap_store(h, p - PREV, 0);
    if (first)
        heap_store(h, first - PREV, p);
    heap_store(h, h->root + HL_ROOT_LARGE, p);
    return p;
}

void large_free(hl_heap *h, uint64_t p)
{
    demand(h, p);
    uint64_t base = heap_load(h, p - BASE), length = heap_load(h, p - LENGTH);
    uint64_t next = heap_load(h, p - NEXT), prev = heap_load(h, p - PREV);
    if (next)
        heap_store(h, next - PREV, prev);
    heap_store(h, prev ? prev - NEXT : h->root + HL_ROOT_LARGE, next);
    seam_munmap(h->seam, base, length);
}

uint64_t large_usable_size(hl_heap *h, uint64_t p)
{
    demand(h, p);
    return heap_load(h, p - BASE) + heap_load(h, p - LENGTH) - p;
}

/* Shrinks by giving the pages behind the new end back; grows only into the rest of the last page. */
int large_resize(hl_heap *h, uint64_t p, uint64_t size)
{
    demand(h, p);
    uint64_t base = heap_load(h, p - BASE), length = heap_load(h, p - LENGTH);
    if (size > base + length - p)
        return 0;
    uint64_t needed = heap_round_up(p - base + size, seam_page_size(h->seam));
    if (needed < length) {
        seam_munmap(h->seam, base + needed, length - needed);
        heap_store(h, p - LENGTH, needed);
    }
    return 1;
}

int large_next(hl_heap *h, uint64_t *p, hl_block *out)
{
    *p = heap_load(h, *p ? *p - NEXT : h->root + HL_ROOT_LARGE);
    if (!*p)
        return 0;
    uint64_t base = heap_load(h, *p - BASE);
    out->address = *p;
    out->size = heap_load(h, *p - LENGTH);
    out->usable = base + out->size - *p;
    out->state = HL_BLOCK_LARGE;
    return 1;
}

void large_check(hl_heap *h)
{
    uint64_t page = seam_page_size(h->seam);
    uint64_t prev = 0, p = heap_load(h, h->root + HL_ROOT_LARGE);
    for (; p; prev = p, p = heap_load(h, p - NEXT)) {
        uint64_t base = heap_load(h, p - BASE), length = heap_load(h, p - LENGTH);
        if (base % page || length % page || p < base + HEADER || p >= base + length)
            heap_corrupt(h, p, HL_BROKEN_HEADER);
        if (heap_load(h, p - PREV) != prev)
            heap_corrupt(h, p, HL_BROKEN_LINK);
    }
}
