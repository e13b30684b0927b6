/* The reference that `heaplab grade` holds submissions against: an mm.c such as a good student's first one.
 *
 *   | 1 | tag payload tag | tag next prev ... tag | 1 |        the heap: blocks in a row, allocated and free
 *
 * A tag is its block's size, in bytes with both tags, and 1 if the block is allocated.  The first and the last word
 * are tags of blocks that are not there, so that every block has neighbours.  Free blocks are in one list, the youngest
 * first, and the first that fits is taken.  Free neighbours are merged at once.
 *
 * Its mems per operation are a measure: whoever changes them changes marks. */
#include "memlib.h"
#include "mm.h"

#include <stdint.h>
#include <string.h>

typedef uint64_t word;
typedef struct block {
    word tag;
    struct block *next, *prev; /* of a free block; payload otherwise */
} block;

#define WORD sizeof(word)
#define ALIGN 16
#define SMALLEST 32 /* two tags, two links */

static block *free_list;

/* ---- accessors ---- */

static word size_of(const block *b) { return b->tag & ~(word)1; }
static block *after(block *b) { return (block *)((char *)b + size_of(b)); }
static word tag_before(const block *b) { return ((const word *)b)[-1]; }
static block *before(block *b) { return (block *)((char *)b - tag_before(b)); } /* if that is free */
static block *block_of(void *payload) { return (block *)((char *)payload - WORD); }
static void *payload_of(block *b) { return (char *)b + WORD; }

static void set(block *b, word size, word allocated)
{
    b->tag = size | allocated;
    ((word *)((char *)b + size))[-1] = size | allocated;
}

/* ---- the list ---- */

static void insert(block *b)
{
    b->prev = NULL;
    b->next = free_list;
    if (free_list)
        free_list->prev = b;
    free_list = b;
}

static void take_out(block *b)
{
    if (b->prev)
        b->prev->next = b->next;
    else
        free_list = b->next;
    if (b->next)
        b->next->prev = b->prev;
}

/* ---- verbs ---- */

/* Makes one free block of the bytes from `b` on, `size` of them, and of free neighbours; returns it. */
static block *release(block *b, word size)
{
    block *next = (block *)((char *)b + size);
    if (!(next->tag & 1)) {
        take_out(next);
        size += size_of(next);
    }
    if (!(tag_before(b) & 1)) {
        b = before(b);
        take_out(b);
        size += size_of(b);
    }
    set(b, size, 0);
    insert(b);
    return b;
}

/* Makes the heap larger, by what the free block at its end lacks; returns that block, NULL without memory. */
static block *grow(word size)
{
    block *end = (block *)((char *)mem_heap_hi() + 1 - WORD);
    word there = tag_before(end);
    if (!(there & 1))
        size -= there;
    if (mem_sbrk((intptr_t)size) == (void *)-1)
        return NULL;
    ((block *)((char *)end + size))->tag = 1;
    return release(end, size);
}

/* Allocates the first `size` bytes of the free block `b`; the rest stays free if it can be a block. */
static void *take(block *b, word size)
{
    word whole = size_of(b);
    take_out(b);
    if (whole - size < SMALLEST) {
        set(b, whole, 1);
    } else {
        set(b, size, 1);
        block *rest = after(b);
        set(rest, whole - size, 0);
        insert(rest);
    }
    return payload_of(b);
}

static word size_for(size_t payload)
{
    word size = (payload + 2 * WORD + ALIGN - 1) & ~(word)(ALIGN - 1);
    return size < SMALLEST ? SMALLEST : size;
}

/* ---- what the course asks for ---- */

int mm_init(void)
{
    word *ends = mem_sbrk(2 * WORD);
    if (ends == (void *)-1)
        return -1;
    ends[0] = ends[1] = 1;
    free_list = NULL;
    return 0;
}

void *mm_malloc(size_t payload)
{
    if (payload == 0 || payload > SIZE_MAX / 4)
        return NULL;
    word size = size_for(payload);
    block *b = free_list;
    while (b && size_of(b) < size)
        b = b->next;
    if (!b)
        b = grow(size);
    return b ? take(b, size) : NULL;
}

void mm_free(void *payload)
{
    if (payload)
        release(block_of(payload), size_of(block_of(payload)));
}

void *mm_realloc(void *payload, size_t wanted)
{
    if (!payload)
        return mm_malloc(wanted);
    if (!wanted) {
        mm_free(payload);
        return NULL;
    }
    word has = size_of(block_of(payload));
    if (wanted <= has - 2 * WORD)
        return payload;
    void *moved = mm_malloc(wanted);
    if (!moved)
        return NULL;
    memcpy(moved, payload, has - 2 * WORD);
    mm_free(payload);
    return moved;
}
