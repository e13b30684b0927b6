/* The memory of a course's mm.c: a heap that grows at its end, and never shrinks.  heaplab puts this file before any of
 * the same name. */
#ifndef HEAPLAB_MEMLIB_H
#define HEAPLAB_MEMLIB_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

void mem_init(void);
void mem_deinit(void);
void mem_reset_brk(void);
void *mem_sbrk(intptr_t increment); /* the old end of the heap; (void *)-1 and ENOMEM when there is no more */
void *mem_heap_lo(void);            /* the first byte, */
void *mem_heap_hi(void);            /* the last one */
size_t mem_heapsize(void);
size_t mem_pagesize(void);

/* later courses have these, for drivers that watch them; here the C library's own are watched */
#define mem_memcpy memcpy
#define mem_memset memset

#endif
