/* Free lists: a heap with boundary tags whose free blocks stand in a list.
 *
 *   root -> +56  the list (parts/list.h)
 *
 *   | header | next | prev |    ...    | footer |       a free block
 *   | header | payload                          |       an allocated block
 *
 * heaplab/allocators/designs/freelist.py, the twin, has the vital statistics.
 */
#include "../parts/list.h"
#include "../families/tagged.h"

static const hl_option options[] = {LIST_OPTIONS, TAGGED_OPTIONS, {0}};

static const hl_design freelist = {
    .name = "freelist",
    .magic = 0x7473696c65657266ull, /* "freelist" */
    .options = options,
    TAGGED_MEMBERS,
};
HEAP_DESIGN(freelist);
