/* Worst fit by a binary heap: a heap with boundary tags whose free blocks stand in a max-heap of sizes.
 *
 *   root -> +56  the binary heap (parts/binheap.h)
 *
 *   array   | block | block | block | ...              in a mapping of its own
 *
 *   | header | slot |       ...       | footer |       a free block
 *   | header | payload                         |       an allocated block
 *
 * heaplab/allocators/designs/binheap.py, the twin, has the vital statistics.
 */
#include "../parts/binheap.h"
#include "../families/tagged.h"

static const hl_option options[] = {TAGGED_OPTIONS, {0}};

static const hl_design binheap = {
    .name = "binheap",
    .magic = 0x6165686e69626c68ull, /* "hlbinhea" */
    .options = options,
    TAGGED_MEMBERS,
};
HEAP_DESIGN(binheap);
