/* Slab: blocks of one size side by side in a slab, and not a byte of metadata in them or beside them.
 *
 *   by brk    | root | descriptor | descriptor | page map | descriptor | ...          (metadata)
 *                          |             |
 *   by mmap   | chunk      v             v                            |               (blocks)
 *             | block block block ... | slab of large blocks | pages  |
 *
 *   root -> +40  map       of the pages that blocks start in (parts/pagemap.h)
 *           +56  fresh     the first descriptor that was never used
 *           +64  spare     the list of those that are free again
 *           +72  empty     pages of the slabs that are kept without a block in use
 *           +80  idle      how many chunks are kept without a slab
 *           +88  heads     of the lists: chunks with a free page; then slabs with a free block, a class each
 *
 *   descriptor  +0   word  63            17 + b   17  14   8       0
 *                         +---------------+------+----+-----+-------+
 *                         | number of the |      |hint|pages| class |        2^b bytes are a page; all 0: spare
 *                         |  first page   |      |    |     |       |
 *                         +---------------+------+----+-----+-------+
 *               +8   next  in its list, or 0
 *               +16  prev  the address of the word that points here, a next or a head
 *               +24  home  of a slab: its chunk's descriptor; of a chunk: pages << 32 | pages in use
 *               +32  bits  256 of them (parts/bitmap.h): set while the block, or the page of the chunk, is free
 *
 * Sources: Bonwick, USENIX Summer 1994; Linux, mm/slab.c (slabs whose descriptors stand elsewhere); Kamp's
 * phkmalloc and OpenBSD's malloc.c (a directory of pages, a bitmap for each).
 * heaplab/allocators/designs/slab.py is the twin, and has the vital statistics and the reasons.
 */
#include <errno.h>

#include "../parts/bitmap.h"
#include "../parts/pagemap.h"
#include "../sources/brk.h"

enum { WORD = 0, NEXT = 8, PREV = 16, HOME = 24, BITS = 32, DESCRIPTOR = 64, CAPACITY = 256 };
enum { CLASS_BITS = 255, CHUNK = 255, PAGES_AT = 8, PAGES_BITS = 63, HINT_AT = 14, HINT_BITS = 7, START_AT = 17 };
enum { FULL = 4, EMPTY = 5 }; /* hints of a slab without a free block, and of one that is kept without another */
enum { MOST_PAGES = 32 };     /* of a slab */
enum { ROOT_MAP = ROOT_DESIGN, ROOT_FRESH = ROOT_MAP + PAGEMAP_SIZE, ROOT_SPARE = ROOT_FRESH + 8 };
enum { ROOT_EMPTY = ROOT_SPARE + 8, ROOT_IDLE = ROOT_EMPTY + 8, ROOT_HEADS = ROOT_IDLE + 8 };
enum { FIRST_TABLE = 6 }; /* log2 of the slots of the page map of an empty heap */
enum { OPTION_CHUNK, OPTION_EMPTY, OPTION_CHUNKS };

/* ---- classes ---- */

/* The class of the smallest blocks with room for `size` bytes: multiples of 16 up to 128, then eight classes
 * from a power of two to the next. */
static inline unsigned class_of(uint64_t size)
{
    if (size <= 128)
        return size ? (unsigned)(size - 1) / 16 : 0;
    unsigned octave = 63u - (unsigned)__builtin_clzll(size - 1);
    return 8 * (octave - 6) + (unsigned)((size - 1) >> (octave - 3) & 7);
}

/* The size of its blocks. */
static inline uint64_t size_of(unsigned class)
{
    return class < 8 ? 16u * (class + 1) : (uint64_t)(8 + class % 8 + 1) << (class / 8 + 3);
}

/* The largest block: as many bytes as the largest slab. */
static inline uint64_t largest(const hl_heap *h) { return MOST_PAGES * env_page_size(h->env); }

static inline unsigned classes(const hl_heap *h) { return class_of(largest(h)) + 1; }

/* The blocks of a slab of that many pages. */
static inline uint64_t blocks_in(const hl_heap *h, uint64_t size, uint64_t pages)
{
    uint64_t n = pages * env_page_size(h->env) / size;
    return n < CAPACITY ? n : CAPACITY;
}

/* The pages of a slab: the fewest that waste no more than a 16th, or else those that waste least. */
static uint64_t pages_for(const hl_heap *h, uint64_t size)
{
    uint64_t page = env_page_size(h->env), best = 0, best_waste = 1;
    for (uint64_t pages = (size + page - 1) / page; pages <= MOST_PAGES; pages++) {
        uint64_t waste = pages * page - blocks_in(h, size, pages) * size;
        if (16 * waste <= pages * page)
            return pages;
        if (!best || waste * best < best_waste * pages) {
            best = pages;
            best_waste = waste;
        }
    }
    return best;
}

/* The pages of a chunk. */
static inline uint64_t chunk_pages(const hl_heap *h)
{
    uint64_t pages = heap_spec(h)->option[OPTION_CHUNK] / env_page_size(h->env);
    return pages < 2 * MOST_PAGES ? 2 * MOST_PAGES : pages < CAPACITY ? pages : CAPACITY;
}

/* ---- descriptors ---- */

static inline uint64_t area_of(const hl_heap *h)
{
    return heap_round_up(h->root + ROOT_HEADS + 8 * (1 + classes(h)), DESCRIPTOR);
}

static inline uint64_t chunks_head(const hl_heap *h) { return h->root + ROOT_HEADS; }

static inline uint64_t head_of(const hl_heap *h, unsigned class) { return h->root + ROOT_HEADS + 8 + 8 * class; }

static inline uint64_t start_of(const hl_heap *h, uint64_t word)
{
    return word >> START_AT & ~(env_page_size(h->env) - 1);
}

static inline uint64_t pages_of(uint64_t word) { return word >> PAGES_AT & PAGES_BITS; }

static inline unsigned hint_of(uint64_t word) { return word >> HINT_AT & HINT_BITS; }

static inline uint64_t with_hint(uint64_t word, uint64_t hint)
{
    return (word & ~((uint64_t)HINT_BITS << HINT_AT)) | hint << HINT_AT;
}

static inline uint64_t word_of(uint64_t start, uint64_t hint, uint64_t pages, unsigned class)
{
    return start << START_AT | hint << HINT_AT | pages << PAGES_AT | class;
}

/* Whether a descriptor may stand there, so that it can be loaded. */
static inline int is_descriptor(const hl_heap *h, uint64_t link)
{
    return link >= area_of(h) && link < env_break(h->env) && link % DESCRIPTOR == 0;
}

/* The class of the slab that has this word. */
static inline unsigned class_in(hl_heap *h, uint64_t slab, uint64_t word)
{
    unsigned class = word & CLASS_BITS;
    if (!word || class >= classes(h))
        heap_corrupt(h, slab, HEAP_BROKEN_HEADER);
    return class;
}

/* `bytes` (a multiple of 64) of the metadata that were never used; 0 with errno.  Grows by a quarter, so that
 * there are few brks; what was not touched yet has no frame. */
static uint64_t fresh(hl_heap *h, uint64_t bytes)
{
    uint64_t at = heap_load(h, h->root + ROOT_FRESH), room = brk_end(h) - at, grown;
    if (bytes > room && !brk_grow(h, bytes + (at - h->root) / 4, &grown) && !brk_grow(h, bytes - room, &grown))
        return 0;
    heap_store(h, h->root + ROOT_FRESH, at + bytes);
    return at;
}

static uint64_t new_descriptor(hl_heap *h)
{
    uint64_t spare = heap_load(h, h->root + ROOT_SPARE);
    if (!spare)
        return fresh(h, DESCRIPTOR);
    if (heap_checks_links(h) && (!is_descriptor(h, spare) || heap_load(h, spare + WORD)))
        heap_corrupt(h, h->root, HEAP_BROKEN_LINK);
    heap_store(h, h->root + ROOT_SPARE, heap_load(h, spare + NEXT));
    return spare;
}

static void drop_descriptor(hl_heap *h, uint64_t descriptor)
{
    uint64_t spare = h->root + ROOT_SPARE;
    heap_store(h, descriptor + WORD, 0);
    heap_store(h, descriptor + NEXT, heap_load(h, spare));
    heap_store(h, spare, descriptor);
}

/* ---- lists ---- */

static void push(hl_heap *h, uint64_t descriptor, uint64_t head)
{
    uint64_t next = heap_load(h, head);
    heap_store(h, descriptor + NEXT, next);
    heap_store(h, descriptor + PREV, head);
    heap_store(h, head, descriptor);
    if (next)
        heap_store(h, next + PREV, descriptor + NEXT);
}

static void unlink_descriptor(hl_heap *h, uint64_t descriptor, uint64_t head)
{
    uint64_t next = heap_load(h, descriptor + NEXT), pointer = heap_load(h, descriptor + PREV);
    if (heap_checks_links(h)) {
        if ((pointer != head && !is_descriptor(h, pointer - NEXT)) || heap_load(h, pointer) != descriptor)
            heap_corrupt(h, descriptor, HEAP_BROKEN_LINK);
        if (next && (!is_descriptor(h, next) || heap_load(h, next + PREV) != descriptor + NEXT))
            heap_corrupt(h, descriptor, HEAP_BROKEN_LINK);
    }
    heap_store(h, pointer, next);
    if (next)
        heap_store(h, next + PREV, pointer);
}

/* ---- the page map ---- */

/* Makes sure that `more` pages find room: 1, or 0 with errno.  A table that is left becomes descriptors. */
static int reserve(hl_heap *h, uint64_t more)
{
    pagemap m = pagemap_load(h, h->root + ROOT_MAP);
    while (!pagemap_has_room(h, &m, more)) {
        uint64_t old = m.at, end = m.at + 8 * pagemap_slots(&m), bytes = 16 * pagemap_slots(&m);
        uint64_t at = fresh(h, bytes);
        if (!at)
            return 0;
        env_zero(h->env, at, bytes);
        m = pagemap_move(h, &m, at, m.k + 1);
        while (end > old) {
            end -= DESCRIPTOR;
            drop_descriptor(h, end);
        }
    }
    return 1;
}

/* The first block that starts at `offset` in its slab or behind. */
static inline uint64_t block_from(uint64_t offset, uint64_t size) { return (offset + size - 1) / size; }

/* The number of a descriptor in the page map. */
static inline uint64_t number_of(const hl_heap *h, uint64_t descriptor)
{
    return (descriptor - area_of(h)) / DESCRIPTOR;
}

/* Whether the page map can keep the number of a new slab; or errno. */
static int has_number(hl_heap *h, uint64_t slab)
{
    if (number_of(h, slab) < env_page_size(h->env) << 17)
        return 1;
    env_set_errno(h->env, ENOMEM);
    return 0;
}

/* Enters the pages that blocks of the slab start in, or takes them out. */
static void map_slab(hl_heap *h, uint64_t slab, uint64_t word, int enter)
{
    pagemap m = pagemap_load(h, h->root + ROOT_MAP);
    uint64_t size = size_of(word & CLASS_BITS), blocks = blocks_in(h, size, pages_of(word)), entered = 0;
    for (uint64_t i = 0; i < blocks; entered++) {
        uint64_t offset = i * size & ~(m.page - 1);
        if (enter)
            pagemap_insert(h, &m, start_of(h, word) + offset, number_of(h, slab));
        else
            pagemap_remove(h, &m, start_of(h, word) + offset);
        i = block_from(offset + m.page, size);
    }
    pagemap_count(h, &m, enter ? (int64_t)entered : -(int64_t)entered);
}

/* The descriptor of the slab that has the page of p; 0 when none has. */
static inline uint64_t slab_at(hl_heap *h, uint64_t p)
{
    uint64_t slot;
    if (p >= HEAP_ADDRESSES)
        heap_corrupt(h, p, HEAP_FOREIGN_POINTER);
    pagemap m = pagemap_load(h, h->root + ROOT_MAP);
    pagemap_search(h, &m, p, &slot);
    return slot ? area_of(h) + DESCRIPTOR * pagemap_number(&m, slot) : 0;
}

/* ---- chunks ---- */

/* A chunk with all pages free, in its list: its descriptor, or 0 with errno. */
static uint64_t new_chunk(hl_heap *h)
{
    uint64_t chunk = new_descriptor(h), pages = chunk_pages(h);
    if (!chunk)
        return 0;
    uint64_t start = env_map(h->env, pages * env_page_size(h->env));
    if (start == ENV_FAILED) {
        drop_descriptor(h, chunk);
        return 0;
    }
    heap_store(h, chunk + WORD, word_of(start, 0, 0, CHUNK));
    heap_store(h, chunk + HOME, pages << 32);
    bitmap_fill(h, chunk + BITS, pages);
    push(h, chunk, chunks_head(h));
    heap_store(h, h->root + ROOT_IDLE, heap_load(h, h->root + ROOT_IDLE) + 1);
    return chunk;
}

/* Takes `pages` pages side by side out of the first chunk that has them, at the lowest address: where they
 * start, and in *chunk its descriptor; 0 with errno. */
static uint64_t take_pages(hl_heap *h, uint64_t pages, uint64_t *chunk)
{
    uint64_t at = heap_load(h, chunks_head(h)), counts = 0, first = BITMAP_NONE;
    for (; at; at = heap_load(h, at + NEXT)) {
        if (!is_descriptor(h, at))
            heap_corrupt(h, h->root, HEAP_BROKEN_LINK);
        counts = heap_load(h, at + HOME);
        first = bitmap_find(h, at + BITS, counts >> 32, pages);
        if (first != BITMAP_NONE)
            break;
    }
    if (!at) {
        at = new_chunk(h);
        if (!at)
            return 0;
        counts = heap_load(h, at + HOME);
        first = 0;
    }
    if (!(uint32_t)counts)
        heap_store(h, h->root + ROOT_IDLE, heap_load(h, h->root + ROOT_IDLE) - 1);
    counts += pages;
    bitmap_clear(h, at + BITS, first, pages);
    heap_store(h, at + HOME, counts);
    if ((uint32_t)counts == counts >> 32)
        unlink_descriptor(h, at, chunks_head(h));
    *chunk = at;
    return start_of(h, heap_load(h, at + WORD)) + first * env_page_size(h->env);
}

/* Gives pages back to their chunk, and the chunk back to the kernel when enough are kept without a slab. */
static void give_pages(hl_heap *h, uint64_t chunk, uint64_t start, uint64_t pages)
{
    uint64_t page = env_page_size(h->env), word = heap_load(h, chunk + WORD), counts = heap_load(h, chunk + HOME);
    if ((word & CLASS_BITS) != CHUNK)
        heap_corrupt(h, chunk, HEAP_BROKEN_HEADER);
    uint64_t base = start_of(h, word), all = counts >> 32;
    bitmap_set(h, chunk + BITS, (start - base) / page, pages);
    heap_store(h, chunk + HOME, counts - pages);
    if ((uint32_t)counts == all)
        push(h, chunk, chunks_head(h));
    if ((uint32_t)counts != pages)
        return;
    uint64_t idle = heap_load(h, h->root + ROOT_IDLE);
    if (idle < heap_spec(h)->option[OPTION_CHUNKS]) {
        heap_store(h, h->root + ROOT_IDLE, idle + 1);
        return;
    }
    unlink_descriptor(h, chunk, chunks_head(h));
    drop_descriptor(h, chunk);
    env_unmap(h->env, base, all * page);
}

/* ---- slabs ---- */

/* A slab with all blocks free, in its list: its descriptor, or 0 with errno and nothing lost. */
static uint64_t new_slab(hl_heap *h, unsigned class)
{
    uint64_t size = size_of(class), pages = pages_for(h, size), blocks = blocks_in(h, size, pages), chunk;
    uint64_t slab = reserve(h, pages) ? new_descriptor(h) : 0;
    if (!slab)
        return 0;
    uint64_t start = has_number(h, slab) ? take_pages(h, pages, &chunk) : 0;
    if (!start) {
        drop_descriptor(h, slab);
        return 0;
    }
    uint64_t word = word_of(start, 0, pages, class);
    heap_store(h, slab + WORD, word);
    heap_store(h, slab + HOME, chunk);
    bitmap_fill(h, slab + BITS, blocks);
    push(h, slab, head_of(h, class));
    map_slab(h, slab, word, 1);
    return slab;
}

/* The slab is in no list, and none of its blocks is in use. */
static void drop_slab(hl_heap *h, uint64_t slab, uint64_t word)
{
    uint64_t chunk = heap_load(h, slab + HOME);
    if (!is_descriptor(h, chunk))
        heap_corrupt(h, slab, HEAP_BROKEN_HEADER);
    map_slab(h, slab, word, 0);
    drop_descriptor(h, slab);
    give_pages(h, chunk, start_of(h, word), pages_of(word));
}

/* ---- malloc ---- */

static int slab_create(hl_heap *h)
{
    uint64_t bytes = 8ull << FIRST_TABLE;
    /* the area may start up to 48 bytes later than from a root at a multiple of 64 */
    uint64_t size = heap_round_up(ROOT_HEADS + 8 * (1 + classes(h)), HEAP_ALIGN) + DESCRIPTOR - HEAP_ALIGN + bytes;
    if (!brk_begin(h, size))
        return 0;
    uint64_t area = area_of(h), words = h->root + ROOT_MAP;
    large_begin(h);
    env_zero(h->env, words, area + bytes - words);
    pagemap_begin(h, words, area, FIRST_TABLE);
    heap_store(h, h->root + ROOT_FRESH, area + bytes);
    return 1;
}

/* The lowest free block of the first slab of the class. */
static uint64_t take(hl_heap *h, unsigned class)
{
    uint64_t slab = heap_load(h, head_of(h, class));
    if (!slab && !(slab = new_slab(h, class)))
        return 0;
    if (!is_descriptor(h, slab))
        heap_corrupt(h, h->root, HEAP_BROKEN_LINK);
    uint64_t word = heap_load(h, slab + WORD), size = size_of(class);
    unsigned hint = hint_of(word), w = hint;
    if (hint >= FULL) {
        if (hint != EMPTY)
            heap_corrupt(h, slab, HEAP_BROKEN_INDEX);
        heap_store(h, h->root + ROOT_EMPTY, heap_load(h, h->root + ROOT_EMPTY) - pages_of(word));
        w = 0;
    }
    uint64_t blocks = blocks_in(h, size, pages_of(word)), bits = heap_load(h, slab + BITS + 8 * w);
    uint64_t i = bits ? 64 * w + (unsigned)__builtin_ctzll(bits) : blocks;
    if ((word & CLASS_BITS) != class || i >= blocks)
        heap_corrupt(h, slab, HEAP_BROKEN_INDEX);
    bits &= bits - 1;
    heap_store(h, slab + BITS + 8 * w, bits);
    if (!bits) {
        w = (unsigned)bitmap_next_word(h, slab + BITS, blocks, w + 1);
        if (w == bitmap_words(blocks)) {
            w = FULL;
            unlink_descriptor(h, slab, head_of(h, class));
        }
    }
    if (w != hint)
        heap_store(h, slab + WORD, with_hint(word, w));
    return start_of(h, word) + i * size;
}

static uint64_t slab_malloc(hl_heap *h, uint64_t size, uint64_t alignment)
{
    if (size > largest(h) || large_serves(h, size) || alignment > env_page_size(h->env))
        return large_malloc(h, size, alignment);
    unsigned class = class_of(size);
    if (alignment > HEAP_ALIGN) { /* slabs start at pages: blocks of a multiple of the alignment are aligned */
        if (size < alignment)
            class = class_of(alignment);
        while (size_of(class) & (alignment - 1))
            class++;
    }
    return take(h, class);
}

/* ---- free ---- */

/* The number of the allocated block at p in its slab, which has this word; or heap_corrupt. */
static inline uint64_t block_at(hl_heap *h, uint64_t p, uint64_t slab, uint64_t *word, uint64_t *bits)
{
    if (!is_descriptor(h, slab))
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    *word = heap_load(h, slab + WORD);
    uint64_t size = size_of(class_in(h, slab, *word)), offset = p - start_of(h, *word), i = offset / size;
    if (offset % size || i >= blocks_in(h, size, pages_of(*word)))
        heap_corrupt(h, p, HEAP_FOREIGN_POINTER);
    *bits = heap_load(h, slab + BITS + i / 64 * 8);
    if (*bits >> i % 64 & 1)
        heap_corrupt(h, p, HEAP_DOUBLE_FREE);
    return i;
}

/* What becomes of the slab whose last block in use was freed: it stays if it is the only one of its class with
 * a free block, and little is kept so; else its pages go back. */
static void emptied(hl_heap *h, uint64_t slab, uint64_t word)
{
    uint64_t head = head_of(h, word & CLASS_BITS), first = heap_load(h, head);
    int was_full = hint_of(word) == FULL;
    if (!first || (first == slab && !heap_load(h, slab + NEXT))) {
        uint64_t empty = heap_load(h, h->root + ROOT_EMPTY) + pages_of(word);
        if (empty <= heap_spec(h)->option[OPTION_EMPTY] / env_page_size(h->env)) {
            heap_store(h, h->root + ROOT_EMPTY, empty);
            heap_store(h, slab + WORD, with_hint(word, EMPTY));
            if (was_full)
                push(h, slab, head);
            return;
        }
    }
    if (!was_full)
        unlink_descriptor(h, slab, head);
    drop_slab(h, slab, word);
}

static void slab_free(hl_heap *h, uint64_t p)
{
    uint64_t slab = slab_at(h, p), word, bits;
    if (!slab) {
        large_free(h, p);
        return;
    }
    uint64_t i = block_at(h, p, slab, &word, &bits), w = i / 64;
    unsigned class = word & CLASS_BITS;
    uint64_t blocks = blocks_in(h, size_of(class), pages_of(word));
    bits |= 1ull << i % 64;
    heap_store(h, slab + BITS + 8 * w, bits);
    if (bits == bitmap_mask(blocks, w) && bitmap_is_full(h, slab + BITS, blocks)) {
        emptied(h, slab, word);
        return;
    }
    if (w < hint_of(word))
        heap_store(h, slab + WORD, with_hint(word, w));
    if (hint_of(word) == FULL)
        push(h, slab, head_of(h, class));
}

static uint64_t slab_usable(hl_heap *h, uint64_t p)
{
    uint64_t slab = slab_at(h, p), word, bits;
    if (!slab)
        return large_usable(h, p);
    block_at(h, p, slab, &word, &bits);
    return size_of(word & CLASS_BITS);
}

/* In place when the class stays. */
static int slab_resize(hl_heap *h, uint64_t p, uint64_t size)
{
    uint64_t slab = slab_at(h, p), word, bits;
    if (!slab)
        return large_resize(h, p, size);
    block_at(h, p, slab, &word, &bits);
    return size <= largest(h) && !large_serves(h, size) && class_of(size) == (word & CLASS_BITS);
}

/* ---- walk and check ---- */

/* How many blocks the slab has; heap_corrupt when its word is not sound. */
static uint64_t blocks_of(hl_heap *h, uint64_t slab, uint64_t word)
{
    uint64_t size = size_of(class_in(h, slab, word));
    if (pages_of(word) != pages_for(h, size))
        heap_corrupt(h, slab, HEAP_BROKEN_HEADER);
    return blocks_in(h, size, pages_of(word));
}

/* The pages of a chunk whose words are sound. */
static uint64_t pages_of_chunk(hl_heap *h, uint64_t chunk, uint64_t word)
{
    uint64_t counts = heap_load(h, chunk + HOME), pages = counts >> 32;
    if (!start_of(h, word) || pages != chunk_pages(h) || (uint32_t)counts > pages)
        heap_corrupt(h, chunk, HEAP_BROKEN_HEADER);
    return pages;
}

/* The span of a chunk or a slab from `place` on, its page or its block; 0 after the last. */
static int walk_descriptor(hl_heap *h, uint64_t at, uint64_t *place, hl_span *out)
{
    uint64_t word = heap_load(h, at + WORD), page = env_page_size(h->env), start = start_of(h, word);
    if (!word)
        return 0;
    if ((word & CLASS_BITS) == CHUNK) {
        uint64_t pages = pages_of_chunk(h, at, word), length;
        uint64_t first = bitmap_run(h, at + BITS, pages, *place, CAPACITY, &length);
        if (first >= pages)
            return 0;
        *out = (hl_span){start + first * page, length * page, start + first * page, length * page, HEAP_FREE};
        *place = first + length;
        return 1;
    }
    uint64_t blocks = blocks_of(h, at, word), size = size_of(word & CLASS_BITS), i = (*place)++;
    uint64_t p = start + i * size, end = start + pages_of(word) * page;
    if (i < blocks) {
        int is_free = heap_load(h, at + BITS + i / 64 * 8) >> i % 64 & 1;
        *out = (hl_span){p, size, p, size, is_free ? HEAP_FREE : HEAP_ALLOCATED};
        return 1;
    }
    *out = heap_metadata(p, end - p); /* behind the last block */
    return i == blocks && p < end;
}

/* The root with all that is by brk, cut where the page map begins and ends. */
static int walk_metadata(hl_heap *h, const pagemap *m, uint64_t *place, hl_span *out)
{
    uint64_t area = area_of(h), map_end = m->at + 8 * pagemap_slots(m), end = brk_end(h);
    uint64_t from = *place ? *place : h->root;
    uint64_t to = from < area ? area : from < m->at ? m->at : from < map_end ? map_end : end;
    *out = heap_metadata(from, to - from);
    *place = to;
    return from < end;
}

/* Whether root and page map lie as they have to; the page map in *m. */
static void verify_root(hl_heap *h, pagemap *m)
{
    uint64_t end = brk_end(h), fresh = heap_load(h, h->root + ROOT_FRESH), area = area_of(h);
    *m = pagemap_load(h, h->root + ROOT_MAP);
    if (end % env_page_size(h->env) || end > env_break(h->env) || fresh % DESCRIPTOR || fresh < area || fresh > end)
        heap_corrupt(h, h->root, HEAP_BROKEN_ROOT);
    if (m->at < area || m->at > fresh || fresh - m->at < 8 * pagemap_slots(m))
        heap_corrupt(h, h->root, HEAP_BROKEN_ROOT);
}

/* place[0]: where it is in what is by brk.  place[1], place[2]: the descriptor, and where in its pages.
 * place[3]: how far it is in the large blocks. */
static int slab_walk(hl_heap *h, uint64_t place[4], hl_span *out)
{
    pagemap m;
    verify_root(h, &m);
    if (walk_metadata(h, &m, &place[0], out))
        return 1;
    uint64_t fresh = heap_load(h, h->root + ROOT_FRESH);
    if (!place[1])
        place[1] = area_of(h);
    for (; place[1] < fresh; place[1] += DESCRIPTOR, place[2] = 0) {
        if (place[1] == m.at)
            place[1] += 8 * pagemap_slots(&m);
        if (place[1] < fresh && walk_descriptor(h, place[1], &place[2], out))
            return 1;
    }
    return large_walk(h, &place[3], out);
}

/* What the check has met among the descriptors. */
typedef struct tally {
    pagemap map;
    uint64_t fresh;
    uint64_t slabs, spares, idle, empty;
    uint64_t tiles;  /* slabs met page by page in their chunks */
    uint64_t listed; /* slabs and chunks that belong in a list */
    uint64_t mapped; /* pages that blocks start in */
} tally;

/* Whether a descriptor stands there. */
static int stands(const hl_heap *h, const tally *t, uint64_t link)
{
    return link >= area_of(h) && link < t->fresh && link % DESCRIPTOR == 0 &&
           (link < t->map.at || link >= t->map.at + 8 * pagemap_slots(&t->map));
}

/* The slab that the page map has for p, or 0. */
static uint64_t mapped_to(hl_heap *h, const tally *t, uint64_t p)
{
    uint64_t slot;
    pagemap_search(h, &t->map, p, &slot);
    uint64_t slab = area_of(h) + DESCRIPTOR * pagemap_number(&t->map, slot);
    return slot && stands(h, t, slab) ? slab : 0;
}

/* A descriptor that belongs in the list is pointed to by a word that may do so. */
static void check_listed(hl_heap *h, tally *t, uint64_t at, uint64_t head)
{
    uint64_t pointer = heap_load(h, at + PREV);
    if ((pointer != head && !stands(h, t, pointer - NEXT)) || heap_load(h, pointer) != at)
        heap_corrupt(h, at, HEAP_BROKEN_LINK);
    t->listed++;
}

/* Behind the n-th no bit is set. */
static void check_bits(hl_heap *h, uint64_t at, uint64_t n)
{
    uint64_t last = bitmap_words(n) - 1;
    if (heap_load(h, at + BITS + 8 * last) & ~bitmap_mask(n, last))
        heap_corrupt(h, at, HEAP_BROKEN_INDEX);
}

/* Every page of the chunk is free, or of a slab that starts where the one before it ends. */
static void check_chunk(hl_heap *h, tally *t, uint64_t chunk, uint64_t word)
{
    uint64_t pages = pages_of_chunk(h, chunk, word), page = env_page_size(h->env), used = 0, i = 0;
    check_bits(h, chunk, pages);
    while (i < pages) {
        uint64_t length, first = bitmap_run(h, chunk + BITS, pages, i, 1, &length), size;
        if (first == i) {
            i++;
            continue;
        }
        uint64_t p = start_of(h, word) + i * page, slab = mapped_to(h, t, p);
        uint64_t slab_word = slab ? heap_load(h, slab + WORD) : 0;
        size = pages_of(slab_word);
        if (!slab || (slab_word & CLASS_BITS) == CHUNK || start_of(h, slab_word) != p || !size ||
            size > first - i || heap_load(h, slab + HOME) != chunk)
            heap_corrupt(h, p, HEAP_BROKEN_INDEX);
        t->tiles++, used += size, i += size;
    }
    if (used != (uint32_t)heap_load(h, chunk + HOME))
        heap_corrupt(h, chunk, HEAP_BROKEN_HEADER);
    if (used < pages)
        check_listed(h, t, chunk, chunks_head(h));
    t->idle += !used;
}

/* Hint and bits say the same, and the page map leads here from each page that a block starts in. */
static void check_slab(hl_heap *h, tally *t, uint64_t slab, uint64_t word)
{
    uint64_t blocks = blocks_of(h, slab, word), size = size_of(word & CLASS_BITS), page = env_page_size(h->env);
    unsigned hint = hint_of(word);
    check_bits(h, slab, blocks);
    uint64_t first = bitmap_next_word(h, slab + BITS, blocks, 0);
    if ((hint == EMPTY) != bitmap_is_full(h, slab + BITS, blocks)) /* none but those kept have no block in use */
        heap_corrupt(h, slab, HEAP_BROKEN_INDEX);
    if (hint != EMPTY && hint != (first == bitmap_words(blocks) ? FULL : first))
        heap_corrupt(h, slab, HEAP_BROKEN_INDEX);
    if (hint != FULL)
        check_listed(h, t, slab, head_of(h, word & CLASS_BITS));
    for (uint64_t i = 0, offset; i < blocks; i = block_from(offset + page, size)) {
        offset = i * size & ~(page - 1);
        if (mapped_to(h, t, start_of(h, word) + offset) != slab)
            heap_corrupt(h, start_of(h, word) + offset, HEAP_BROKEN_INDEX);
        t->mapped++;
    }
    t->slabs++;
    t->empty += hint == EMPTY ? pages_of(word) : 0;
}

/* How many descriptors the list has; each is of the class, and points back. */
static uint64_t check_list(hl_heap *h, const tally *t, uint64_t head, unsigned class)
{
    uint64_t count = 0, pointer = head, at;
    for (; (at = heap_load(h, pointer)); pointer = at + NEXT, count++) {
        if (!stands(h, t, at) || heap_load(h, at + PREV) != pointer) /* so no list runs in a circle */
            heap_corrupt(h, at, HEAP_BROKEN_LINK);
        if ((heap_load(h, at + WORD) & CLASS_BITS) != class)
            heap_corrupt(h, at, HEAP_BROKEN_INDEX);
    }
    return count;
}

/* The list of spare descriptors has all of them. */
static void check_spares(hl_heap *h, const tally *t)
{
    uint64_t left = t->spares, at = heap_load(h, h->root + ROOT_SPARE);
    for (; at; at = heap_load(h, at + NEXT))
        if (!stands(h, t, at) || heap_load(h, at + WORD) || !left--)
            heap_corrupt(h, at, HEAP_BROKEN_LINK);
    if (left)
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
}

/* The page map has the pages that blocks start in, each where a search finds it, and no other. */
static void check_map(hl_heap *h, const tally *t)
{
    uint64_t count = 0, slot, found;
    for (uint64_t n = 0; n < pagemap_slots(&t->map); n++) {
        slot = heap_load(h, pagemap_slot(&t->map, n));
        if (slot && pagemap_search(h, &t->map, pagemap_page(&t->map, slot), &found) != n)
            heap_corrupt(h, pagemap_page(&t->map, slot), HEAP_BROKEN_INDEX);
        count += slot != 0;
    }
    if (count != t->mapped || count != heap_load(h, t->map.base + PAGEMAP_COUNT) ||
        2 * count > pagemap_slots(&t->map))
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
}

static void slab_check(hl_heap *h)
{
    tally t = {0};
    verify_root(h, &t.map);
    t.fresh = heap_load(h, h->root + ROOT_FRESH);
    for (uint64_t at = area_of(h); at < t.fresh; at += DESCRIPTOR) {
        if (!stands(h, &t, at))
            continue;
        uint64_t word = heap_load(h, at + WORD);
        if (!word)
            t.spares++;
        else if ((word & CLASS_BITS) == CHUNK)
            check_chunk(h, &t, at, word);
        else
            check_slab(h, &t, at, word);
    }
    uint64_t listed = check_list(h, &t, chunks_head(h), CHUNK);
    for (unsigned class = 0; class < classes(h); class++)
        listed += check_list(h, &t, head_of(h, class), class);
    if (listed != t.listed || t.tiles != t.slabs || t.idle != heap_load(h, h->root + ROOT_IDLE) ||
        t.empty != heap_load(h, h->root + ROOT_EMPTY))
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    check_spares(h, &t);
    check_map(h, &t);
    large_check(h);
}

static const hl_option options[] = {
    HEAP_BYTES(option[OPTION_CHUNK], "chunk", "256KiB", NULL, 1ull << 46,
               "asked for at once for slabs, between 64 pages and 256"),
    HEAP_BYTES(option[OPTION_EMPTY], "keep", "16KiB", NULL, 1ull << 46,
               "of slabs without a block in use stay slabs"),
    HEAP_BYTES(option[OPTION_CHUNKS], "idle_chunks", "2", NULL, 1ull << 46,
               "chunks without a page in use that are kept"),
    LARGE_OPTIONS,
    HEAP_CHECK_OPTIONS,
    {0}};

static const hl_design slab = {
    .name = "slab",
    .magic = 0x2062616c732d6c68, /* "hl-slab " */
    .traits = HEAP_TRIMS | HEAP_REUSES | HEAP_ANY_ORDER | HEAP_DETECTS | HEAP_MAPS_LARGE,
    .smallest = HEAP_ALIGN,
    .options = options,
    .create = slab_create,
    .malloc = slab_malloc,
    .free = slab_free,
    .usable = slab_usable,
    .resize = slab_resize,
    .walk = slab_walk,
    .check = slab_check,
};
HEAP_DESIGN(slab);
