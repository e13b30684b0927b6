/* What Python calls of the heap; entry.c says how each call can fail. */
#ifndef HL_HEAP_ENTRY_H
#define HL_HEAP_ENTRY_H

#include "heap.h"

int hl_heap_design(hl_heap *h, const char *name);
int hl_heap_create(hl_heap *h);
int hl_heap_attach(hl_heap *h);
uint64_t hl_heap_malloc(hl_heap *h, uint64_t size);
int hl_heap_free(hl_heap *h, uint64_t p);
uint64_t hl_heap_calloc(hl_heap *h, uint64_t n, uint64_t size);
uint64_t hl_heap_realloc(hl_heap *h, uint64_t p, uint64_t size);
uint64_t hl_heap_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size);
uint64_t hl_heap_usable_size(hl_heap *h, uint64_t p);
int64_t hl_heap_walk(hl_heap *h, uint64_t *cursor, hl_block *out, uint64_t capacity);
int hl_heap_check(hl_heap *h);

#endif
