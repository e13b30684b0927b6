/* A design of one's own in C: free blocks stand in a list, the newest first.  The first that is large enough is taken,
 * and what is left of it goes back to the list.  Nothing is merged.
 *
 *   root -> +40  the first free block, or 0     | size, USED | payload      |     an allocated block
 *           +56  the first block                | size       | next |       |     a free block
 */
#include <errno.h>

#include "sources/brk.h"

enum { HEADER = 8, USED = 1, FREE = ROOT_DESIGN, FIRST = 56, ROOT_SIZE = FIRST + HEADER };

static uint64_t size_of(hl_heap *h, uint64_t block) { return heap_load(h, block) & ~15ull; }

static void push(hl_heap *h, uint64_t block, uint64_t size)
{
    heap_store(h, block, size);
    heap_store(h, block + HEADER, heap_load(h, h->root + FREE));
    heap_store(h, h->root + FREE, block);
}

static int lifo_create(hl_heap *h)
{
    uint64_t end = brk_begin(h, ROOT_SIZE), first = h->root + FIRST;
    if (!end)
        return 0;
    heap_store(h, h->root + FREE, 0);
    if (end - HEADER > first) /* the last 8 bytes wait for the header of what the heap grows by */
        push(h, first, end - HEADER - first);
    return 1;
}

static uint64_t lifo_malloc(hl_heap *h, uint64_t size, uint64_t alignment)
{
    uint64_t need = heap_round_up(size + HEADER, HEAP_ALIGN), most = need + alignment - HEAP_ALIGN;
    uint64_t link = h->root + FREE, block, have;
    if (size >= HEAP_ADDRESSES || alignment >= HEAP_ADDRESSES)
        return env_set_errno(h->env, ENOMEM), 0;
    while ((block = heap_load(h, link)) && (have = size_of(h, block)) < most)
        link = block + HEADER;
    if (block)
        heap_store(h, link, heap_load(h, block + HEADER));
    else if ((block = brk_grow(h, most, &have)))
        block -= HEADER;
    else
        return 0;
    uint64_t p = heap_round_up(block + HEADER, alignment), front = p - HEADER - block, rest = have - front - need;
    if (front)
        push(h, block, front);
    if (rest)
        push(h, p - HEADER + need, rest);
    heap_store(h, p - HEADER, need | USED);
    return p;
}

static void lifo_free(hl_heap *h, uint64_t p) { push(h, p - HEADER, size_of(h, p - HEADER)); }

static uint64_t lifo_usable(hl_heap *h, uint64_t p) { return size_of(h, p - HEADER) - HEADER; }

static int lifo_walk(hl_heap *h, uint64_t place[4], hl_span *out)
{
    uint64_t at = h->root + place[0], tail = brk_end(h) - HEADER;
    if (at > tail)
        return 0;
    if (at == h->root)
        *out = heap_metadata(at, FIRST);
    else if (at == tail)
        *out = heap_metadata(at, HEADER);
    else
        *out = (hl_span){.start = at, .size = size_of(h, at), .payload = at + HEADER,
                         .usable = size_of(h, at) - HEADER,
                         .state = heap_load(h, at) & USED ? HEAP_ALLOCATED : HEAP_FREE};
    place[0] += out->size;
    return 1;
}

static void lifo_check(hl_heap *h)
{
    uint64_t tail = brk_end(h) - HEADER, block, unlisted = 0;
    for (block = h->root + FIRST; block < tail; block += size_of(h, block))
        unlisted += !(heap_load(h, block) & USED);
    for (block = heap_load(h, h->root + FREE); block; block = heap_load(h, block + HEADER), unlisted--)
        if (!unlisted || heap_load(h, block) & USED)
            heap_corrupt(h, block + HEADER, HEAP_BROKEN_INDEX);
    if (unlisted)
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
}

static const hl_option options[] = {BRK_PAD_OPTION, {0}};

static const hl_design lifo = {
    .name = "lifo", .magic = 0x6f66696c, .smallest = 16, .options = options,
    .traits = HEAP_REUSES | HEAP_ANY_ORDER | HEAP_HEADERS | HEAP_CONTIGUOUS,
    .create = lifo_create, .malloc = lifo_malloc, .free = lifo_free, .usable = lifo_usable,
    .walk = lifo_walk, .check = lifo_check,
};
HEAP_DESIGN(lifo);
