/* Binary buddy: every block is 2^k bytes, and its payload lies at a multiple of 2^k.
 *
 *        p - 8    p          p + 8                                p - 8 + 2^k
 *   free +--------+----------+----------+--------------------------+
 *        | header | next     | prev     |                          |
 *        +--------+----------+----------+--------------------------+
 *   used | header | payload, 2^k - 8 bytes                         |
 *        +--------+------------------------------------------------+
 *
 *   root -> +40   orders    bit k is set when list k is not empty
 *           +48   heads     of the lists of free blocks, one an order: the first payload, or 0
 *           +384            16 bytes for the first payload's header, or the fence of a heap without a block
 *
 * A block is named by its payload's address p, and its buddy is p ^ 2^k.  The heap is [first, end) in
 * payload addresses.  The header before the end is the fence, of an allocated block of order 0, so that
 * the right buddy of every block has a header to read.
 *
 * Source: Knowlton, CACM 8 (1965) 623-624; Knuth, TAOCP vol. 1, 2.5, algorithms R and S.
 * heaplab/allocators/designs/buddy.py is the twin, and has the vital statistics and the reasons.
 */
#include <errno.h>

#include "../parts/seal.h"
#include "../sources/brk.h"

enum { HEADER = 8, NEXT = 0, PREV = 8 };
enum { LEAST = 5, MOST = 46 };
enum { ORDER = 63, ALLOCATED = 64, FENCE = ALLOCATED };
enum { ROOT_ORDERS = ROOT_DESIGN, ROOT_HEADS = ROOT_DESIGN + 8 };
enum { ROOT_SIZE = ROOT_HEADS + 8 * (MOST - LEAST + 1) + 16 };

static inline uint64_t power(unsigned k) { return 1ull << k; }

static inline unsigned log2_floor(uint64_t n) { return 63u - (unsigned)__builtin_clzll(n); }

static inline uint64_t head_of(const hl_heap *h, unsigned k) { return h->root + ROOT_HEADS + 8 * (k - LEAST); }

static inline uint64_t first_of(const hl_heap *h)
{
    return heap_round_up(h->root + ROOT_SIZE, power(LEAST));
}

/* The order of the smallest block with room for `size` bytes; MOST + 1 when there is none. */
static inline unsigned order_of(uint64_t size)
{
    if (size <= power(LEAST) - HEADER)
        return LEAST;
    return size <= power(MOST) - HEADER ? log2_floor(size + HEADER - 1) + 1 : MOST + 1;
}

/* The order of the largest aligned block that starts, or ends, at `at` within `room` bytes. */
static inline unsigned largest(uint64_t at, uint64_t room)
{
    unsigned alignment = (unsigned)__builtin_ctzll(at), most = log2_floor(room);
    return alignment < most ? alignment : most;
}

/* ---- headers ---- */

/* Order and state of the block at p. */
static inline unsigned tag_of(hl_heap *h, uint64_t p)
{
    uint64_t header = heap_load(h, p - HEADER);
    if (heap_checks_all(h) && !is_sealed(h, p, header))
        heap_corrupt(h, p, HEAP_BROKEN_HEADER);
    return (unsigned)(header & SEAL_TAG);
}

/* What stands before p is no header: find out by walking whether one was ever there. */
static _Noreturn void diagnose(hl_heap *h, uint64_t p)
{
    uint64_t q = first_of(h);
    while (q < p)
        q += power(tag_of(h, q) & ORDER);
    heap_corrupt(h, p, q == p ? HEAP_BROKEN_HEADER : HEAP_FOREIGN_POINTER);
}

/* The order of the allocated block at p. */
static inline unsigned order_of_allocated(hl_heap *h, uint64_t p)
{
    if (heap_checks_all(h) && p & (power(LEAST) - 1))
        heap_corrupt(h, p, HEAP_FOREIGN_POINTER);
    uint64_t header = heap_load(h, p - HEADER);
    unsigned k = header & ORDER;
    if (heap_checks_all(h) && header != seal(h, p, k | ALLOCATED)) {
        if (header == seal(h, p, k))
            heap_corrupt(h, p, HEAP_DOUBLE_FREE);
        diagnose(h, p);
    }
    return k;
}

/* ---- the lists of free blocks ---- */

static void push(hl_heap *h, uint64_t p, unsigned k)
{
    uint64_t head = head_of(h, k), orders = h->root + ROOT_ORDERS;
    uint64_t next = heap_load(h, head);
    heap_store(h, p - HEADER, seal(h, p, k));
    heap_store(h, p + NEXT, next);
    heap_store(h, p + PREV, head);
    heap_store(h, head, p);
    if (next)
        heap_store(h, next + PREV, p);
    else
        heap_store(h, orders, heap_load(h, orders) | power(k));
}

/* Whether a free block may stand at p. */
static inline int is_place(const hl_heap *h, uint64_t p)
{
    return !(p & (power(LEAST) - 1)) && p >= first_of(h) && p < env_break(h->env);
}

/* The next block of the list of p, to which the word at `pointer` leads; that block has to point back. */
static inline uint64_t next_of(hl_heap *h, uint64_t p)
{
    uint64_t next = heap_load(h, p + NEXT);
    if (heap_checks_links(h) && next && (!is_place(h, next) || heap_load(h, next + PREV) != p + NEXT))
        heap_corrupt(h, p, HEAP_BROKEN_LINK);
    return next;
}

static void unlink_block(hl_heap *h, uint64_t p, unsigned k)
{
    uint64_t orders = h->root + ROOT_ORDERS;
    uint64_t next = next_of(h, p), pointer = heap_load(h, p + PREV);
    if (heap_checks_links(h) &&
        ((pointer != head_of(h, k) && !is_place(h, pointer)) || heap_load(h, pointer) != p))
        heap_corrupt(h, p, HEAP_BROKEN_LINK);
    heap_store(h, pointer, next);
    if (next)
        heap_store(h, next + PREV, pointer);
    else if (pointer == head_of(h, k))
        heap_store(h, orders, heap_load(h, orders) & ~power(k));
}

/* ---- the end of the heap ---- */

/* Where the free blocks that reach to the end start. */
static uint64_t tail_of(hl_heap *h, uint64_t end)
{
    uint64_t first = first_of(h), at = end;
    while (at > first) {
        /* blocks nest: the last one is the largest that fits before `at`, or in its upper half, and so on */
        unsigned k = largest(at, at - first), tag;
        while (((tag = tag_of(h, at - power(k))) & ORDER) < k)
            k--;
        if (tag != k)
            break;
        at -= power(k);
    }
    return at;
}

static void unlink_tail(hl_heap *h, uint64_t tail, uint64_t end)
{
    while (tail < end) {
        unsigned k = tag_of(h, tail);
        unlink_block(h, tail, k);
        tail += power(k);
    }
}

/* Makes [at, end) free blocks, as large as they can be, the lowest first in its list; sets the fence. */
static void cut(hl_heap *h, uint64_t at, uint64_t end)
{
    heap_store(h, end - HEADER, seal(h, end, FENCE));
    while (end > at) {
        unsigned k = largest(end, end - at);
        end -= power(k);
        push(h, end, k);
    }
}

/* Grows the heap until there is a free block of order k; 0 with errno when it cannot be. */
static int extend(hl_heap *h, unsigned k)
{
    if (k > MOST) {
        env_set_errno(h->env, ENOMEM);
        return 0;
    }
    uint64_t end = brk_end(h);
    uint64_t tail = tail_of(h, end), grown;
    if (!brk_grow(h, heap_round_up(tail, power(k)) + power(k) - end, &grown))
        return 0;
    unlink_tail(h, tail, end);
    cut(h, tail, end + grown);
    return 1;
}

static inline int is_page(hl_heap *h, unsigned k) { return power(k) >= env_page_size(h->env); }

/* Gives the end of the heap back when enough of it is free.  Called when a block of at least a page
 * became free: a smaller one cannot make whole pages free. */
static void trim(hl_heap *h)
{
    uint64_t end = brk_end(h);
    uint64_t tail = tail_of(h, end);
    uint64_t keep = brk_keep(h, tail);
    if (!brk_trims(h, end, keep))
        return;
    unlink_tail(h, tail, end);
    cut(h, tail, brk_shrink(h, keep) ? keep : end);
}

/* ---- malloc ---- */

static int buddy_create(hl_heap *h)
{
    uint64_t end = brk_begin(h, ROOT_SIZE);
    if (!end)
        return 0;
    large_begin(h);
    env_zero(h->env, h->root + ROOT_ORDERS, ROOT_SIZE - ROOT_ORDERS);
    cut(h, first_of(h), end);
    return 1;
}

/* A block of order k, split from the smallest free one there is (algorithm R). */
static uint64_t take(hl_heap *h, unsigned k)
{
    uint64_t orders = heap_load(h, h->root + ROOT_ORDERS);
    if (!(orders >> k)) {
        if (!extend(h, k))
            return 0;
        orders = heap_load(h, h->root + ROOT_ORDERS);
    }
    unsigned j = k + (unsigned)__builtin_ctzll(orders >> k);
    uint64_t head = head_of(h, j);
    uint64_t p = heap_load(h, head);
    if (heap_checks_all(h) && heap_load(h, p - HEADER) != seal(h, p, j))
        heap_corrupt(h, p, HEAP_BROKEN_HEADER);
    uint64_t next = next_of(h, p), left = orders;
    heap_store(h, head, next);
    if (next)
        heap_store(h, next + PREV, head);
    else
        left ^= power(j);
    for (unsigned i = j; i-- > k;) { /* lists k to j - 1 are empty: no need to look */
        uint64_t upper = p + power(i);
        heap_store(h, upper - HEADER, seal(h, upper, i));
        heap_store(h, upper + NEXT, 0);
        heap_store(h, upper + PREV, head_of(h, i));
        heap_store(h, head_of(h, i), upper);
    }
    left |= power(j) - power(k);
    if (left != orders)
        heap_store(h, h->root + ROOT_ORDERS, left);
    heap_store(h, p - HEADER, seal(h, p, k | ALLOCATED));
    return p;
}

/* Makes the allocated block at p, of order k, one of order `to`; its upper halves become free. */
static void split(hl_heap *h, uint64_t p, unsigned k, unsigned to)
{
    for (unsigned i = k; i-- > to;)
        push(h, p + power(i), i);
    heap_store(h, p - HEADER, seal(h, p, to | ALLOCATED));
}

static uint64_t buddy_malloc(hl_heap *h, uint64_t size, uint64_t alignment)
{
    if (large_serves(h, size) || (alignment > HEAP_ALIGN && large_serves(h, alignment)))
        return large_malloc(h, size, alignment);
    unsigned k = order_of(size), aligned = log2_floor(alignment);
    uint64_t p = take(h, k > aligned ? k : aligned);
    if (p && k < aligned)
        split(h, p, aligned, k);
    return p;
}

/* Whether p is a block of the heap's, and not a large one. */
static inline int is_small(hl_heap *h, uint64_t p) { return p >= h->root + ROOT_SIZE && p < brk_end(h); }

/* ---- free ---- */

/* Merges with the buddy as long as it is free and whole (algorithm S). */
static void buddy_free(hl_heap *h, uint64_t p)
{
    if (!is_small(h, p)) {
        large_free(h, p);
        return;
    }
    unsigned k = order_of_allocated(h, p);
    uint64_t first = first_of(h), at = p, buddy;
    while ((buddy = at ^ power(k)) >= first && tag_of(h, buddy) == k) {
        unlink_block(h, buddy, k);
        at &= ~power(k);
        k++;
    }
    if (at != p) /* inside the merged block now: it shall not pass for allocated */
        heap_store(h, p - HEADER, seal(h, p, LEAST));
    push(h, at, k);
    if (is_page(h, k))
        trim(h);
}

static uint64_t buddy_usable(hl_heap *h, uint64_t p)
{
    return is_small(h, p) ? power(order_of_allocated(h, p)) - HEADER : large_usable(h, p);
}

static int buddy_resize(hl_heap *h, uint64_t p, uint64_t size)
{
    if (!is_small(h, p))
        return large_resize(h, p, size);
    if (large_serves(h, size))
        return 0;
    unsigned k = order_of_allocated(h, p), wanted = order_of(size);
    if (wanted < k) {
        split(h, p, k, wanted);
        if (is_page(h, k - 1))
            trim(h);
    } else if (wanted > k) {
        if (p & (power(wanted) - 1))
            return 0;
        for (unsigned i = k; i < wanted; i++)
            if (tag_of(h, p + power(i)) != i)
                return 0;
        for (unsigned i = k; i < wanted; i++)
            unlink_block(h, p + power(i), i);
        heap_store(h, p - HEADER, seal(h, p, wanted | ALLOCATED));
    }
    return 1;
}

/* ---- walk and check ---- */

/* place[0]: where the walk is in the part that grows by brk: 0, a block, or behind the fence.
 * place[1]: how far it is in the large blocks. */
static int buddy_walk(hl_heap *h, uint64_t place[4], hl_span *out)
{
    uint64_t p = place[0], end = brk_end(h);
    if (!p) {
        *out = heap_metadata(h->root, first_of(h) - HEADER - h->root);
        place[0] = first_of(h);
    } else if (p < end) {
        unsigned tag = tag_of(h, p);
        uint64_t size = power(tag & ORDER);
        *out = (hl_span){p - HEADER, size, p, size - HEADER, tag & ALLOCATED ? HEAP_ALLOCATED : HEAP_FREE};
        place[0] = p + size;
    } else if (p == end) {
        *out = heap_metadata(end - HEADER, HEADER); /* the fence */
        place[0] = p + HEADER;
    } else {
        return large_walk(h, &place[1], out);
    }
    return 1;
}

/* How many free blocks there are, and the sum of their addresses. */
typedef struct tally {
    uint64_t count, total;
} tally;

/* Whether a block of order k can be at p. */
static int may_be(const hl_heap *h, uint64_t p, unsigned k, uint64_t end)
{
    return p >= first_of(h) && p < end && !(p & (power(k) - 1));
}

static tally check_blocks(hl_heap *h, uint64_t end)
{
    tally free_blocks = {0, 0};
    for (uint64_t p = first_of(h), size; p < end; p += size) {
        uint64_t header = heap_load(h, p - HEADER);
        unsigned k = header & ORDER;
        size = power(k);
        int sound = header == seal(h, p, k) || header == seal(h, p, k | ALLOCATED);
        if (!sound || k < LEAST || k > MOST || (p & (size - 1)) || size > end - p)
            heap_corrupt(h, p, HEAP_BROKEN_HEADER);
        if (header & ALLOCATED)
            continue;
        /* p + size is at most the end, where the fence is */
        if (!(p & size) && heap_load(h, p + size - HEADER) == seal(h, p + size, k))
            heap_corrupt(h, p, HEAP_UNCOALESCED);
        uint64_t pointer = heap_load(h, p + PREV);
        if (pointer != head_of(h, k) && !may_be(h, pointer, k, end))
            heap_corrupt(h, p, HEAP_BROKEN_LINK);
        if (heap_load(h, pointer) != p)
            heap_corrupt(h, p, HEAP_BROKEN_LINK);
        free_blocks.count++, free_blocks.total += p;
    }
    if (heap_load(h, end - HEADER) != seal(h, end, FENCE))
        heap_corrupt(h, end, HEAP_BROKEN_HEADER);
    return free_blocks;
}

static tally check_lists(hl_heap *h, uint64_t end)
{
    tally listed = {0, 0};
    uint64_t orders = heap_load(h, h->root + ROOT_ORDERS);
    for (unsigned k = LEAST; k <= MOST; k++) {
        uint64_t pointer = head_of(h, k), p = heap_load(h, pointer);
        if (!p != !(orders & power(k)))
            heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
        for (; p; pointer = p, p = heap_load(h, p + NEXT)) {
            if (!may_be(h, p, k, end) || heap_load(h, p - HEADER) != seal(h, p, k))
                heap_corrupt(h, p, HEAP_BROKEN_INDEX);
            if (heap_load(h, p + PREV) != pointer) /* so no list runs in a circle */
                heap_corrupt(h, p, HEAP_BROKEN_LINK);
            listed.count++, listed.total += p;
        }
    }
    return listed;
}

static void buddy_check(hl_heap *h)
{
    uint64_t end = brk_end(h);
    if (end % env_page_size(h->env) || end < first_of(h))
        heap_corrupt(h, h->root, HEAP_BROKEN_ROOT);
    tally walked = check_blocks(h, end), listed = check_lists(h, end);
    if (walked.count != listed.count || walked.total != listed.total)
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    large_check(h);
}

static const hl_option options[] = {LARGE_OPTIONS, BRK_OPTIONS, HEAP_CHECK_OPTIONS, {0}};

static const hl_design buddy = {
    .name = "buddy",
    .magic = 0x79646475622d6c68, /* "hl-buddy" */
    .traits = HEAP_TRIMS | HEAP_COALESCES | HEAP_REUSES | HEAP_ANY_ORDER | HEAP_DETECTS | HEAP_HEADERS |
              HEAP_CONTIGUOUS | HEAP_MAPS_LARGE | HEAP_RESIZES,
    .smallest = 1u << LEAST,
    .options = options,
    .create = buddy_create,
    .malloc = buddy_malloc,
    .free = buddy_free,
    .usable = buddy_usable,
    .resize = buddy_resize,
    .walk = buddy_walk,
    .check = buddy_check,
};
HEAP_DESIGN(buddy);
