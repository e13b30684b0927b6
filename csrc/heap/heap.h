/* What all designs share: the root, the contract, large blocks, and growth by brk.
 *
 *   root -> +0   magic         which design, so that attaching to something else is noticed
 *           +8   end           the break as the heap knows it: end of its part of the address space
 *           +16  large         the first large block's payload, 0 when there is none
 *           +24  ...           the design's own
 *
 * The root stands where the break was when the heap was created.  All state lives in simulated memory:
 * an hl_heap holds the seam, the root's address and the parameters of the spec, nothing that changes.
 * heaplab/allocators/base.py and large.py are the twins of this file, heap.c and large.c: same loads,
 * same stores, in the same order.
 */
#ifndef HL_HEAP_H
#define HL_HEAP_H

#include <stdint.h>

#include "../seam/seam.h"

#define HL_ALIGN 16u
#define HL_MOST ((uint64_t)INT64_MAX) /* the largest request: PTRDIFF_MAX, as in glibc */

enum { HL_ROOT_MAGIC = 0, HL_ROOT_END = 8, HL_ROOT_LARGE = 16, HL_ROOT_DESIGN = 24 };

/* Rules that a pointer or block can break: heaplab/errors.py has the sentences. */
enum {
    HL_DOUBLE_FREE = 1,
    HL_FOREIGN_POINTER,
    HL_BROKEN_HEADER,
    HL_BROKEN_FOOTER,
    HL_BROKEN_LINK,
    HL_BROKEN_INDEX,
    HL_BROKEN_ROOT,
    HL_UNCOALESCED
};

enum { HL_BLOCK_FREE = 0, HL_BLOCK_ALLOCATED, HL_BLOCK_LARGE };

/* One step of a walk. */
typedef struct hl_block {
    uint64_t address; /* of the payload, or where it would be */
    uint64_t size;    /* of the whole block, metadata included */
    uint64_t usable;  /* bytes of payload it has room for */
    int state;
} hl_block;

struct hl_design;

typedef struct hl_heap {
    seam *seam;
    uint64_t root;
    const struct hl_design *design;
    /* parameters of every spec, in bytes */
    uint64_t mmap_threshold; /* requests from here on get a mapping of their own */
    uint64_t trim_threshold; /* a free end of the heap from here on is given back */
    uint64_t top_pad;        /* asked for beyond what a growth needs, kept when trimming */
    uint64_t option[4];      /* the design's own, in the order of its OPTIONS in Python */
    /* set by heap_corrupt */
    uint64_t corrupt_address;
    int corrupt_rule;
} hl_heap;

/* A design serves requests below the threshold, between root and end. */
typedef struct hl_design {
    const char *name;
    uint64_t magic;
    uint64_t root_size; /* bytes of the root, a multiple of 16: the shared words and the design's own */
    /* Builds the design's part of the root and the first blocks: the shared words stand, and
     * [root + root_size, end) is the design's.  1, or 0 with errno when the kernel gives no more memory. */
    int (*init)(hl_heap *h, uint64_t end);
    /* The payload's address, or 0 with errno set when the kernel gives no memory. */
    uint64_t (*malloc)(hl_heap *h, uint64_t size);
    /* The same for an alignment above HL_ALIGN, a power of two; both are below mmap_threshold. */
    uint64_t (*aligned_alloc)(hl_heap *h, uint64_t alignment, uint64_t size);
    /* Verifies that p is an allocated block of the design's, or calls heap_corrupt. */
    void (*free)(hl_heap *h, uint64_t p);
    uint64_t (*usable_size)(hl_heap *h, uint64_t p);
    /* Makes room for `size` bytes at p itself: 1, or 0 when it has to move (nothing changed). */
    int (*resize)(hl_heap *h, uint64_t p, uint64_t size);
    /* The block at *cursor (0: the first), in address order; moves the cursor on.  0 after the last. */
    int (*next)(hl_heap *h, uint64_t *cursor, hl_block *out);
    /* Every rule of the design, or heap_corrupt. */
    void (*check)(hl_heap *h);
} hl_design;

extern const hl_design hl_freelist;
extern const hl_design hl_buddy;
extern const hl_design hl_binheap;
extern const hl_design hl_rbtree;

/* ---- the contract (heap.c), called with an escape set ---- */

uint64_t heap_malloc(hl_heap *h, uint64_t size);
void heap_free(hl_heap *h, uint64_t p);
uint64_t heap_calloc(hl_heap *h, uint64_t n, uint64_t size);
uint64_t heap_realloc(hl_heap *h, uint64_t p, uint64_t size);
uint64_t heap_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size);
uint64_t heap_usable_size(hl_heap *h, uint64_t p);

/* ---- for the designs (heap.c) ---- */

_Noreturn void heap_corrupt(hl_heap *h, uint64_t address, int rule);

static inline uint64_t heap_load(hl_heap *h, uint64_t address) { return seam_load(h->seam, address); }

static inline void heap_store(hl_heap *h, uint64_t address, uint64_t value)
{
    seam_store(h->seam, address, value);
}

static inline uint64_t heap_round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) & ~(unit - 1); }

/* Moves the break up by at least `need` bytes: top_pad is added, and the rest of the page.  The old end,
 * and in *grown by how much; 0 with errno when the kernel refuses.  The root knows the new end. */
uint64_t heap_grow(hl_heap *h, uint64_t need, uint64_t *grown);
/* Moves the break down to `end`, a multiple of the page size: 1, or 0 when somebody else has moved it. */
int heap_shrink(hl_heap *h, uint64_t end);

/* ---- large blocks (large.c) ---- */

uint64_t large_malloc(hl_heap *h, uint64_t alignment, uint64_t size);
void large_free(hl_heap *h, uint64_t p);
uint64_t large_usable_size(hl_heap *h, uint64_t p);
int large_resize(hl_heap *h, uint64_t p, uint64_t size);
/* The large block after payload *p (0: the first); 0 after the last. */
int large_next(hl_heap *h, uint64_t *p, hl_block *out);
void large_check(hl_heap *h);

#endif
