/* TLSF, two-level segregated fit: a heap with boundary tags whose free blocks stand in bins, found by two bitmaps.
 *
 *   root -> +56  the bins (parts/twolevel.h)
 *
 *   | header | next | prev |    ...    | footer |       a free block
 *   | header | payload                          |       an allocated block
 *
 * heaplab/allocators/designs/tlsf.py, the twin, has the vital statistics and the source.
 */
#include "../parts/twolevel.h"
#include "../parts/tagged.h"

static const hl_option options[] = {TAGGED_OPTIONS, {0}};

static const hl_design tlsf = {
    .name = "tlsf",
    .magic = 0x66736c742d2d6c68ull, /* "hl--tlsf" */
    .options = options,
    TAGGED_MEMBERS,
};
HEAP_DESIGN(tlsf);
