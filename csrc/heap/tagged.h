/* Heaps with boundary tags: blocks side by side from the first to the epilogue, free ones in an index.
 *
 *   root -> +24  first         the first block
 *           +32  last          the last block, while it is free
 *           +40  ...           the index's own words
 *
 *   | root | block | block | free block | block | ... | epilogue |
 *          first                                      end - 8    end
 *
 * heaplab/allocators/tagged.py, the twin, has the whole story.
 *
 * A template: a design includes this file once, after it has defined TAGGED_NAME (a string), TAGGED_MAGIC,
 * INDEX_MIN_BLOCK (bytes), INDEX_WORDS (of the root), and its index as static functions:
 *
 *   int index_init(h, heap_bytes)      makes it empty: 1, or 0 with errno when the kernel gives no memory
 *   int index_reserve(h, heap_bytes)   makes sure that the free blocks of a heap that large have room: 1 or 0
 *   found index_find(h, need)          a free block of at least `need` bytes
 *   void index_insert(h, block, size)
 *   void index_remove(h, block, size, where)            `where` as index_find returned it, if it did
 *   void index_shrink(h, block, size, to, rest, where)  the block is now the one at `to`, all within it
 *   void index_grow(h, block, size, to, total)          the block is now the one at `to`, which contains it
 *   void index_check_links(h, survey, block)            or heap_corrupt
 *   void index_check(h, survey)                         every block through survey_indexed, or heap_corrupt
 *
 * So every index is compiled into its heap, and no call goes through a pointer.  An index reads a block's
 * header and never writes a header or a footer.
 */
#include <errno.h>

#include "index.h"

enum { TAGGED_ROOT_SIZE = (ROOT_INDEX + 8 * INDEX_WORDS + BLOCK_HEADER + HL_ALIGN - 1) & ~(HL_ALIGN - 1) };

/* The user's half of the addresses of x86-64. */
#define MOST_BYTES (1ull << 47)

/* ---- accessors ---- */

/* The lowest place of a block.  Its header is the root's last word, when the heap is as small as can be. */
static inline uint64_t lowest(hl_heap *h) { return h->root + TAGGED_ROOT_SIZE - BLOCK_HEADER; }

/* Bytes of the block for a request of `size` bytes; for one that no address space has room for, as many as
 * no address space has room for. */
static inline uint64_t block_size_for(uint64_t size)
{
    if (size > MOST_BYTES)
        return MOST_BYTES;
    uint64_t need = heap_round_up(size + BLOCK_HEADER, HL_ALIGN);
    return need < INDEX_MIN_BLOCK ? INDEX_MIN_BLOCK : need;
}

static inline uint64_t header_at(hl_heap *h, uint64_t block)
{
    uint64_t word = heap_load(h, block);
    if (!hl_is_sealed(block, word))
        heap_corrupt(h, block + BLOCK_HEADER, HL_BROKEN_HEADER);
    return word;
}

/* The size of the free block before `block`, which is not the epilogue. */
static inline uint64_t prev_size_of(hl_heap *h, uint64_t block)
{
    uint64_t size = heap_load(h, block - BLOCK_FOOTER);
    uint64_t prev = block - size;
    if (size > block - lowest(h) || heap_load(h, prev) != block_header(prev, size, BLOCK_PREV_ALLOCATED))
        heap_corrupt(h, block + BLOCK_HEADER, HL_BROKEN_FOOTER);
    return size;
}

/* The size of the free last block. */
static inline uint64_t last_size(hl_heap *h, uint64_t epilogue)
{
    uint64_t last = heap_load(h, h->root + ROOT_LAST), size = epilogue - last;
    if (last < lowest(h) || last >= epilogue ||
        heap_load(h, last) != block_header(last, size, BLOCK_PREV_ALLOCATED | BLOCK_LAST))
        heap_corrupt(h, h->root, HL_BROKEN_ROOT);
    return size;
}

/* Writes the tags of a free block; last: BLOCK_LAST or 0. */
static inline void make_free(hl_heap *h, uint64_t block, uint64_t size, uint64_t last)
{
    heap_store(h, block, block_header(block, size, BLOCK_PREV_ALLOCATED | last));
    if (last)
        heap_store(h, h->root + ROOT_LAST, block);
    else
        heap_store(h, block + size - BLOCK_FOOTER, size);
}

static inline void make_epilogue(hl_heap *h, uint64_t block, uint64_t prev)
{
    heap_store(h, block, block_header(block, 0, BLOCK_ALLOCATED | prev));
}

/* What is wrong with p, whose header `word` is not an allocated block's.  The error path alone may walk: a
 * block that starts there has a broken header, or one before it has. */
static _Noreturn void accuse(hl_heap *h, uint64_t p, uint64_t word)
{
    if (p % HL_ALIGN == 0 && hl_is_sealed(p - BLOCK_HEADER, word))
        heap_corrupt(h, p, HL_DOUBLE_FREE);
    uint64_t block = heap_load(h, h->root + ROOT_FIRST), size;
    while (block < p - BLOCK_HEADER && (size = block_size(header_at(h, block))))
        block += size;
    heap_corrupt(h, p, block == p - BLOCK_HEADER ? HL_BROKEN_HEADER : HL_FOREIGN_POINTER);
}

/* The header of the allocated block with payload p. */
static inline uint64_t demand(hl_heap *h, uint64_t p)
{
    uint64_t word = heap_load(h, p - BLOCK_HEADER);
    if (!block_is_allocated(word) || !hl_is_sealed(p - BLOCK_HEADER, word) || p % HL_ALIGN)
        accuse(h, p, word);
    return word;
}

/* ---- the end of the heap ---- */

/* Grows the heap until it ends in a free block of at least `need` bytes: 1, or 0 with errno. */
static int extend(hl_heap *h, uint64_t need)
{
    if (need >= MOST_BYTES) {
        seam_set_errno(h->seam, ENOMEM);
        return 0;
    }
    uint64_t end = heap_load(h, h->root + HL_ROOT_END), epilogue = end - BLOCK_HEADER;
    uint64_t last = block_prev_is_allocated(header_at(h, epilogue)) ? 0 : last_size(h, epilogue);
    if (!index_reserve(h, heap_round_up(end - lowest(h) + need + h->top_pad, seam_page_size(h->seam))))
        return 0;
    uint64_t grown;
    if (!heap_grow(h, need - last, &grown))
        return 0;
    uint64_t block = epilogue - last, total = last + grown;
    if (last) {
        heap_store(h, epilogue, block_tombstone(epilogue));
        index_grow(h, block, last, block, total);
    } else {
        index_insert(h, block, total);
    }
    make_free(h, block, total, BLOCK_LAST);
    make_epilogue(h, block + total, 0);
    return 1;
}

/* Gives the kernel what the free last block has beyond top_pad. */
static void trim(hl_heap *h, uint64_t block, uint64_t size)
{
    uint64_t end = heap_load(h, h->root + HL_ROOT_END);
    uint64_t keep =
        heap_round_up(block + INDEX_MIN_BLOCK + BLOCK_HEADER + h->top_pad, seam_page_size(h->seam));
    if (keep < end && heap_shrink(h, keep)) {
        uint64_t rest = keep - BLOCK_HEADER - block;
        index_shrink(h, block, size, block, rest, NULL);
        make_free(h, block, rest, BLOCK_LAST);
        make_epilogue(h, keep - BLOCK_HEADER, 0);
    }
}

/* ---- verbs ---- */

/* Takes the first `need` bytes off the free block with header `word`.
 * How many bytes were taken: all of them when the rest could be no block. */
static inline uint64_t carve(hl_heap *h, uint64_t block, uint64_t word, uint64_t need, const found *where)
{
    uint64_t size = block_size(word), rest = size - need;
    if (rest >= INDEX_MIN_BLOCK) {
        index_shrink(h, block, size, block + need, rest, where);
        make_free(h, block + need, rest, word & BLOCK_LAST);
        return need;
    }
    uint64_t next = block + size, next_word = header_at(h, next);
    index_remove(h, block, size, where);
    heap_store(h, next, block_with_prev_allocated(next, next_word));
    return size;
}

/* An allocated block of at least `need` bytes, and in *size its size; 0 with errno. */
static inline uint64_t allocate(hl_heap *h, uint64_t need, uint64_t *size)
{
    found fit = index_find(h, need);
    if (!fit.block) {
        if (!extend(h, need))
            return 0;
        fit = index_find(h, need);
    }
    uint64_t block = fit.block, flags = BLOCK_PREV_ALLOCATED | (fit.word & BLOCK_LAST);
    if (fit.word != block_header(block, block_size(fit.word), flags))
        heap_corrupt(h, block + BLOCK_HEADER, HL_BROKEN_HEADER);
    *size = carve(h, block, fit.word, need, &fit);
    heap_store(h, block, block_header(block, *size, BLOCK_ALLOCATED | BLOCK_PREV_ALLOCATED));
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
        heap_store(h, next, block_with_prev_free(next, next_word));
    if (prev_size) {
        heap_store(h, block, block_tombstone(block));
        if (next_size)
            index_remove(h, next, next_size, NULL);
        index_grow(h, start, prev_size, start, total);
    } else if (next_size) {
        index_grow(h, next, next_size, start, total);
    } else {
        index_insert(h, start, total);
    }
    make_free(h, start, total, last);
    if (last && total >= h->trim_threshold)
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

static int tagged_init(hl_heap *h, uint64_t end)
{
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

static uint64_t tagged_malloc(hl_heap *h, uint64_t size)
{
    uint64_t block = allocate(h, block_size_for(size), &size);
    return block ? block + BLOCK_HEADER : 0;
}

static void tagged_free(hl_heap *h, uint64_t p)
{
    uint64_t word = demand(h, p), block = p - BLOCK_HEADER;
    uint64_t prev_size = block_prev_is_allocated(word) ? 0 : prev_size_of(h, block);
    release(h, block, block_size(word), prev_size);
}

static uint64_t tagged_usable_size(hl_heap *h, uint64_t p) { return block_size(demand(h, p)) - BLOCK_HEADER; }

static int tagged_resize(hl_heap *h, uint64_t p, uint64_t size)
{
    uint64_t word = demand(h, p), block = p - BLOCK_HEADER;
    uint64_t have = block_size(word), need = block_size_for(size);
    uint64_t flags = BLOCK_ALLOCATED | (block_prev_is_allocated(word) ? BLOCK_PREV_ALLOCATED : 0);
    if (need > have) {
        uint64_t taken = take_after(h, block + have, need - have);
        if (!taken)
            return 0;
        heap_store(h, block, block_header(block, have + taken, flags));
    } else if (have - need >= INDEX_MIN_BLOCK) {
        heap_store(h, block, block_header(block, need, flags));
        release(h, block + need, have - need, 0);
    }
    return 1;
}

static uint64_t tagged_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size)
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
    heap_store(h, block, block_header(block, need, BLOCK_ALLOCATED | (lead ? 0 : BLOCK_PREV_ALLOCATED)));
    if (spare)
        release(h, block + need, spare, 0);
    return block + BLOCK_HEADER;
}

/* ---- walking ---- */

static int tagged_next(hl_heap *h, uint64_t *cursor, hl_block *out)
{
    uint64_t block = *cursor ? *cursor : heap_load(h, h->root + ROOT_FIRST);
    uint64_t word = header_at(h, block), size = block_size(word);
    if (!size)
        return 0;
    out->address = block + BLOCK_HEADER;
    out->size = size;
    out->usable = size - BLOCK_HEADER;
    out->state = block_is_allocated(word) ? HL_BLOCK_ALLOCATED : HL_BLOCK_FREE;
    *cursor = block + size;
    return 1;
}

static void tagged_check(hl_heap *h)
{
    uint64_t first = heap_load(h, h->root + ROOT_FIRST), end = heap_load(h, h->root + HL_ROOT_END);
    if (first < lowest(h) || first >= end || end > seam_sbrk(h->seam, 0) || first % HL_ALIGN != BLOCK_HEADER ||
        end % HL_ALIGN)
        heap_corrupt(h, h->root, HL_BROKEN_ROOT);
    survey s = {.first = first, .end = end, .count = 0, .sum = 0};
    uint64_t block = first;
    int prev_allocated = 1;
    while (block < end - BLOCK_HEADER) {
        uint64_t word = header_at(h, block), size = block_size(word);
        if (size < INDEX_MIN_BLOCK || size > end - BLOCK_HEADER - block ||
            block_prev_is_allocated(word) != prev_allocated)
            heap_corrupt(h, block + BLOCK_HEADER, HL_BROKEN_HEADER);
        int last = !block_is_allocated(word) && block + size == end - BLOCK_HEADER;
        if (block_is_last(word) != last)
            heap_corrupt(h, block + BLOCK_HEADER, HL_BROKEN_HEADER);
        if (!block_is_allocated(word)) {
            if (!prev_allocated)
                heap_corrupt(h, block + BLOCK_HEADER, HL_UNCOALESCED);
            if (last)
                last_size(h, block + size);
            else if (heap_load(h, block + size - BLOCK_FOOTER) != size)
                heap_corrupt(h, block + BLOCK_HEADER, HL_BROKEN_FOOTER);
            index_check_links(h, &s, block);
            survey_walked(&s, block);
        }
        prev_allocated = block_is_allocated(word);
        block += size;
    }
    if (header_at(h, block) !=
        block_header(block, 0, BLOCK_ALLOCATED | (prev_allocated ? BLOCK_PREV_ALLOCATED : 0)))
        heap_corrupt(h, block + BLOCK_HEADER, HL_BROKEN_HEADER);
    index_check(h, &s);
    survey_close(h, &s);
}

#define TAGGED_DESIGN                                                                                      \
    {                                                                                                      \
        .name = TAGGED_NAME, .magic = TAGGED_MAGIC, .root_size = TAGGED_ROOT_SIZE, .init = tagged_init,    \
        .malloc = tagged_malloc, .aligned_alloc = tagged_aligned_alloc, .free = tagged_free,               \
        .usable_size = tagged_usable_size, .resize = tagged_resize, .next = tagged_next,                   \
        .check = tagged_check                                                                              \
    }
