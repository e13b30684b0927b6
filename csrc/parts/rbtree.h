/* An index as a red-black tree: the free blocks are its nodes, in the order of size, then address.
 *
 *   base -> the tree's root, 0 when it is empty
 *
 *   block  +0         +8       +16      +24                           size - 8
 *          | header   | left   | right  | parent, red in bit 0  | ... | footer |       a free block
 *
 * The base is ROOT_INDEX in the root.  heaplab/allocators/parts/rbtree.py, the twin, has the source, and says what
 * spares references.
 */
#ifndef HL_RBTREE_H
#define HL_RBTREE_H

#include "index.h"

enum { LEFT = 8, RIGHT = 16, PARENT = 24 }; /* from the node */
enum { BOTH = LEFT + RIGHT };               /* the other side of `side` is BOTH - side */
enum { HIGHEST = 96 };                      /* no tree of 2^48 nodes is higher: 2 log2(n + 1) */

#define RED ((uint64_t)1)
#define INDEX_MIN_BLOCK 48u
#define INDEX_WORDS 1
#define INDEX_SHRINKS
#define INDEX_GROWS

/* What a search learns on its way: the largest size it passed that was too small, the word that points to the
 * block, the block's left child. */
typedef struct index_found {
    uint64_t floor, link, left;
} index_found;

static inline uint64_t tree_of(const hl_heap *h) { return h->root + ROOT_INDEX; }

/* ---- links ---- */

/* Where a node hangs: enough to take it out, or to hang another in its place. */
typedef struct node_links {
    uint64_t node;
    uint64_t left, right;
    uint64_t parent; /* with the node's own colour */
    uint64_t link;   /* the address of the word that points to the node */
} node_links;

static _Noreturn void broken_link(hl_heap *h, uint64_t node)
{
    heap_corrupt(h, node + BLOCK_HEADER, HEAP_BROKEN_LINK);
}

static inline int may_link(const hl_heap *h, uint64_t link) { return !link || index_is_link(h, link); }

/* The child of a node, or of the base with offset 0; 0 when there is none. */
static inline uint64_t child_of(hl_heap *h, uint64_t node, uint64_t offset)
{
    uint64_t child = heap_load(h, node + offset);
    if (heap_checks_links(h) && !may_link(h, child))
        broken_link(h, node);
    return child;
}

/* The word that holds a child's colour, and its parent, which has to be `parent`. */
static inline uint64_t parent_word(hl_heap *h, uint64_t child, uint64_t parent)
{
    uint64_t word = heap_load(h, child + PARENT);
    if (heap_checks_links(h) && (word & ~RED) != parent)
        broken_link(h, child);
    return word;
}

static inline int is_red(hl_heap *h, uint64_t child, uint64_t parent)
{
    return (parent_word(h, child, parent) & RED) != 0;
}

/* Gives a child of `from` another parent, and the colour in `word`. */
static inline void adopt(hl_heap *h, uint64_t child, uint64_t from, uint64_t word)
{
    if (heap_checks_links(h))
        parent_word(h, child, from);
    heap_store(h, child + PARENT, word);
}

/* The same; its colour stays. */
static inline void set_parent(hl_heap *h, uint64_t child, uint64_t from, uint64_t parent)
{
    heap_store(h, child + PARENT, parent | (parent_word(h, child, from) & RED));
}

/* The address of the word that points to `node`. */
static inline uint64_t link_to(hl_heap *h, uint64_t node, uint64_t parent)
{
    if (heap_checks_links(h) && !may_link(h, parent))
        broken_link(h, node);
    if (!parent) {
        if (heap_load(h, tree_of(h)) == node)
            return tree_of(h);
    } else if (heap_load(h, parent + LEFT) == node) {
        return parent + LEFT;
    } else if (heap_load(h, parent + RIGHT) == node) {
        return parent + RIGHT;
    }
    broken_link(h, node);
}

/* The node whose word stands at `link`; 0 for the root's.  Nodes stand at 8 mod 16. */
static inline uint64_t owner_of(const hl_heap *h, uint64_t link)
{
    return link == tree_of(h) ? 0 : link - (link % HEAP_ALIGN ? RIGHT : LEFT);
}

static inline __attribute__((always_inline)) node_links links_of(hl_heap *h, uint64_t node, const index_found *where)
{
    node_links links = {.node = node};
    links.left = where ? where->left : child_of(h, node, LEFT);
    links.right = child_of(h, node, RIGHT);
    links.parent = heap_load(h, node + PARENT);
    uint64_t parent = links.parent & ~RED;
    links.link = where ? where->link : link_to(h, node, parent);
    if (heap_checks_links(h) && owner_of(h, links.link) != parent)
        broken_link(h, node);
    return links;
}

/* No way along the tree is longer than it may be high. */
static inline void count_step(hl_heap *h, unsigned *steps, uint64_t node)
{
    if (++*steps > HIGHEST)
        heap_corrupt(h, node + BLOCK_HEADER, HEAP_BROKEN_INDEX);
}

/* The next node in order, 0 after the last. */
static uint64_t next_of(hl_heap *h, uint64_t node, node_links links)
{
    uint64_t next = links.right, smaller;
    unsigned steps = 0;
    if (next) {
        while ((smaller = child_of(h, next, LEFT))) {
            count_step(h, &steps, next);
            next = smaller;
        }
        return next;
    }
    next = links.parent & ~RED;
    if (!next || links.link == next + LEFT)
        return next;
    do {
        count_step(h, &steps, next);
        node = next;
        next = heap_load(h, node + PARENT) & ~RED;
        if (heap_checks_links(h) && !may_link(h, next))
            broken_link(h, node);
    } while (next && heap_load(h, next + LEFT) != node);
    return next;
}

/* ---- colours ---- */

/* A new leaf is red: no red node may have a red parent.
 * links: the addresses of the words that point to the nodes on the way down, and, at `leaf`, to the new one. */
static void mend_red(hl_heap *h, uint64_t node, const uint64_t *links, unsigned leaf)
{
    unsigned depth = leaf;
    uint64_t parent, grand, side;
    for (;;) {
        parent = owner_of(h, links[depth]);
        grand = owner_of(h, links[depth - 1]);
        if (!is_red(h, parent, grand))
            return;
        if (depth < 2) /* the root is black */
            heap_corrupt(h, parent + BLOCK_HEADER, HEAP_BROKEN_INDEX);
        side = links[depth - 1] - grand;
        uint64_t uncle = child_of(h, grand, BOTH - side);
        /* beside the parent of a new leaf there is nothing, or a red leaf */
        if (!uncle || (depth < leaf && !is_red(h, uncle, grand)))
            break;
        if (depth < leaf)
            heap_store(h, uncle + PARENT, grand);
        else
            adopt(h, uncle, grand, grand);
        heap_store(h, parent + PARENT, grand);
        node = grand;
        depth -= 2;
        if (!depth)
            return;
        heap_store(h, node + PARENT, owner_of(h, links[depth]) | RED);
    }
    /* the middle one of grand, parent and node comes to the top, black; the others are below it, red */
    uint64_t link = links[depth - 2], other = BOTH - side, top, near = 0, far = 0;
    if (links[depth] == parent + side) {
        top = parent;
        if (depth < leaf)
            far = child_of(h, parent, other);
    } else {
        top = node;
        if (depth < leaf) {
            near = child_of(h, node, side);
            far = child_of(h, node, other);
        }
        heap_store(h, parent + other, near);
        if (near)
            adopt(h, near, node, parent);
        heap_store(h, top + side, parent);
        heap_store(h, parent + PARENT, top | RED);
    }
    heap_store(h, grand + side, far);
    if (far)
        adopt(h, far, top, grand);
    heap_store(h, top + other, grand);
    heap_store(h, grand + PARENT, top | RED);
    heap_store(h, top + PARENT, owner_of(h, link));
    heap_store(h, link, top);
}

/* A child that the colours say is there. */
static inline uint64_t certain_child(hl_heap *h, uint64_t node, uint64_t offset)
{
    uint64_t child = child_of(h, node, offset);
    if (heap_checks_links(h) && !child)
        broken_link(h, node);
    return child;
}

/* The paths through the `side` of `parent` have one black node too few. */
static void mend_black(hl_heap *h, uint64_t parent, uint64_t side)
{
    for (unsigned steps = 0;; count_step(h, &steps, parent)) {
        uint64_t other = BOTH - side, link, top;
        uint64_t sibling = certain_child(h, parent, other), word = heap_load(h, parent + PARENT);
        if (is_red(h, sibling, parent)) { /* and so parent is black: make the sibling so */
            link = link_to(h, parent, word);
            uint64_t near = certain_child(h, sibling, side);
            heap_store(h, parent + other, near);
            adopt(h, near, sibling, parent);
            heap_store(h, sibling + side, parent);
            heap_store(h, sibling + PARENT, word);
            heap_store(h, link, sibling);
            word = sibling | RED;
            sibling = near;
            heap_store(h, parent + PARENT, word);
        }
        uint64_t far = child_of(h, sibling, other), near = child_of(h, sibling, side);
        if (far && is_red(h, far, sibling)) {
            link = link_to(h, parent, word & ~RED);
            heap_store(h, parent + other, near);
            if (near)
                set_parent(h, near, sibling, parent);
            heap_store(h, far + PARENT, sibling);
            top = sibling;
        } else if (near && is_red(h, near, sibling)) {
            link = link_to(h, parent, word & ~RED);
            uint64_t inner = child_of(h, near, side), outer = child_of(h, near, other);
            heap_store(h, parent + other, inner);
            if (inner)
                adopt(h, inner, near, parent);
            heap_store(h, sibling + side, outer);
            if (outer)
                adopt(h, outer, near, sibling);
            heap_store(h, near + other, sibling);
            heap_store(h, sibling + PARENT, near);
            top = near;
        } else {
            heap_store(h, sibling + PARENT, parent | RED);
            if (word & RED) {
                heap_store(h, parent + PARENT, word & ~RED);
                return;
            }
            if (!word)
                return;
            side = link_to(h, parent, word) - word;
            parent = word;
            continue;
        }
        heap_store(h, top + side, parent);
        heap_store(h, parent + PARENT, top);
        heap_store(h, top + PARENT, word);
        heap_store(h, link, top);
        return;
    }
}

/* Takes out a node with two children: the next in order takes its place. */
static void replace_by_next(hl_heap *h, node_links links)
{
    uint64_t parent = 0, node = links.right, smaller, side;
    unsigned steps = 0;
    while ((smaller = child_of(h, node, LEFT))) {
        count_step(h, &steps, node);
        parent = node;
        node = smaller;
    }
    uint64_t child = child_of(h, node, RIGHT), gone = parent_word(h, node, parent ? parent : links.node);
    heap_store(h, links.link, node);
    heap_store(h, node + PARENT, links.parent);
    heap_store(h, node + LEFT, links.left);
    set_parent(h, links.left, links.node, node);
    if (parent) {
        side = LEFT;
        heap_store(h, parent + LEFT, child);
        heap_store(h, node + RIGHT, links.right);
        set_parent(h, links.right, links.node, node);
    } else {
        side = RIGHT;
        parent = node;
    }
    if (child) /* red, without children; and so the node that moved was black */
        adopt(h, child, node, parent);
    else if (!(gone & RED))
        mend_black(h, parent, side);
}

/* ---- the index ---- */

static int index_init(hl_heap *h, uint64_t heap_bytes)
{
    (void)heap_bytes;
    heap_store(h, tree_of(h), 0);
    return 1;
}

static int index_reserve(hl_heap *h, uint64_t heap_bytes)
{
    (void)h, (void)heap_bytes;
    return 1;
}

static uint64_t index_find(hl_heap *h, uint64_t need, uint64_t *best_word, index_found *where)
{
    uint64_t best = 0, owner = tree_of(h), offset = 0, node = child_of(h, owner, offset);
    unsigned steps = 0;
    where->floor = 0;
    while (node) {
        count_step(h, &steps, node);
        uint64_t word = heap_load(h, node), size = block_size(word);
        if (size < need) {
            where->floor = size;
            owner = node;
            offset = RIGHT;
            node = child_of(h, node, RIGHT);
        } else {
            best = node;
            *best_word = word;
            where->link = owner + offset;
            owner = node;
            offset = LEFT;
            where->left = node = child_of(h, node, LEFT);
        }
    }
    return best;
}

static void index_insert(hl_heap *h, uint64_t block, uint64_t size)
{
    uint64_t links[HIGHEST + 2], link = tree_of(h), node = child_of(h, link, 0), parent = 0;
    unsigned depth = 0;
    links[0] = link;
    while (node) {
        uint64_t other = block_size(heap_load(h, node));
        uint64_t side = size < other || (size == other && block < node) ? LEFT : RIGHT;
        count_step(h, &depth, node);
        parent = node;
        links[depth] = link = node + side;
        node = child_of(h, node, side);
    }
    heap_store(h, block + LEFT, 0);
    heap_store(h, block + RIGHT, 0);
    heap_store(h, link, block);
    heap_store(h, block + PARENT, parent ? parent | RED : 0);
    if (parent)
        mend_red(h, block, links, depth);
}

static void take_out(hl_heap *h, node_links links)
{
    if (links.left && links.right) {
        replace_by_next(h, links);
        return;
    }
    uint64_t child = links.left ? links.left : links.right;
    heap_store(h, links.link, child);
    if (child) /* red, without children; and so the node was black */
        adopt(h, child, links.node, links.parent);
    else if (links.parent && !(links.parent & RED))
        mend_black(h, links.parent, links.link - links.parent);
}

static void index_remove(hl_heap *h, uint64_t block, uint64_t size, const index_found *where)
{
    (void)size;
    take_out(h, links_of(h, block, where));
}

/* Lets `to` take the place of the node with these links. */
static void move(hl_heap *h, node_links links, uint64_t to)
{
    heap_store(h, links.link, to);
    heap_store(h, to + LEFT, links.left);
    heap_store(h, to + RIGHT, links.right);
    heap_store(h, to + PARENT, links.parent);
    if (links.left)
        set_parent(h, links.left, links.node, to);
    if (links.right)
        set_parent(h, links.right, links.node, to);
}

static void index_shrink(hl_heap *h, uint64_t block, uint64_t size, uint64_t to, uint64_t rest,
                         const index_found *where)
{
    if (where && rest > where->floor) {
        move(h, links_of(h, block, where), to);
    } else {
        index_remove(h, block, size, where);
        index_insert(h, to, rest);
    }
}

static void index_grow(hl_heap *h, uint64_t block, uint64_t size, uint64_t to, uint64_t total)
{
    (void)size;
    node_links links = links_of(h, block, NULL);
    uint64_t next = next_of(h, block, links);
    uint64_t next_size = next ? block_size(heap_load(h, next)) : UINT64_MAX;
    if (total > next_size || (total == next_size && to > next)) {
        take_out(h, links);
        index_insert(h, to, total);
    } else if (to != block) {
        move(h, links, to);
    }
}

/* ---- check ---- */

static void check_child(hl_heap *h, const survey *s, uint64_t block, uint64_t child)
{
    if (child && (!survey_is_block(s, child) || (heap_load(h, child + PARENT) & ~RED) != block))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
}

static void index_check_links(hl_heap *h, survey *s, uint64_t block)
{
    uint64_t left = heap_load(h, block + LEFT), right = heap_load(h, block + RIGHT);
    uint64_t parent = heap_load(h, block + PARENT) & ~RED;
    check_child(h, s, block, left);
    check_child(h, s, block, right);
    if (parent && !survey_is_block(s, parent))
        heap_corrupt(h, block + BLOCK_HEADER, HEAP_BROKEN_LINK);
    link_to(h, block, parent);
}

typedef struct key {
    uint64_t size, node;
} key;

static int is_less(key a, key b) { return a.size < b.size || (a.size == b.size && a.node < b.node); }

/* Checks the nodes from `node` down, whose keys lie between low and high; `above` is the parent, with its
 * colour.  How many black nodes each path down has. */
static int check_subtree(hl_heap *h, survey *s, uint64_t node, uint64_t above, int depth, key low, key high)
{
    uint64_t parent = above & ~RED;
    uint64_t size = survey_indexed(h, s, node, parent ? parent : tree_of(h) - BLOCK_HEADER);
    uint64_t word = heap_load(h, node + PARENT);
    if ((word & ~RED) != parent)
        heap_corrupt(h, node + BLOCK_HEADER, HEAP_BROKEN_LINK);
    int red = (word & RED) != 0;
    key own = {size, node};
    if (!is_less(low, own) || !is_less(own, high) || (red && (above & RED || !parent)) || depth == HIGHEST)
        heap_corrupt(h, node + BLOCK_HEADER, HEAP_BROKEN_INDEX);
    uint64_t left = heap_load(h, node + LEFT), right = heap_load(h, node + RIGHT), self = node | (uint64_t)red;
    int left_height = left ? check_subtree(h, s, left, self, depth + 1, low, own) : 0;
    int right_height = right ? check_subtree(h, s, right, self, depth + 1, own, high) : 0;
    if (left_height != right_height)
        heap_corrupt(h, node + BLOCK_HEADER, HEAP_BROKEN_INDEX);
    return left_height + !red;
}

static void index_check(hl_heap *h, survey *s)
{
    uint64_t root = heap_load(h, tree_of(h));
    if (root)
        check_subtree(h, s, root, 0, 0, (key){0, 0}, (key){UINT64_MAX, 0});
}

#endif
