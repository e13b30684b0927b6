/* Large blocks: a mapping each, known by a table.
 *
 *   base = payload                                     base + length
 *   |                                                       |
 *   +-------------------------------------------------------+
 *   | payload                                               |     (an alignment above a page moves it up)
 *   +-------------------------------------------------------+
 *
 *   root -> +16 table     the address of the table, in a mapping of its own, and in the low 6 bits k: it has 2^k
 *                         slots; 0: no table yet
 *           +24 count     slots in use: at most half of them
 *           +32 threshold requests from here on are large, when the threshold is dynamic
 *
 *   slot    | payload, 0: free | base | length | seal |
 *
 * No word of a large block's metadata stands beside its payload, and a pointer is looked up without being
 * followed: free costs O(1), and no foreign pointer gets through.  The table is hashed by page, with linear
 * probing (Knuth, TAOCP vol. 3, 6.4, algorithms L and R).
 *
 * The dynamic threshold is glibc's (malloc/malloc.c, __libc_free): when a large block is freed, requests below
 * its size are small from then on, up to 32 MiB; a program that often frees what it maps shall not map it.
 *
 * heaplab/allocators/sources/large.py is the twin.
 */
#ifndef HL_LARGE_H
#define HL_LARGE_H

#include "../heap/heap.h"

#define LARGE_DYNAMIC UINT64_MAX
#define LARGE_LEAST ((uint64_t)128 << 10)  /* where the dynamic threshold begins */
#define LARGE_HIGHEST ((uint64_t)32 << 20) /* and where it ends */

enum { LARGE_TABLE = ROOT_LARGE, LARGE_COUNT = ROOT_LARGE + 8, LARGE_THRESHOLD = ROOT_LARGE + 16 };

#define LARGE_OPTIONS                                                                                         \
    HEAP_BYTES(mmap_threshold, "mmap_threshold", "dynamic", "dynamic", INT64_MAX,                             \
               "requests from here on get a mapping of their own")

/* Writes the root's words of an empty heap. */
static inline void large_begin(hl_heap *h)
{
    heap_store(h, h->root + LARGE_TABLE, 0);
    heap_store(h, h->root + LARGE_COUNT, 0);
    heap_store(h, h->root + LARGE_THRESHOLD, LARGE_LEAST);
}

/* Whether a request of `size` bytes is large.  Below the least threshold that costs no reference. */
static inline int large_serves(hl_heap *h, uint64_t size)
{
    if (heap_spec(h)->mmap_threshold != LARGE_DYNAMIC)
        return size >= heap_spec(h)->mmap_threshold;
    return size >= LARGE_LEAST && size >= heap_load(h, h->root + LARGE_THRESHOLD);
}

/* The payload's address, zeroed; 0 with errno. */
uint64_t large_malloc(hl_heap *h, uint64_t size, uint64_t alignment);
/* These call heap_corrupt when p is no large block. */
void large_free(hl_heap *h, uint64_t p);
uint64_t large_usable(hl_heap *h, uint64_t p);
/* Shrinks by giving the pages behind the new end back; grows only into the rest of the last page. */
int large_resize(hl_heap *h, uint64_t p, uint64_t size);
/* The table, when *n is 0, then each block; moves *n on: 1, or 0 after the last. */
int large_walk(hl_heap *h, uint64_t *n, hl_span *out);
void large_check(hl_heap *h);

#endif
