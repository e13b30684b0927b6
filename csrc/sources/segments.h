/* Segments: aligned mappings of 64 slices, from which owners take runs of slices.
 *
 *   a multiple of the segment's size
 *   |
 *   +----+----+----+----+----+----  ----+----+
 *   | header  | slice   | slice   | ... | 63 |      slice: SLICE_PAGES pages
 *   +----+----+----+----+----+----  ----+----+
 *   | words | slots 1 to 63 | bitmap |              of the header
 *
 *   words   +0  seal     of the address          slot n: 64 bytes for whoever takes slice n
 *           +8  owner    who, sealed             bitmap: a bit for each 16 bytes of the segment, the design's
 *           +16 free     slices, a bit each
 *           +24 dirty    slices taken since they were mapped, or given back to the kernel
 *           +32 old      slices, free and dirty, that were so when the last period of the owner ended
 *           +40 next  +48 prev    in the owner's ring, through the owner's own words +40 and +48, all sealed:
 *                        the segments with a free slice stand before the others
 *           +56 sum      of free, dirty and old
 *
 *   owner   +24 emptied  slices given since the period began
 *           +40 next  +48 prev
 *
 *   root -> +40 count    of segments
 *           +48 owners   how many there are
 *           +56 book     of the mappings for metadata (book.h)
 *           +1024 near   64 words, by the segment's number modulo 64: the address of a
 *                        mapped segment, plus 1, so that an empty word matches no address
 *           +1536        to the end of the page; then the highest node of the radix tree of segments
 *
 * A pointer's segment is found by masking, and whether there is one by a radix tree.  A lookup tries the segment's word of
 * `near` first.  Segments whose numbers are equal modulo 64 share one word: it names the one mapped last, and the
 * others are found in the tree.  A word has 64 bits, so one word says which slices are free, and runs of them need
 * neither lists nor merging.
 *
 * A free slice keeps its pages for a while: the program may want them again.  A period of an owner ends when
 * it has given `delay` bytes of slices since the last one ended, or its share of them, a quarter or more, when
 * there are several owners: some may be idle, and keep what they have.  Slices that were free when the period
 * began, and ever since, give their pages back to the kernel then, and a segment whose slices are all so is
 * unmapped.
 *
 * A segment belongs to one owner, an owner to one thread at a time: what is here takes a lock only to map.  Other
 * threads look segments up meanwhile, which in a radix tree needs no lock.
 * heaplab/allocators/sources/segments.py is the twin.
 */
#ifndef HL_SEGMENTS_H
#define HL_SEGMENTS_H

#include "../parts/bitruns.h"
#include "../parts/radix.h"
#include "../parts/seal.h"
#include "book.h"

enum { SLICES = 64, SLICE_PAGES = 4, SLOT = 64, UNIT = 16 };
enum { WINDOW = 64 * UNIT }; /* bytes with a word of the bitmap */
enum { SEG_SEAL = 0, SEG_OWNER = 8, SEG_FREE = 16, SEG_DIRTY = 24, SEG_OLD = 32 };
enum { SEG_NEXT = 40, SEG_PREV = 48, SEG_SUM = 56 };
enum { OWNER_EMPTIED = 24 };
enum { MOST_SHARES = 4 }; /* into which owners divide the delay */
enum { SEGMENTS_COUNT = ROOT_DESIGN, SEGMENTS_OWNERS = ROOT_DESIGN + 8, SEGMENTS_BOOK = ROOT_DESIGN + 16 };
enum { SEGMENTS_DESIGN = SEGMENTS_BOOK + BOOK_BYTES }; /* where the design's own words of the root begin */
enum { SEGMENTS_NEAR = 1024, NEAR_WORDS = 64, SEGMENTS_ROOT = SEGMENTS_NEAR + 8 * NEAR_WORDS };
enum { NODE_PAGES = 16, SEGMENTS_DELAY = 0 /* place of the option */ };

#define SEGMENTS_OPTIONS                                                                                      \
    HEAP_BYTES(option[SEGMENTS_DELAY], "delay", "2MiB", NULL, 1ull << 46,                                     \
               "free pages go back when as many bytes of others have become free")

/* ---- geometry ---- */

static inline unsigned page_bits(const hl_heap *h) { return (unsigned)__builtin_ctzll(env_page_size(h->env)); }

static inline unsigned slice_bits(const hl_heap *h)
{
    return page_bits(h) + (unsigned)__builtin_ctz(SLICE_PAGES);
}

static inline unsigned segment_bits(const hl_heap *h) { return slice_bits(h) + 6; }

static inline uint64_t segment_size(const hl_heap *h) { return 1ull << segment_bits(h); }

static inline uint64_t slice_size(const hl_heap *h) { return 1ull << slice_bits(h); }

static inline uint64_t segment_of(const hl_heap *h, uint64_t p) { return p & -segment_size(h); }

/* Where the bitmap starts in a segment, and how many slices the header has. */
enum { SEG_BITMAP = SLOT * SLICES };

static inline unsigned header_slices(const hl_heap *h)
{
    uint64_t bytes = SEG_BITMAP + segment_size(h) / (8 * UNIT);
    return (unsigned)((bytes + slice_size(h) - 1) >> slice_bits(h));
}

/* The slices that can be taken. */
static inline uint64_t all_slices(const hl_heap *h) { return UINT64_MAX << header_slices(h); }

/* The slot of the slice that p lies in, and the slice of a slot. */
static inline uint64_t slot_of(const hl_heap *h, uint64_t p)
{
    uint64_t segment = segment_of(h, p);
    return segment + SLOT * ((p - segment) >> slice_bits(h));
}

static inline uint64_t slice_of(const hl_heap *h, uint64_t slot)
{
    uint64_t segment = segment_of(h, slot);
    return segment + ((slot - segment) / SLOT << slice_bits(h));
}

/* The word of the bitmap with the bit of p, and the bit. */
static inline uint64_t bitmap_word(const hl_heap *h, uint64_t p)
{
    uint64_t segment = segment_of(h, p);
    return segment + SEG_BITMAP + (p - segment) / WINDOW * 8;
}

static inline uint64_t bitmap_bit(uint64_t p) { return 1ull << (p / UNIT & 63); }

static inline radix segment_map_of(const hl_heap *h)
{
    return (radix){heap_round_up(h->root + SEGMENTS_ROOT, env_page_size(h->env)), page_bits(h) + 1,
                     47 - segment_bits(h)};
}

/* Where the root's mapping ends. */
static inline uint64_t segments_root_end(const hl_heap *h)
{
    return segment_map_of(h).top + NODE_PAGES * env_page_size(h->env);
}

/* The word of `near` for the segment that p would lie in. */
static inline uint64_t near_word(const hl_heap *h, uint64_t p)
{
    return h->root + SEGMENTS_NEAR + 8 * (p >> segment_bits(h) & (NEAR_WORDS - 1));
}

/* Whether the radix tree has a segment that p lies in. */
static inline int is_in_tree(hl_heap *h, uint64_t p)
{
    radix map = segment_map_of(h);
    return radix_get(h, &map, p >> segment_bits(h)) != 0;
}

/* Whether p lies in a segment that has its word of `near`. */
static inline int is_near(hl_heap *h, uint64_t p) { return heap_load(h, near_word(h, p)) == segment_of(h, p) + 1; }

/* Whether p lies in a segment. */
static inline int in_segment(hl_heap *h, uint64_t p)
{
    return is_near(h, p) || is_in_tree(h, p);
}

/* Whether this is the slot of a slice that can be taken; it may be loaded then. */
static inline int is_slot(hl_heap *h, uint64_t slot)
{
    uint64_t n = (slot & (segment_size(h) - 1)) / SLOT;
    return slot % SLOT == 0 && n >= header_slices(h) && n < SLICES && in_segment(h, slot);
}

/* The owner, which word +8 of this segment gives; or heap_corrupt. */
static inline uint64_t segments_owner(hl_heap *h, uint64_t segment, uint64_t word)
{
    if (heap_checks_links(h) && !is_sealed(h, segment, word))
        heap_corrupt(h, segment, HEAP_BROKEN_HEADER);
    return word & SEAL_TAG;
}

/* ---- the source ---- */

/* Maps the root and writes its words, but for the design's, which are zero: 1, or 0 with errno. */
int segments_begin(hl_heap *h);
/* Writes the words of an owner without segments. */
void segments_own(hl_heap *h, uint64_t owner);
/* Whether a segment has room for n slices, up to 64, from a multiple of `step` slices on, up to 32. */
static inline int segments_fit(const hl_heap *h, uint64_t n, uint64_t step)
{
    return n <= SLICES && step < SLICES && run_starts(all_slices(h), (unsigned)n, (unsigned)step);
}

/* n slices in a row from a multiple of `step` slices on, as fit: the first one's slot.  *clean: they are zero.
 * From the owner's segments: 0 when none has them.  From a new one: 0 with errno. */
uint64_t segments_take(hl_heap *h, uint64_t owner, unsigned n, unsigned step, int *clean);
uint64_t segments_grow(hl_heap *h, uint64_t owner, unsigned n, unsigned step, int *clean);
/* Takes the n slices from this slot on, which follow taken ones: 1, or 0 when they are not free. */
int segments_extend(hl_heap *h, uint64_t slot, unsigned n);
/* Gives n slices from this slot on back to their segment: 1 when the owner's period is over. */
int segments_give(hl_heap *h, uint64_t owner, uint64_t slot, unsigned n);
/* The owner's period ends: what was free all through it goes back to the kernel; with `all`, all that is. */
void segments_sweep(hl_heap *h, uint64_t owner, int all);
/* All segments of one owner are another's now. */
void segments_move(hl_heap *h, uint64_t from, uint64_t to);
/* What stands at one side of `at`, SEG_NEXT or SEG_PREV, in its ring; or heap_corrupt. */
uint64_t segments_link(hl_heap *h, uint64_t at, unsigned side);
/* The segment after `at` in the owner's ring; 0 after the last. */
uint64_t segments_next(hl_heap *h, uint64_t owner, uint64_t at);
/* Every word of `near`, or heap_corrupt. */
void segments_check_near(hl_heap *h);
/* Every word of the header, or heap_corrupt; `at` is the one before it in the owner's ring. */
void segments_check(hl_heap *h, uint64_t owner, uint64_t at, uint64_t segment);

#endif
