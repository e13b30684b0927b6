/* What memlib.c tells of its heap: to the hooks where there are any. */
#ifndef HL_OUTSIDE_MEMORY_H
#define HL_OUTSIDE_MEMORY_H

#include <stdint.h>

#ifdef OUTSIDE_WATCHED
#include <sys/types.h>

#include "hooks.h"

/* The reserve of the heap is no memory of the allocator's yet. */
void *__real_mmap(void *at, size_t size, int rights, int flags, int file, off_t offset);
#define memory_reserve __real_mmap

/* Whether this growth of the heap is to be refused. */
static inline int memory_refused(void) { return ++the_watch->growths == the_watch->refuse; }

static inline void memory_grown(uintptr_t start, uintptr_t old, uintptr_t end)
{
    hooks_break(start, old, end);
}
#else
#define memory_reserve mmap
static inline int memory_refused(void) { return 0; }
static inline void memory_grown(uintptr_t start, uintptr_t old, uintptr_t end) { (void)start, (void)old, (void)end; }
#endif

#endif
