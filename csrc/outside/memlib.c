/* The heap of a course's mm.c: one reserve, whose beginning can be read and written.
 *
 * It lies below 2 GiB: many an mm.c keeps an address in an int, since its course compiles for 32 bits.
 */
#define _GNU_SOURCE
#include "first/memlib.h"

#include <errno.h>
#include <sys/mman.h>

#include "memory.h"

#define RESERVE_START 0x10000000u
#define RESERVE_END 0x7ff00000u
#define PAGE 4096u

static uintptr_t start, end, writable;

void mem_init(void)
{
    if (start)
        return;
    void *at = (void *)(uintptr_t)RESERVE_START;
    void *got = memory_reserve(at, RESERVE_END - RESERVE_START, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == at)
        start = end = writable = RESERVE_START;
}

void mem_deinit(void) {}

/* A driver's, between its traces; here each trace has a process of its own. */
void mem_reset_brk(void) {}

void *mem_sbrk(intptr_t increment)
{
    mem_init();
    int is_refused = memory_refused();
    if (!start || increment < 0 || (uintptr_t)increment > RESERVE_END - end || is_refused) {
        errno = ENOMEM;
        return (void *)-1;
    }
    uintptr_t old = end, wanted = (end + (uintptr_t)increment + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    if (wanted > writable) {
        if (mprotect((void *)writable, wanted - writable, PROT_READ | PROT_WRITE) < 0) {
            errno = ENOMEM;
            return (void *)-1;
        }
        writable = wanted;
    }
    end += (uintptr_t)increment;
    memory_grown(start, old, end);
    return (void *)old;
}

void *mem_heap_lo(void) { return (void *)start; }
void *mem_heap_hi(void) { return (void *)(end - 1); }
size_t mem_heapsize(void) { return end - start; }
size_t mem_pagesize(void) { return PAGE; }
