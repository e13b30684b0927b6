/* Binary buddy: every block is 2^k bytes, and its payload lies at a multiple of 2^k.
 *
 *        p - 8    p          p + 8                                p - 8 + 2^k
 *   free +--------+----------+----------+--------------------------+
 *        | header | next     | prev     |                          |
 *        +--------+----------+----------+--------------------------+
 *   used | header | payload, 2^k - 8 bytes                         |
 *        +--------+------------------------------------------------+
 *
 *   root -> +24   orders    bit k is set when list k is not empty
 *           +32   heads     of the lists of free blocks, one an order: the first payload, or 0
 *           +368            16 bytes for the first payload's header, or the fence of a heap without a block
 *
 * A block is named by its payload's address p, and its buddy is p ^ 2^k.  The heap is [first, end) in
 * payload addresses.  The header before the end is the fence, of an allocated block of order 0, so that
 * the right buddy of every block has a header to read.
 *
 * Source: Knowlton, CACM 8 (1965) 623-624; Knuth, TAOCP vol. 1, 2.5, algorithms R and S.
 * heaplab/allocators/buddy.py is the twin, and has the vital statistics and the reasons.
 */
#include <errno.h>

#include "heap.h"
#include "seal.h"

enum { HEADER = 8, NEXT = 0, PREV = 8 };
enum { LEAST = 5, MOST = 46 };
enum { ORDER = 63, ALLOCATED = 64, FENCE = ALLOCATED };
enum { ROOT_ORDERS = HL_ROOT_DESIGN, ROOT_HEADS = HL_ROOT_DESIGN + 8 };
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
    if (!hl_is_sealed(p, header))
        heap_corrupt(h, p, HL_BROKEN_HEADER);
    return (unsigned)(header & HL_SEAL_TAG);
}

/* What stands before p is no header: find out by walking whether one was ever there. */
static _Noreturn void blame(hl_heap *h, uint64_t p)
{
    uint64_t q = first_of(h);
    while (q < p)
        q += power(tag_of(h, q) & ORDER);
    heap_corrupt(h, p, q == p ? HL_BROKEN_HEADER : HL_FOREIGN_POINTER);
}

/* The order of the allocated block at p. */
static inline unsigned demand(hl_heap *h, uint64_t p)
{
    if (p & (power(LEAST) - 1))
        heap_corrupt(h, p, HL_FOREIGN_POINTER);
    uint64_t header = heap_load(h, p - HEADER);
    unsigned k = header & ORDER;
    if (header != hl_seal(p, k | ALLOCATED)) {
        if (header == hl_seal(p, k))
            heap_corrupt(h, p, HL_DOUBLE_FREE);
        blame(h, p);
    }
    return k;
}

/* ---- the lists of free blocks ---- */

static void push(hl_heap *h, uint64_t p, unsigned k)
{
    uint64_t head = head_of(h, k), orders = h->root + ROOT_ORDERS;
    uint64_t next = heap_load(h, head);
    heap_store(h, p - HEADER, hl_seal(p, k));
    heap_store(h, p + NEXT, next);
    heap_store(h, p + PREV, head);
    heap_store(h, head, p);
    if (next)
        heap_store(h, next + PREV, p);
    else
        heap_store(h, orders, heap_load(h, orders) | power(k));
}

static void unlink_block(hl_heap *h, uint64_t p, unsigned k)
{
    uint64_t orders = h->root + ROOT_ORDERS;
    uint64_t next = heap_load(h, p + NEXT), pointer = heap_load(h, p + PREV);
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
    heap_store(h, end - HEADER, hl_seal(end, FENCE));
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
        seam_set_errno(h->seam, ENOMEM);
        return 0;
    }
    uint64_t end = heap_load(h, h->root + HL_ROOT_END);
    uint64_t tail = tail_of(h, end), grown;
    if (!heap_grow(h, heap_round_up(tail, power(k)) + power(k) - end, &grown))
        return 0;
    unlink_tail(h, tail, end);
    cut(h, tail, end + grown);
    return 1;
}

static inline int is_page(hl_heap *h, unsigned k) { return power(k) >= seam_page_size(h->seam); }

/* Gives the end of the heap back when enough of it is free.  Called when a block of at least a page
 * became free: a smaller one cannot make whole pages free. */
static void trim(hl_heap *h)
{
    uint64_t end = heap_load(h, h->root + HL_ROOT_END);
    uint64_t tail = tail_of(h, end);
    uint64_t to = heap_round_up(tail + h->top_pad, seam_page_size(h->seam));
    if (end - tail < h->trim_threshold || to >= end)
        return;
    unlink_tail(h, tail, end);
    cut(h, tail, heap_shrink(h, to) ? to : end);
}

/* ---- malloc ---- */

static int buddy_init(hl_heap *h, uint64_t end)
{
    seam_fill_zero(h->seam, h->root + ROOT_ORDERS, ROOT_SIZE - ROOT_ORDERS);
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
    uint64_t p = heap_load(h, head), next = heap_load(h, p + NEXT), left = orders;
    heap_store(h, head, next);
    if (next)
        heap_store(h, next + PREV, head);
    else
        left ^= power(j);
    for (unsigned i = j; i-- > k;) { /* lists k to j - 1 are empty: no need to look */
        uint64_t upper = p + power(i);
        heap_store(h, upper - HEADER, hl_seal(upper, i));
        heap_store(h, upper + NEXT, 0);
        heap_store(h, upper + PREV, head_of(h, i));
        heap_store(h, head_of(h, i), upper);
    }
    left |= power(j) - power(k);
    if (left != orders)
        heap_store(h, h->root + ROOT_ORDERS, left);
    heap_store(h, p - HEADER, hl_seal(p, k | ALLOCATED));
    return p;
}

/* Makes the allocated block at p, of order k, one of order `to`; its upper halves become free. */
static void split(hl_heap *h, uint64_t p, unsigned k, unsigned to)
{
    for (unsigned i = k; i-- > to;)
        push(h, p + power(i), i);
    heap_store(h, p - HEADER, hl_seal(p, to | ALLOCATED));
}

static uint64_t buddy_malloc(hl_heap *h, uint64_t size) { return take(h, order_of(size)); }

static uint64_t buddy_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size)
{
    unsigned k = order_of(size), aligned = log2_floor(alignment);
    uint64_t p = take(h, k > aligned ? k : aligned);
    if (p && k < aligned)
        split(h, p, aligned, k);
    return p;
}

/* ---- free ---- */

/* Merges with the buddy as long as it is free and whole (algorithm S). */
static void buddy_free(hl_heap *h, uint64_t p)
{
    unsigned k = demand(h, p);
    uint64_t first = first_of(h), at = p, buddy;
    while ((buddy = at ^ power(k)) >= first && tag_of(h, buddy) == k) {
        unlink_block(h, buddy, k);
        at &= ~power(k);
        k++;
    }
    if (at != p) /* inside the merged block now: it shall not pass for allocated */
        heap_store(h, p - HEADER, hl_seal(p, LEAST));
    push(h, at, k);
    if (is_page(h, k))
        trim(h);
}

static uint64_t buddy_usable_size(hl_heap *h, uint64_t p) { return power(demand(h, p)) - HEADER; }

static int buddy_resize(hl_heap *h, uint64_t p, uint64_t size)
{
    unsigned k = demand(h, p), wanted = order_of(size);
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
        heap_store(h, p - HEADER, hl_seal(p, wanted | ALLOCATED));
    }
    return 1;
}

/* ---- walk and check ---- */

static int buddy_next(hl_heap *h, uint64_t *cursor, hl_block *out)
{
    uint64_t p = *cursor ? *cursor : first_of(h);
    if (p >= heap_load(h, h->root + HL_ROOT_END))
        return 0;
    unsigned tag = tag_of(h, p);
    out->address = p;
    out->size = power(tag & ORDER);
    out->usable = out->size - HEADER;
    out->state = tag & ALLOCATED ? HL_BLOCK_ALLOCATED : HL_BLOCK_FREE;
    *cursor = p + out->size;
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
        int sound = header == hl_seal(p, k) || header == hl_seal(p, k | ALLOCATED);
        if (!sound || k < LEAST || k > MOST || (p & (size - 1)) || size > end - p)
            heap_corrupt(h, p, HL_BROKEN_HEADER);
        if (header & ALLOCATED)
            continue;
        /* p + size is at most the end, where the fence is */
        if (!(p & size) && heap_load(h, p + size - HEADER) == hl_seal(p + size, k))
            heap_corrupt(h, p, HL_UNCOALESCED);
        uint64_t pointer = heap_load(h, p + PREV);
        if (pointer != head_of(h, k) && !may_be(h, pointer, k, end))
            heap_corrupt(h, p, HL_BROKEN_LINK);
        if (heap_load(h, pointer) != p)
            heap_corrupt(h, p, HL_BROKEN_LINK);
        free_blocks.count++, free_blocks.total += p;
    }
    if (heap_load(h, end - HEADER) != hl_seal(end, FENCE))
        heap_corrupt(h, end, HL_BROKEN_HEADER);
    return free_blocks;
}

static tally check_lists(hl_heap *h, uint64_t end)
{
    tally listed = {0, 0};
    uint64_t orders = heap_load(h, h->root + ROOT_ORDERS);
    for (unsigned k = LEAST; k <= MOST; k++) {
        uint64_t pointer = head_of(h, k), p = heap_load(h, pointer);
        if (!p != !(orders & power(k)))
            heap_corrupt(h, h->root, HL_BROKEN_INDEX);
        for (; p; pointer = p, p = heap_load(h, p + NEXT)) {
            if (!may_be(h, p, k, end) || heap_load(h, p - HEADER) != hl_seal(p, k))
                heap_corrupt(h, p, HL_BROKEN_INDEX);
            if (heap_load(h, p + PREV) != pointer) /* so no list runs in a circle */
                heap_corrupt(h, p, HL_BROKEN_LINK);
            listed.count++, listed.total += p;
        }
    }
    return listed;
}

static void buddy_check(hl_heap *h)
{
    uint64_t end = heap_load(h, h->root + HL_ROOT_END);
    if (end % seam_page_size(h->seam) || end < first_of(h))
        heap_corrupt(h, h->root, HL_BROKEN_ROOT);
    tally walked = check_blocks(h, end), listed = check_lists(h, end);
    if (walked.count != listed.count || walked.total != listed.total)
        heap_corrupt(h, h->root, HL_BROKEN_INDEX);
}

const hl_design hl_buddy = {
    .name = "buddy",
    .magic = 0x79646475622d6c68, /* "hl-buddy" */
    .root_size = ROOT_SIZE,
    .init = buddy_init,
    .malloc = buddy_malloc,
    .aligned_alloc = buddy_aligned_alloc,
    .free = buddy_free,
    .usable_size = buddy_usable_size,
    .resize = buddy_resize,
    .next = buddy_next,
    .check = buddy_check,
};
