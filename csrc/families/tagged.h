/* Heaps with boundary tags: blocks side by side from the first to the epilogue, free ones in an index.
 *
 *   root -> +40  first         the first block
 *           +48  last          the last block, while it is free
 *           +56  ...           the index's own words
 *
 *   | root | block | block | free block | block | ... | epilogue |
 *          first                                      end - 8    end
 *
 * heaplab/allocators/families/tagged.py, the twin, has the whole story.
 *
 * A template: a design includes this file once, after its index (list.h, binheap.h, rbtree.h), which has defined
 * INDEX_MIN_BLOCK (bytes), INDEX_WORDS (of the root), and static functions:
 *
 *   index_found                        what a search learned on its way, the index's own business
 *   int index_init(h, heap_bytes)      makes it empty: 1, or 0 with errno when the kernel gives no memory
 *   int index_reserve(h, heap_bytes)   makes sure that the free blocks of a heap that large have room: 1 or 0
 *   uint64_t index_find(h, need, &word, &where)  a free block of at least `need` bytes and its header as loaded; 0 only
 *                                      if there is none
 *   void index_insert(h, block, size)
 *   void index_remove(h, block, size, where)     `where` from index_find, or NULL
 *   void index_check_links(h, survey, block)     or heap_corrupt
 *   void index_check(h, survey)                  every block through survey_indexed, or heap_corrupt
 *
 * and, if it can do better than to remove the one and insert the other, with INDEX_SHRINKS, INDEX_GROWS:
 *
 *   void index_shrink(h, block, size, to, rest, where)  the block is now the one at `to`, all within it
 *   void index_grow(h, block, size, to, total)          the block is now the one at `to`, which contains it
 *
 * and, if it has memory apart from the blocks, with INDEX_WALKS:
 *
 *   int index_walk(h, out)    that memory as a span: 1, or 0 while there is none
 *
 * So every index is compiled into its heap, and no call goes through a pointer.  An index reads a block's
 * header and never writes a header or a footer.
 */
#include <errno.h>

#include "../sources/brk.h"
#include "../parts/index.h"

enum { TAGGED_ROOT_SIZE = (ROOT_INDEX + 8 * INDEX_WORDS + BLOCK_HEADER + HEAP_ALIGN - 1) & ~(HEAP_ALIGN - 1) };

#ifndef INDEX_SHRINKS
static void index_shrink(hl_heap *h, uint64_t block, uint64_t size, uint64_t to, uint64_t rest,
                         const index_found *where)
{
    index_remove(h, block, size, where);
    index_insert(h, to, rest);
}
#endif

#ifndef INDEX_GROWS
static void index_grow(hl_heap *h, uint64_t block, uint64_t size, uint64_t to, uint64_t total)
{
    index_remove(h, block, size, NULL);
    index_insert(h, to, total);
}
#endif

/* ---- accessors ---- */

/* The lowest place of a block.  Its header is the root's last word, when the heap is as small as can be. */
static inline uint64_t lowest(hl_heap *h) { return h->root + TAGGED_ROOT_SIZE - BLOCK_HEADER; }

/* Bytes of the block for a request of `size` bytes.  For a request larger than any address space that is
 * HEAP_ADDRESSES, so that growing fails with ENOMEM. */
static inline uint64_t block_size_for(uint64_t size)
{
    if (size > HEAP_ADDRESSES)
        return HEAP_ADDRESSES;
    uint64_t need = heap_round_up(size + BLOCK_HEADER, HEAP_ALIGN);
    return need < INDEX_MIN_BLOCK ? INDEX_MIN_BLOCK : need;
}

static inline uint64_t header_at(hl_heap *h, uint64_t block)
{
    uint64_t word = heap_load(h, block);
    if (heap_checks_all(h) && !is_sealed(h, block, word))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_HEADER);
    return word;
}

/* The size of the free block before `block`, which is not the epilogue. */
static inline uint64_t prev_size_of(hl_heap *h, uint64_t block)
{
    uint64_t size = heap_load(h, block - BLOCK_FOOTER);
    uint64_t prev = block - size;
    if (heap_checks_all(h) &&
        (size > block - lowest(h) || heap_load(h, prev) != block_header(h, prev, size, BLOCK_PREV_ALLOCATED)))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_FOOTER);
    return size;
}

/* The size of the free last block. */
static inline uint64_t last_size(hl_heap *h, uint64_t epilogue)
{
    uint64_t last = heap_load(h, h->root + ROOT_LAST), size = epilogue - last;
    if (heap_checks_all(h) &&
        (last < lowest(h) || last >= epilogue ||
         heap_load(h, last) != block_header(h, last, size, BLOCK_PREV_ALLOCATED | BLOCK_LAST)))
        heap_corrupt(h, h->root, HEAP_BROKEN_ROOT);
    return size;
}

/* Writes the tags of a free block; last: BLOCK_LAST or 0. */
static inline void make_free(hl_heap *h, uint64_t block, uint64_t size, uint64_t last)
{
    heap_store(h, block, block_header(h, block, size, BLOCK_PREV_ALLOCATED | last));
    if (last)
        heap_store(h, h->root + ROOT_LAST, block);
    else
        heap_store(h, block + size - BLOCK_FOOTER, size);
}

static inline void make_epilogue(hl_heap *h, uint64_t block, uint64_t prev)
{
    heap_store(h, block, block_header(h, block, 0, BLOCK_ALLOCATED | prev));
}

/* Names what is wrong with p, whose header `word` is not an allocated block's.  Only this error path walks: the
 * block that starts at p has a broken header, or one before it has, or no block starts there. */
static _Noreturn void diagnose(hl_heap *h, uint64_t p, uint64_t word)
{
    if (p % HEAP_ALIGN == 0 && is_sealed(h, p - BLOCK_HEADER, word))
        heap_corrupt(h, p, HEAP_DOUBLE_FREE);
    uint64_t block = heap_load(h, h->root + ROOT_FIRST), size;
    while (block < p - BLOCK_HEADER && (size = block_size(header_at(h, block))))
        block += size;
    heap_corrupt(h, p, block == p - BLOCK_HEADER ? HEAP_BROKEN_HEADER : HEAP_FOREIGN_POINTER);
}

/* The header of the allocated block with payload p. */
static inline uint64_t header_of_allocated(hl_heap *h, uint64_t p)
{
    uint64_t word = heap_load(h, p - BLOCK_HEADER);
    if (heap_checks_all(h) &&
        (!block_is_allocated(word) || !is_sealed(h, p - BLOCK_HEADER, word) || p % HEAP_ALIGN))
        diagnose(h, p, word);
    return word;
}

/* ---- the end of the heap ---- */

/* Grows the heap until it ends in a free block of at least `need` bytes: 1, or 0 with errno. */
static int extend(hl_heap *h, uint64_t need)
{
    if (need >= HEAP_ADDRESSES) {
        env_set_errno(h->env, ENOMEM);
        return 0;
    }
    uint64_t end = brk_end(h), epilogue = end - BLOCK_HEADER;
    uint64_t last = block_prev_is_allocated(header_at(h, epilogue)) ? 0 : last_size(h, epilogue);
    if (!index_reserve(h, heap_round_up(end - lowest(h) + need + heap_spec(h)->top_pad, env_page_size(h->env))))
        return 0;
    uint64_t grown;
    if (!brk_grow(h, need - last, &grown))
        return 0;
    uint64_t block = epilogue - last, total = last + grown;
    if (last) {
        heap_store(h, epilogue, block_tombstone(h, epilogue));
        index_grow(h, block, last, block, total);
    } else {
        index_insert(h, block, total);
    }
    make_free(h, block, total, BLOCK_LAST);
    make_epilogue(h, block + total, 0);
    return 1;
}

/* Gives the kernel what the free last block has beyond top_pad, if that is worth it. */
static void trim(hl_heap *h, uint64_t block, uint64_t size)
{
    uint64_t end = block + size + BLOCK_HEADER, keep = brk_keep(h, block + INDEX_MIN_BLOCK + BLOCK_HEADER);
    if (brk_trims(h, end, keep) && brk_shrink(h, keep)) {
        uint64_t rest = keep - BLOCK_HEADER - block;
        index_shrink(h, block, size, block, rest, NULL);
        make_free(h, block, rest, BLOCK_LAST);
        make_epilogue(h, keep - BLOCK_HEADER, 0);
    }
}

/* ---- verbs ---- */

/* Takes the first `need` bytes off the free block with header `word`.
 * How many bytes were taken: all of them when the rest could be no block. */
static inline uint64_t carve(hl_heap *h, uint64_t block, uint64_t word, uint64_t need, const index_found *where)
{
    uint64_t size = block_size(word), rest = size - need;
    if (rest >= INDEX_MIN_BLOCK) {
        index_shrink(h, block, size, block + need, rest, where);
        make_free(h, block + need, rest, word & BLOCK_LAST);
        return need;
    }
    uint64_t next = block + size, next_word = header_at(h, next);
    index_remove(h, block, size, where);
    heap_store(h, next, block_with_prev_allocated(h, next, next_word));
    return size;
}

/* An allocated block of at least `need` bytes, and in *size its size; 0 with errno. */
static inline uint64_t allocate(hl_heap *h, uint64_t need, uint64_t *size)
{
    index_found where;
    uint64_t word = 0, block = index_find(h, need, &word, &where);
    if (!block) {
        if (!extend(h, need))
            return 0;
        block = index_find(h, need, &word, &where);
        if (!block)
            heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    }
    uint64_t flags = BLOCK_PREV_ALLOCATED | (word & BLOCK_LAST);
    if (heap_checks_all(h) && word != block_header(h, block, block_size(word), flags))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_HEADER);
    *size = carve(h, block, word, need, &where);
    heap_store(h, block, block_header(h, block, *size, BLOCK_ALLOCATED | BLOCK_PREV_ALLOCATED));
    return block;
}

/* Makes `size` bytes free, merged with the prev_size free bytes before them and a free block after. */
static inline void release(hl_heap *h, uint64_t block, uint64_t size, uint64_t prev_size)
{
    uint64_t next = block + size, next_word = header_at(h, next);
    uint64_t next_size = block_is_allocated(next_word) ? 0 : block_size(next_word);
    uint64_t last = block_is_last(next_word) || !block_size(next_word) ? BLOCK_LAST : 0;
    uint64_t start = block - prev_size, total = prev_size + size + next_size;
    if (!next_size)
        heap_store(h, next, block_with_prev_free(h, next, next_word));
    if (prev_size) {
        heap_store(h, block, block_tombstone(h, block));
        if (next_size)
            index_remove(h, next, next_size, NULL);
        index_grow(h, start, prev_size, start, total);
    } else if (next_size) {
        index_grow(h, next, next_size, start, total);
    } else {
        index_insert(h, start, total);
    }
    make_free(h, start, total, last);
    if (last)
        trim(h, start, total);
}

/* Takes `need` bytes or a few more where `block` begins, if it is free or the end; 0 if it cannot. */
static uint64_t take_after(hl_heap *h, uint64_t block, uint64_t need)
{
    uint64_t word = header_at(h, block);
    uint64_t room = block_is_allocated(word) ? 0 : block_size(word);
    if (room < need) {
        int at_end = block_is_last(word) || !block_size(word); /* the block, or the epilogue */
        if (!at_end || !extend(h, need))
            return 0;
        word = header_at(h, block);
        room = block_size(word);
    }
    return carve(h, block, word, need, NULL);
}

/* ---- the contract ---- */

static int tagged_create(hl_heap *h)
{
    uint64_t end = brk_begin(h, TAGGED_ROOT_SIZE);
    if (!end)
        return 0;
    large_begin(h);
    uint64_t epilogue = end - BLOCK_HEADER, first = lowest(h), size = epilogue - first;
    if (!index_init(h, end - first))
        return 0;
    if (size < INDEX_MIN_BLOCK)
        first = epilogue;
    heap_store(h, h->root + ROOT_FIRST, first);
    if (first < epilogue) {
        index_insert(h, first, size);
        make_free(h, first, size, BLOCK_LAST);
    }
    make_epilogue(h, epilogue, first < epilogue ? 0 : BLOCK_PREV_ALLOCATED);
    return 1;
}

/* Whether p is a block of the heap's, and not a large one. */
static inline int is_small(hl_heap *h, uint64_t p)
{
    return p >= h->root + TAGGED_ROOT_SIZE && p < brk_end(h);
}

/* A block at a multiple of `alignment`; what it has in front of it, and too much behind it, becomes free. */
static uint64_t allocate_aligned(hl_heap *h, uint64_t size, uint64_t alignment)
{
    uint64_t need = block_size_for(size), have;
    uint64_t front = allocate(h, need + alignment + INDEX_MIN_BLOCK, &have);
    if (!front)
        return 0;
    uint64_t block = heap_round_up(front + BLOCK_HEADER, alignment) - BLOCK_HEADER;
    while (block > front && block - front < INDEX_MIN_BLOCK) /* what is split off has to be a block */
        block += alignment;
    uint64_t lead = block - front, spare = have - lead - need;
    if (spare < INDEX_MIN_BLOCK) {
        need += spare;
        spare = 0;
    }
    if (lead) {
        index_insert(h, front, lead);
        make_free(h, front, lead, 0);
    }
    heap_store(h, block, block_header(h, block, need, BLOCK_ALLOCATED | (lead ? 0 : BLOCK_PREV_ALLOCATED)));
    if (spare)
        release(h, block + need, spare, 0);
    return block + BLOCK_HEADER;
}

static uint64_t tagged_malloc(hl_heap *h, uint64_t size, uint64_t alignment)
{
    if (large_serves(h, size) || (alignment > HEAP_ALIGN && large_serves(h, alignment)))
        return large_malloc(h, size, alignment);
    if (alignment > HEAP_ALIGN)
        return allocate_aligned(h, size, alignment);
    uint64_t block = allocate(h, block_size_for(size), &size);
    return block ? block + BLOCK_HEADER : 0;
}

static void tagged_free(hl_heap *h, uint64_t p)
{
    if (!is_small(h, p)) {
        large_free(h, p);
        return;
    }
    uint64_t word = header_of_allocated(h, p), block = p - BLOCK_HEADER;
    uint64_t prev_size = block_prev_is_allocated(word) ? 0 : prev_size_of(h, block);
    release(h, block, block_size(word), prev_size);
}

static uint64_t tagged_usable(hl_heap *h, uint64_t p)
{
    return is_small(h, p) ? block_size(header_of_allocated(h, p)) - BLOCK_HEADER : large_usable(h, p);
}

static int tagged_resize(hl_heap *h, uint64_t p, uint64_t size)
{
    if (!is_small(h, p))
        return large_resize(h, p, size);
    if (large_serves(h, size))
        return 0;
    uint64_t word = header_of_allocated(h, p), block = p - BLOCK_HEADER;
    uint64_t have = block_size(word), need = block_size_for(size);
    uint64_t flags = BLOCK_ALLOCATED | (block_prev_is_allocated(word) ? BLOCK_PREV_ALLOCATED : 0);
    if (need > have) {
        uint64_t taken = take_after(h, block + have, need - have);
        if (!taken)
            return 0;
        heap_store(h, block, block_header(h, block, have + taken, flags));
    } else if (have - need >= INDEX_MIN_BLOCK) {
        heap_store(h, block, block_header(h, block, need, flags));
        release(h, block + need, have - need, 0);
    }
    return 1;
}

/* ---- walking ---- */

/* place[0]: where the walk is in the part that grows by brk: 0, a block, or behind the epilogue.
 * place[1]: how far it is in the large blocks.  place[2]: whether the index's memory was shown. */
static int tagged_walk(hl_heap *h, uint64_t place[4], hl_span *out)
{
    uint64_t first = heap_load(h, h->root + ROOT_FIRST);
    if (!place[0]) {
        *out = heap_metadata(h->root, first - h->root);
        place[0] = first;
        return 1;
    }
    if (place[0] % HEAP_ALIGN == BLOCK_HEADER) {
        uint64_t block = place[0], word = header_at(h, block), size = block_size(word);
        *out = heap_metadata(block, BLOCK_HEADER); /* the epilogue */
        if (size)
            *out = (hl_span){block, size, block + BLOCK_HEADER, size - BLOCK_HEADER,
                             block_is_allocated(word) ? HEAP_ALLOCATED : HEAP_FREE};
        place[0] = block + out->size;
        return 1;
    }
#ifdef INDEX_WALKS
    if (!place[2]++ && index_walk(h, out))
        return 1;
#endif
    return large_walk(h, &place[1], out);
}

static void tagged_check(hl_heap *h)
{
    uint64_t first = heap_load(h, h->root + ROOT_FIRST), end = brk_end(h);
    if (first < lowest(h) || first >= end || end > env_break(h->env) || first % HEAP_ALIGN != BLOCK_HEADER ||
        end % HEAP_ALIGN)
        heap_corrupt(h, h->root, HEAP_BROKEN_ROOT);
    survey s = {.first = first, .end = end, .count = 0, .sum = 0};
    uint64_t block = first;
    int prev_allocated = 1;
    while (block < end - BLOCK_HEADER) {
        uint64_t word = header_at(h, block), size = block_size(word);
        if (size < INDEX_MIN_BLOCK || size > end - BLOCK_HEADER - block ||
            block_prev_is_allocated(word) != prev_allocated)
            heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_HEADER);
        int last = !block_is_allocated(word) && block + size == end - BLOCK_HEADER;
        if (block_is_last(word) != last)
            heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_HEADER);
        if (!block_is_allocated(word)) {
            if (!prev_allocated)
                heap_corrupt(h, block + BLOCK_HEADER, HEAP_UNCOALESCED);
            if (last)
                last_size(h, block + size);
            else if (heap_load(h, block + size - BLOCK_FOOTER) != size)
                heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_FOOTER);
            index_check_links(h, &s, block);
            survey_walked(&s, block);
        }
        prev_allocated = block_is_allocated(word);
        block += size;
    }
    if (header_at(h, block) !=
        block_header(h, block, 0, BLOCK_ALLOCATED | (prev_allocated ? BLOCK_PREV_ALLOCATED : 0)))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_HEADER);
    index_check(h, &s);
    survey_close(h, &s);
    large_check(h);
}

#define TAGGED_TRAITS                                                                                         \
    (HEAP_TRIMS | HEAP_COALESCES | HEAP_REUSES | HEAP_ANY_ORDER | HEAP_DETECTS | HEAP_HEADERS |                \
     HEAP_CONTIGUOUS | HEAP_MAPS_LARGE | HEAP_RESIZES)

/* The options of a heap with boundary tags, besides its index's. */
#define TAGGED_OPTIONS LARGE_OPTIONS, BRK_OPTIONS, HEAP_CHECK_OPTIONS

/* The members of an hl_design that are the same for all of them. */
#define TAGGED_MEMBERS                                                                                        \
    .traits = TAGGED_TRAITS, .smallest = INDEX_MIN_BLOCK, .create = tagged_create, .malloc = tagged_malloc,    \
    .free = tagged_free, .usable = tagged_usable, .resize = tagged_resize, .walk = tagged_walk,               \
    .check = tagged_check
