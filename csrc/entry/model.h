/* What Python calls of the heap; model.c says how each call can fail. */
#ifndef HL_ENTRY_MODEL_H
#define HL_ENTRY_MODEL_H

#include "written.h"

/* The design number n, in no particular order; NULL after the last. */
const hl_design *hl_design_at(unsigned n);
/* The same design of these, compiled for the usual machine. */
const hl_design *hl_design_usual(const hl_design *design);
/* The first member that a design has to give and does not, or NULL. */
const char *hl_design_lacks(const hl_design *design);
/* The designs of a library, *n of them, which is ready to be used from now on (written.h). */
const hl_design *const *hl_designs_of(hl_written_fn library, uint64_t *n);
/* The text of the headers that the extension was compiled with, hashed (heaplab/_core/headers.py). */
extern const char hl_headers[];
/* The text of all of csrc that the extension was compiled with, hashed. */
extern const char hl_sources[];
/* The options of what designs share, sources and checks; the last one has no name. */
extern const hl_option hl_shared_options[];
/* Sets the parameter at this place (hl_option). */
void hl_heap_set(hl_heap *h, size_t place, uint64_t value);
int hl_heap_create(hl_heap *h);
/* Makes an hl_heap ready whose root and parameters are set: of a heap that stands already.
 * usual: its design, compiled for the usual machine; the heap takes it where that is what it runs on. */
void hl_heap_begin(hl_heap *h, const hl_design *usual);
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
