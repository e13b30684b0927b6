/* Memory for a design's own use: mappings that stay, and a book of them, so that a walk finds each.
 *
 *   base -> +0   page      the page of the book that is being written; the first one stands at +16
 *           +8   entries   of this page
 *           +16  | 0          | address | length | address | length | ...     the first page, of BOOK_FIRST
 *   page    +0   | page before | address | length | ...                         a mapping of its own
 *
 * heaplab/allocators/sources/book.py is the twin.
 */
#ifndef HL_BOOK_H
#define HL_BOOK_H

#include "../heap/heap.h"

enum { BOOK_PAGE = 0, BOOK_ENTRIES = 8, BOOK_START = 16, BOOK_FIRST = 7 };
enum { BOOK_BEFORE = 0, BOOK_ROWS = 8, BOOK_ROW = 16 };
enum { BOOK_BYTES = BOOK_START + BOOK_ROWS + BOOK_FIRST * BOOK_ROW };

/* Writes the words of an empty book over zeros. */
static inline void book_begin(hl_heap *h, uint64_t base)
{
    heap_store(h, base + BOOK_PAGE, base + BOOK_START);
}

/* Maps `bytes`, a multiple of the page size: their address, zeroed; 0 with errno. */
uint64_t book_map(hl_heap *h, uint64_t base, uint64_t bytes);
/* Whether a mapping of the book starts at this address. */
int book_has(hl_heap *h, uint64_t base, uint64_t address);
/* The next mapping; *page and *left start with zeros: 1, or 0 after the last. */
int book_walk(hl_heap *h, uint64_t base, uint64_t *page, uint64_t *left, hl_span *out);

#endif
