/* What is seen of an allocator from outside while it plays a trace: one struct, in the file of the player.
 *
 * The allocator's code is compiled with a hook at each load and store (hooks.c).  Its library (front.c) finds the
 * struct through `heaplab_watch`, which the player calls before the first event.
 */
#ifndef HL_OUTSIDE_WATCH_H
#define HL_OUTSIDE_WATCH_H

#include <stdint.h>

/* What ended the pass. */
enum {
    HL_WATCH_NOTHING = 0,
    HL_WATCH_NO_END,     /* it made more than `most` references */
    HL_WATCH_PAYLOAD,    /* a store into a live block's payload */
    HL_WATCH_STORE,      /* a store where the allocator has no memory */
    HL_WATCH_LOAD,       /* a load behind the heap's end */
    HL_WATCH_INIT,       /* mm_init says that it failed */
    HL_WATCH_SKEWED,     /* the block at `result` is not a multiple of `align` */
    HL_WATCH_NOT_THERE,  /* the block at `result`, of `width` bytes, is not memory of the allocator's */
    HL_WATCH_OVERLAP,    /* the block at `result`, of `width` bytes, has a byte of a live one, at `address` */
    HL_WATCH_NO_REALLOC, /* it has no realloc */
    HL_WATCH_CHECKHEAP,  /* mm_checkheap says other than of the empty heap */
    HL_WATCH_EXIT        /* it calls exit with the status `address` */
};

typedef struct hl_watch {
    /* set by Python */
    uint64_t most;       /* references that the allocator may make in all */
    uint64_t refuse;     /* the growth of the heap with this number is refused; 0: none */
    uint64_t align;      /* what every block is a multiple of */
    uint32_t checks;     /* mm_checkheap is called after each request */
    /* set by the player */
    uint32_t counting;   /* a request of the trace is being carried out */
    uint64_t subject_size; /* of the block that the request frees or resizes */
    /* set by the library */
    uint32_t why;        /* HL_WATCH_... */
    uint64_t mems;       /* references so far: loads and stores of up to 8 bytes, those of the stack left out */
    uint64_t bulk;       /* units that memcpy and its kin took of the limit: 1 and 1 for each 4096 bytes */
    uint64_t halves;     /* references of 8 bytes that lie at an odd multiple of 4 */
    uint64_t growths;    /* how often memory was asked for: mem_sbrk; sbrk, brk and mmap */
    uint64_t heap;       /* bytes, of the process that ran last */
    uint64_t heap_start; /* where they are, if in one piece: the heap of mem_sbrk */
    uint64_t site;       /* of the latest reference: bytes behind the beginning of the library */
    uint64_t address;    /* of the reference that ended the pass, or as above; */
    uint64_t width;      /* its bytes */
    uint64_t result;     /* the block that the request at hand has given; */
    uint64_t subject;    /* the one that it frees or resizes */
} hl_watch;

#endif
