/* book.h says what the book is. */
#include "book.h"

static uint64_t capacity_of(hl_heap *h, uint64_t base, uint64_t page)
{
    return page == base + BOOK_START ? BOOK_FIRST : (env_page_size(h->env) - BOOK_ROWS) / BOOK_ROW;
}

static uint64_t row_at(uint64_t page, uint64_t n) { return page + BOOK_ROWS + BOOK_ROW * n; }

uint64_t book_map(hl_heap *h, uint64_t base, uint64_t bytes)
{
    uint64_t page = heap_load(h, base + BOOK_PAGE), n = heap_load(h, base + BOOK_ENTRIES), at;
    if (n == capacity_of(h, base, page)) {
        at = env_map(h->env, env_page_size(h->env));
        if (at == ENV_FAILED)
            return 0;
        heap_store(h, at + BOOK_BEFORE, page);
        heap_store(h, base + BOOK_PAGE, at);
        heap_store(h, base + BOOK_ENTRIES, 0);
        page = at, n = 0;
    }
    at = env_map(h->env, bytes);
    if (at == ENV_FAILED)
        return 0;
    heap_store(h, row_at(page, n), at);
    heap_store(h, row_at(page, n) + 8, bytes);
    heap_store(h, base + BOOK_ENTRIES, n + 1);
    return at;
}

int book_has(hl_heap *h, uint64_t base, uint64_t address)
{
    uint64_t page = heap_load(h, base + BOOK_PAGE), n = heap_load(h, base + BOOK_ENTRIES);
    for (;;) {
        while (n--)
            if (heap_load(h, row_at(page, n)) == address)
                return 1;
        page = heap_load(h, page + BOOK_BEFORE);
        if (!page)
            return 0;
        n = capacity_of(h, base, page);
    }
}

/* *page: the page that the walk is in, *left: entries before the walk's place, plus 1. */
int book_walk(hl_heap *h, uint64_t base, uint64_t *page, uint64_t *left, hl_span *out)
{
    if (!*page) {
        *page = heap_load(h, base + BOOK_PAGE);
        *left = heap_load(h, base + BOOK_ENTRIES) + 1;
    }
    if (*left == 1) { /* the page itself, unless it is the first: this is the root's */
        uint64_t at = *page;
        if (at == base + BOOK_START)
            return 0;
        *page = heap_load(h, at + BOOK_BEFORE);
        *left = capacity_of(h, base, *page) + 1;
        *out = heap_metadata(at, env_page_size(h->env));
        return 1;
    }
    --*left;
    uint64_t row = row_at(*page, *left - 1), start = heap_load(h, row);
    *out = heap_metadata(start, heap_load(h, row + 8));
    return 1;
}
