/* An index as a binary heap: the free blocks in a max-heap of sizes, an array in a mapping of its own.
 *
 *   base -> +0  array      its address
 *           +8  capacity   slots it has
 *           +16 count      slots in use: the free blocks there are
 *
 *   array   | block | block | block | ...        slot i lies above slots 2i + 1 and 2i + 2
 *                      |
 *   block  +0         +8                         size - 8
 *          | header   | slot   |       ...       | footer |       a free block
 *
 * The base is ROOT_INDEX in the root.  heaplab/allocators/parts/binheap.py, the twin, says why there is always a
 * slot.
 */
#ifndef HL_BINHEAP_H
#define HL_BINHEAP_H

#include "index.h"

enum { SLOT = 8 }; /* from the block */
enum { ARRAY = ROOT_INDEX, CAPACITY = ROOT_INDEX + 8, COUNT = ROOT_INDEX + 16 };
enum { WORD = 8 };

#define INDEX_MIN_BLOCK 32u
#define INDEX_WORDS 3
#define INDEX_SHRINKS
#define INDEX_GROWS

typedef int index_found; /* a search learns nothing besides the block */

/* Whether a block belongs above another. */
static inline int is_above(uint64_t size, uint64_t block, uint64_t other_size, uint64_t other)
{
    return size > other_size || (size == other_size && block < other);
}

/* ---- slots ---- */

/* The slot of a block, which has to hold it. */
static inline uint64_t slot_of(hl_heap *h, uint64_t block, uint64_t *array)
{
    *array = heap_load(h, h->root + ARRAY);
    uint64_t slot = heap_load(h, block + SLOT);
    if (heap_checks_links(h) &&
        (slot >= heap_load(h, h->root + COUNT) || heap_load(h, *array + WORD * slot) != block))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
    return slot;
}

/* A block of the array, which has to be a free one, and in *size its size.  The header is loaded anyway. */
static inline uint64_t entry_of(hl_heap *h, uint64_t array, uint64_t slot, uint64_t *size)
{
    uint64_t block = heap_load(h, array + WORD * slot);
    if (heap_checks_links(h) && !index_is_link(h, block))
        heap_corrupt(h, h->root + ROOT_INDEX, HEAP_BROKEN_INDEX);
    uint64_t word = heap_load(h, block);
    if (heap_checks_all(h) && (block_is_allocated(word) || !is_sealed(h, block, word)))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_HEADER);
    *size = block_size(word);
    return block;
}

static inline void put(hl_heap *h, uint64_t array, uint64_t slot, uint64_t block)
{
    heap_store(h, array + WORD * slot, block);
    heap_store(h, block + SLOT, slot);
}

/* Puts a block into `slot`, which is free, or into one above it. */
static void sift_up(hl_heap *h, uint64_t array, uint64_t slot, uint64_t block, uint64_t size)
{
    while (slot) {
        uint64_t above = (slot - 1) / 2, other_size, other = entry_of(h, array, above, &other_size);
        if (is_above(other_size, other, size, block))
            break;
        put(h, array, slot, other);
        slot = above;
    }
    put(h, array, slot, block);
}

/* Puts a block into `slot`, which is free, or into one below it. */
static void sift_down(hl_heap *h, uint64_t array, uint64_t slot, uint64_t block, uint64_t size, uint64_t count)
{
    uint64_t below;
    while ((below = 2 * slot + 1) < count) {
        uint64_t other_size, other = entry_of(h, array, below, &other_size);
        if (below + 1 < count) {
            uint64_t right_size, right = entry_of(h, array, below + 1, &right_size);
            if (is_above(right_size, right, other_size, other)) {
                below++;
                other = right;
                other_size = right_size;
            }
        }
        if (is_above(size, block, other_size, other))
            break;
        put(h, array, slot, other);
        slot = below;
    }
    put(h, array, slot, block);
}

/* ---- the index ---- */

static int index_reserve(hl_heap *h, uint64_t heap_bytes)
{
    uint64_t most = heap_bytes / (2 * INDEX_MIN_BLOCK) + 1, capacity = heap_load(h, h->root + CAPACITY);
    if (most <= capacity)
        return 1;
    uint64_t slots = most > 2 * capacity ? most : 2 * capacity;
    uint64_t length = heap_round_up(WORD * slots, env_page_size(h->env));
    uint64_t array = env_map(h->env, length);
    if (array == ENV_FAILED)
        return 0;
    if (capacity) {
        uint64_t old = heap_load(h, h->root + ARRAY);
        env_copy(h->env, array, old, WORD * heap_load(h, h->root + COUNT));
        env_unmap(h->env, old, WORD * capacity);
    }
    heap_store(h, h->root + ARRAY, array);
    heap_store(h, h->root + CAPACITY, length / WORD);
    return 1;
}

static int index_init(hl_heap *h, uint64_t heap_bytes)
{
    heap_store(h, h->root + CAPACITY, 0);
    heap_store(h, h->root + COUNT, 0);
    return index_reserve(h, heap_bytes);
}

static inline uint64_t index_find(hl_heap *h, uint64_t need, uint64_t *word, index_found *where)
{
    (void)where;
    if (heap_load(h, h->root + COUNT)) {
        uint64_t largest = heap_load(h, heap_load(h, h->root + ARRAY));
        if (heap_checks_links(h) && !index_is_link(h, largest))
            heap_corrupt(h, h->root + ROOT_INDEX, HEAP_BROKEN_INDEX);
        *word = heap_load(h, largest);
        if (block_size(*word) >= need)
            return largest;
    }
    return 0;
}

static inline void index_insert(hl_heap *h, uint64_t block, uint64_t size)
{
    uint64_t count = heap_load(h, h->root + COUNT);
    heap_store(h, h->root + COUNT, count + 1);
    sift_up(h, heap_load(h, h->root + ARRAY), count, block, size);
}

static void index_remove(hl_heap *h, uint64_t block, uint64_t size, const index_found *where)
{
    (void)where;
    uint64_t count = heap_load(h, h->root + COUNT) - 1, array, slot = slot_of(h, block, &array);
    heap_store(h, h->root + COUNT, count);
    if (slot == count)
        return;
    uint64_t last_size, last = entry_of(h, array, count, &last_size);
    if (is_above(last_size, last, size, block))
        sift_up(h, array, slot, last, last_size);
    else
        sift_down(h, array, slot, last, last_size, count);
}

static inline void index_shrink(hl_heap *h, uint64_t block, uint64_t size, uint64_t to, uint64_t rest,
                                const index_found *where)
{
    (void)size, (void)where;
    uint64_t array, slot = slot_of(h, block, &array);
    sift_down(h, array, slot, to, rest, heap_load(h, h->root + COUNT));
}

static inline void index_grow(hl_heap *h, uint64_t block, uint64_t size, uint64_t to, uint64_t total)
{
    (void)size;
    uint64_t array, slot = slot_of(h, block, &array);
    sift_up(h, array, slot, to, total);
}

/* ---- check ---- */

static void index_check_links(hl_heap *h, survey *s, uint64_t block)
{
    (void)s;
    uint64_t array;
    slot_of(h, block, &array);
}

static void index_check(hl_heap *h, survey *s)
{
    uint64_t count = heap_load(h, h->root + COUNT);
    if (count > heap_load(h, h->root + CAPACITY))
        heap_corrupt(h, h->root + ROOT_INDEX, HEAP_BROKEN_INDEX);
    uint64_t array = heap_load(h, h->root + ARRAY);
    for (uint64_t slot = 0; slot < count; slot++) {
        uint64_t block = heap_load(h, array + WORD * slot);
        uint64_t size = survey_indexed(h, s, block, array + WORD * slot - BLOCK_HEADER);
        if (heap_load(h, block + SLOT) != slot)
            heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
        if (slot) {
            uint64_t above = heap_load(h, array + WORD * ((slot - 1) / 2));
            if (!is_above(block_size(heap_load(h, above)), above, size, block))
                heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_INDEX);
        }
    }
}

/* ---- walking: the array is metadata apart from the blocks ---- */

static int index_walk(hl_heap *h, hl_span *out)
{
    uint64_t bytes = WORD * heap_load(h, h->root + CAPACITY);
    *out = heap_metadata(heap_load(h, h->root + ARRAY), bytes);
    return bytes != 0;
}
#define INDEX_WALKS

#endif
