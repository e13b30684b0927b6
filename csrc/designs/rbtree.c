/* Best fit by a red-black tree: a heap with boundary tags whose free blocks are the nodes of a tree.
 *
 *   root -> +56  the tree's root (parts/rbtree.h)
 *
 *   | header | left | right | parent, colour | ... | footer |       a free block
 *   | header | payload                                      |       an allocated block
 *
 * heaplab/allocators/designs/rbtree.py, the twin, has the vital statistics and the source.
 */
#include "../parts/rbtree.h"
#include "../families/tagged.h"

static const hl_option options[] = {TAGGED_OPTIONS, {0}};

static const hl_design rbtree = {
    .name = "rbtree",
    .magic = 0x6565727462726c68ull, /* "hlrbtree" */
    .options = options,
    TAGGED_MEMBERS,
};
HEAP_DESIGN(rbtree);
