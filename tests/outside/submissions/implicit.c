/* A heap of blocks in a row, as textbooks draw it, and what goes wrong with it in a course.
 *
 *   | 1 | tag ... payload ... tag | tag ... payload ... tag | 1 |
 *
 * A tag is the size of its block, in bytes with both tags, and 1 if the block is allocated.  The first word is the last
 * tag of a block that is not there, the last word the first tag of another.  The files beside this one define what
 * they do otherwise and include this one. */
#include "memlib.h"
#include "mm.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t word;
typedef struct block {
    word tag;
    struct block *next, *prev; /* free blocks of EXPLICIT_LIST; payload otherwise */
} block;

#ifdef MISALIGNED
#define ALIGNMENT 8
#else
#define ALIGNMENT 16
#endif
#define WORD sizeof(word)
#define SMALLEST 32

static block *first;     /* the first block, or the last word */
static block *rover;     /* NEXT_FIT: where the next search begins */
static block *free_list; /* EXPLICIT_LIST */

/* ---- accessors ---- */

static word size_of(const block *b) { return b->tag & ~(word)7; }
static bool is_allocated(const block *b) { return b->tag & 1; }
static word *last_tag(block *b) { return (word *)((char *)b + size_of(b) - WORD); }
static block *after(block *b) { return (block *)((char *)b + size_of(b)); }
static word tag_before(block *b) { return ((word *)b)[-1]; }
static block *before(block *b) { return (block *)((char *)b - (tag_before(b) & ~(word)7)); }
static void *payload(block *b) { return (char *)b + WORD; }
static block *block_of(void *p) { return (block *)((char *)p - WORD); }

static void set(block *b, word size, bool allocated)
{
    b->tag = size | allocated;
    *last_tag(b) = b->tag;
}

/* The size of a block with room for `size` bytes. */
static word needed(word size)
{
#ifdef OVERFLOW /* its tags are forgotten */
    word all = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
#else
    word all = (size + 2 * WORD + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
#endif
    return all < SMALLEST ? SMALLEST : all;
}

/* ---- the list of free blocks, the youngest first ---- */

static void put_in(block *b)
{
#ifdef EXPLICIT_LIST
    b->next = free_list;
#ifndef WILD_POINTER /* where the payload was, anything may stand */
    b->prev = NULL;
#endif
    if (free_list)
        free_list->prev = b;
    free_list = b;
#endif
}

static void take_out(block *b)
{
#ifdef EXPLICIT_LIST
    if (b->prev)
        b->prev->next = b->next;
    else
        free_list = b->next;
    if (b->next)
        b->next->prev = b->prev;
#endif
}

/* ---- verbs ---- */

/* Make one free block of `b` and its free neighbours, and return it. */
static block *merge(block *b)
{
    word size = size_of(b);
    block *next = after(b), *start = b;
#ifdef NEVER_MERGES
    set(b, size, false);
    put_in(b);
    return b;
#endif
#ifdef ENCLOSES /* a neighbour is taken to be free */
    size += size_of(next);
#else
    if (!is_allocated(next)) {
        take_out(next);
        size += size_of(next);
    }
#endif
    if (!(tag_before(b) & 1)) {
        start = before(b);
        take_out(start);
        size += size_of(start);
    }
#ifdef MISSING_MERGE /* the tag at the beginning goes on saying the smaller size */
    *(word *)((char *)start + size - WORD) = size;
#else
    set(start, size, false);
#endif
    if (rover > start && (char *)rover < (char *)start + size)
        rover = start;
    put_in(start);
    return start;
}

static block *grow(word size)
{
    void *more = mem_sbrk((intptr_t)size);
    if (more == (void *)-1)
        return NULL;
    block *b = (block *)((char *)more - WORD); /* what was the last word */
    set(b, size, false);
    after(b)->tag = 1;
    return merge(b);
}

static bool fits(block *b, word size) { return !is_allocated(b) && size_of(b) >= size; }

static block *find(word size)
{
    block *b;
#if defined EXPLICIT_LIST
    for (b = free_list; b; b = b->next)
        if (fits(b, size))
            return b;
#elif defined ENDLESS_LOOP /* nobody notices that the search is where it began */
    if (!size_of(first))
        return NULL;
    for (b = rover; !fits(b, size);)
        b = size_of(after(b)) ? after(b) : first;
    return rover = b;
#elif defined NEXT_FIT
    for (b = rover; size_of(b); b = after(b))
        if (fits(b, size))
            return rover = b;
    for (b = first; b != rover; b = after(b))
        if (fits(b, size))
            return rover = b;
#else
    for (b = first; size_of(b); b = after(b))
        if (fits(b, size))
            return b;
#endif
    return NULL;
}

static void *place(block *b, word size)
{
    take_out(b);
    word rest = size_of(b) - size;
    if (rest < SMALLEST) {
        set(b, size_of(b), true);
        return payload(b);
    }
    set(b, size, true);
#ifdef WRONG_SPLIT /* the rest ends in the next block */
    rest += 2 * WORD;
#endif
    set(after(b), rest, false);
    put_in(after(b));
    return payload(b);
}

/* ---- what the course asks for ---- */

int mm_init(void)
{
    word *start = mem_sbrk(2 * WORD);
    if (start == (void *)-1)
        return -1;
    start[0] = start[1] = 1;
    first = rover = (block *)(start + 1);
    free_list = NULL;
    return 0;
}

void *mm_malloc(size_t bytes)
{
    if (bytes == 0 || bytes > SIZE_MAX / 2)
        return NULL;
    word size = needed(bytes);
    block *b = find(size);
#ifdef CHATTERS /* a line that somebody forgot */
    for (int i = 0; i < 100; i++)
        printf("malloc %zu: found %p of %d blocks with the tag %d\n", bytes, (void *)b, 100, i);
#endif
#ifndef CRASHES /* when nothing fits */
    if (!b)
        b = grow(size);
    if (!b)
        return NULL;
#endif
    return place(b, size);
}

void mm_free(void *p)
{
    if (!p)
        return;
    block *b = block_of(p);
    set(b, size_of(b), false);
    merge(b);
}

void *mm_realloc(void *p, size_t bytes)
{
    if (!p)
        return mm_malloc(bytes);
    if (!bytes) {
        mm_free(p);
        return NULL;
    }
    block *b = block_of(p);
    word usable = size_of(b) - 2 * WORD;
    if (needed(bytes) <= size_of(b))
        return p;
    void *moved = mm_malloc(bytes);
    if (!moved)
        return NULL;
#ifdef REALLOC_LOSES /* one tag too many is taken off */
    usable -= WORD;
#endif
    memcpy(moved, p, usable);
    mm_free(p);
    return moved;
}

void *mm_calloc(size_t count, size_t each)
{
    if (each && count > SIZE_MAX / 2 / each)
        return NULL;
    void *p = mm_malloc(count * each);
    if (p)
        memset(p, 0, count * each);
    return p;
}

#ifndef CHECKHEAP
#define CHECKHEAP int
#endif
/* Whether both tags of each block are the same, and no two free blocks are neighbours. */
CHECKHEAP mm_checkheap(int line)
{
    bool free_before = false;
    for (block *b = first; size_of(b); b = after(b)) {
        if (*last_tag(b) != b->tag) {
            fprintf(stderr, "line %d: the tags of the block at %p are not the same\n", line, (void *)b);
            return 0;
        }
        if (free_before && !is_allocated(b)) {
            fprintf(stderr, "line %d: the free block at %p was not merged\n", line, (void *)b);
            return 0;
        }
        free_before = !is_allocated(b);
    }
    return 1;
}
