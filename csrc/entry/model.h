/* What Python calls of the heap; model.c says how each call can fail. */
#ifndef HL_ENTRY_MODEL_H
#define HL_ENTRY_MODEL_H

#include "../heap/heap.h"

/* The design number n, in no particular order; NULL after the last. */
const hl_design *hl_design_at(unsigned n);
/* The options of what designs share, sources and checks; the last one has no name. */
extern const hl_option hl_shared_options[];
/* Sets the parameter at this place (hl_option). */
void hl_heap_set(hl_heap *h, size_t place, uint64_t value);
int hl_heap_create(hl_heap *h);
/* Makes an hl_heap ready whose root and parameters are set: of a heap that stands already. */
void hl_heap_begin(hl_heap *h);
uint64_t hl_heap_malloc(hl_heap *h, uint64_t size);
int hl_heap_free(hl_heap *h, uint64_t p);
uint64_t hl_heap_calloc(hl_heap *h, uint64_t n, uint64_t size);
uint64_t hl_heap_realloc(hl_heap *h, uint64_t p, uint64_t size);
uint64_t hl_heap_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size);
uint64_t hl_heap_usable_size(hl_heap *h, uint64_t p);
int hl_heap_thread_exit(hl_heap *h, unsigned thread);
int64_t hl_heap_walk(hl_heap *h, hl_cursor *cursor, hl_span *out, uint64_t capacity);
int hl_heap_check(hl_heap *h);

#endif
