/* What hooks.c knows of the heap, for front.c and memlib.c: which memory the allocator has, and where live payloads lie. */
#ifndef HL_OUTSIDE_HOOKS_H
#define HL_OUTSIDE_HOOKS_H

#include <stddef.h>

#include "watch.h"

extern hl_watch *the_watch;
/* The allocator is at work on a request: its references are counted and judged. */
extern int watching;

/* Memory becomes the allocator's, or is no longer. */
void hooks_own(uintptr_t start, size_t size);
void hooks_disown(uintptr_t start, size_t size);
int hooks_owns(uintptr_t start, size_t size);

/* A heap that grows at its end has grown. */
void hooks_break(uintptr_t start, uintptr_t old, uintptr_t end);
/* Writes into the struct what this process has. */
void hooks_show(void);

/* The `size` bytes at `p` begin or cease to be a live payload. */
void hooks_mark(uintptr_t p, size_t size, int live);
/* The first of these bytes that belongs to a live payload; 0: none. */
uintptr_t hooks_taken(uintptr_t p, size_t size);

/* Notes what is wrong, unless something was before, and lets the request go on. */
void hooks_note(int why, uintptr_t address, size_t width);
/* Ends the pass if something was noted. */
void hooks_verdict(void);

#endif
