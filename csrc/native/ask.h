/* One call of the allocator, whatever library it is. */
#ifndef HL_NATIVE_ASK_H
#define HL_NATIVE_ASK_H

#include <malloc.h>
#include <stdlib.h>

#include "ground.h"

/* An aligned block, by the function that the library has; NULL when there is no memory. */
static inline void *ask_aligned(uint64_t align, uint64_t size)
{
    void *p = NULL;
    switch (player->aligned) {
    case HL_BY_MEMALIGN:
        return memalign(align, size);
    case HL_BY_POSIX_MEMALIGN:
        return posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size) ? NULL : p;
    case HL_BY_ALIGNED_ALLOC:
        return aligned_alloc(align, size);
    default:
        play_fail(HL_PLAY_NO_ALIGNED);
    }
}

/* Op of events.h on the block at p (NULL where there is none). */
static inline void *ask(int op, void *p, uint64_t size, uint64_t align)
{
    switch (op) {
    case HL_OP_MALLOC:
        return malloc(size);
    case HL_OP_CALLOC:
        return calloc(1, size);
    case HL_OP_REALLOC:
        return realloc(p, size);
    case HL_OP_ALIGNED:
        return ask_aligned(align, size);
    default:
        free(p);
        return NULL;
    }
}

#endif
