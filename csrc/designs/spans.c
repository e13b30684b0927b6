/* Spans: size classes, each in spans of slices, and an arena for each thread.
 *
 *   a span        | rest | block | block | block | ... | block |      blocks of one class, ending at its end
 *   a run         | block                                      |      one block, too large for a class
 *
 *   block, freed  | link |      sealed: the unit of the next one
 *
 *   slot of a span's first slice (sources/segments.h)
 *           +0  head     of every slice: the first one's slot
 *           +8  state    | listed 53 | clean 52 | used 51..36 | left 35..20 | first freed unit 19..0 |
 *           +16 remote   | count 35..20 | first unit 19..0 |      blocks that other threads have freed
 *           +24 shape    sealed: slices << 8 | class, or RUN
 *           +32 next  +40 pointer    in the list of the spans of its class that have room
 *           +48 mailed   the next span in the mailbox
 *
 *   unit    a block's place in its segment, in 16 bytes; 0: none
 *
 *   arena   +0  seal     +8 thread, plus 1; 0: no thread has it     +16 the next arena
 *           +24 emptied  +40, +48 the ring of segments (sources/segments.h)
 *           +64 mailbox  spans with blocks that other threads have freed
 *           +128         the first span of each class that has room, or 0
 *
 *   root -> +192 arenas  all of them
 *           +200 marked  whether the bitmap of allocated blocks is kept
 *           +256 threads the arenas of the first 32
 *           +512 tables  of the threads from 32 on, 64 addresses
 *
 * heaplab/allocators/designs/spans.py is the twin, and has the vital statistics and the reasons.
 */
#include <errno.h>

#include "../parts/classes.h"
#include "../parts/seal.h"
#include "../sources/large.h"
#include "../sources/segments.h"

enum { HEAD = 0, STATE = 8, REMOTE = 16, SHAPE = 24, NEXT = 32, POINTER = 40, MAILED = 48 };
enum { UNIT_BITS = 20, RUN = 255 };
#define UNITS ((1ull << UNIT_BITS) - 1)
#define ONE_LEFT (1ull << 20)
#define ONE_USED (1ull << 36)
#define CLEAN (1ull << 52)
#define LISTED (1ull << 53)

enum { ARENA_SEAL = 0, ARENA_THREAD = 8, ARENA_NEXT = 16, ARENA_MAILBOX = 64, ARENA_CLASSES = 128 };
enum { TABLES = 64, DIRECT = 32 };
#ifdef THREADS_MOST /* entry/preload.c */
_Static_assert(DIRECT + TABLES * (LINUX_PAGE / 8) > THREADS_MOST, "each thread has a word");
#endif
enum { ROOT_ARENAS = SEGMENTS_DESIGN, ROOT_MARKED = ROOT_ARENAS + 8 };
enum { ROOT_THREADS = 256, ROOT_TABLES = ROOT_THREADS + 8 * DIRECT };
_Static_assert((int)ROOT_MARKED < (int)ROOT_THREADS && ROOT_TABLES + 8 * TABLES <= (int)SEGMENTS_NEAR, "the root's words fit");

/* An arena that a thread takes over from, or that is being made. */
#define BUSY UINT64_MAX

/* ---- classes ---- */

/* The largest block that shares its span: half a slice. */
static inline uint64_t most_small(const hl_heap *h) { return slice_size(h) / 2; }

static inline unsigned classes(const hl_heap *h) { return class_of(most_small(h)) + 1; }

/* Slices of a run for `size` bytes; more than there are in a segment for any size that has no room in one. */
static inline uint64_t slices_for(const hl_heap *h, uint64_t size)
{
    return size < segment_size(h) ? (size + slice_size(h) - 1 + !size) >> slice_bits(h) : SLICES;
}

/* Slices of a span: room for four blocks. */
static inline unsigned slices_of(const hl_heap *h, uint64_t size)
{
    return (unsigned)((4 * size + slice_size(h) - 1) >> slice_bits(h));
}

/* ---- a span's words ---- */

/* The word that says whose the segment of p is, and the arena that it gives. */
static inline uint64_t owner_word(hl_heap *h, uint64_t p) { return heap_load(h, segment_of(h, p) + SEG_OWNER); }

static inline uint64_t owner_of(hl_heap *h, uint64_t p)
{
    return segments_owner(h, segment_of(h, p), owner_word(h, p));
}

/* Whether an owner word names this arena.  The seal is not verified here: a word that names another arena goes to
 * segments_owner, which verifies it. */
static inline int is_of(uint64_t arena, uint64_t word) { return arena && !((word ^ arena) & SEAL_TAG); }

static inline unsigned left_of(uint64_t state) { return (unsigned)(state / ONE_LEFT) & 0xffff; }

static inline unsigned used_of(uint64_t state) { return (unsigned)(state / ONE_USED) & 0xffff; }

static inline int has_room(uint64_t state) { return (state & (ONE_USED - 1)) != 0; }

/* Units of a segment, less 1: a mask. */
static inline uint64_t last_unit(const hl_heap *h) { return segment_size(h) / UNIT - 1; }

/* Within the segment, whatever the unit is. */
static inline uint64_t block_at(const hl_heap *h, uint64_t span, uint64_t unit)
{
    return segment_of(h, span) + UNIT * (unit & last_unit(h));
}

static inline uint64_t unit_of(const hl_heap *h, uint64_t p) { return (p - segment_of(h, p)) / UNIT; }

static inline uint64_t link_to(const hl_heap *h, uint64_t p, uint64_t unit) { return seal(h, p, unit); }

/* Whether the word at p can be the link of a freed block. */
static inline int is_link(const hl_heap *h, uint64_t p, uint64_t link)
{
    return link == seal(h, p, link & last_unit(h));
}

/* The unit that the link of the freed block at p gives. */
static inline uint64_t linked(hl_heap *h, uint64_t p)
{
    uint64_t link = heap_load(h, p);
    if (heap_checks_links(h) && !is_link(h, p, link))
        heap_corrupt(h, p, HEAP_BROKEN_LINK);
    return link & UNITS;
}

/* Class and slices of a span. */
static inline unsigned shape_of(hl_heap *h, uint64_t span, unsigned *slices)
{
    uint64_t shape = heap_load(h, span + SHAPE);
    if (heap_checks_links(h) && !is_sealed(h, span, shape))
        heap_corrupt(h, slice_of(h, span), HEAP_BROKEN_HEADER);
    *slices = (unsigned)(shape & SEAL_TAG) >> 8;
    return shape & 255;
}

/* ---- the bitmap of allocated blocks, kept with checks=all; the owner alone writes it ---- */

static inline void mark(hl_heap *h, uint64_t p)
{
    uint64_t word = bitmap_word(h, p), bits = heap_load(h, word);
    if (bits & bitmap_bit(p))
        heap_corrupt(h, p, HEAP_BROKEN_LINK);
    heap_store(h, word, bits | bitmap_bit(p));
}

/* p is no allocated block's address, though it lies in a segment. */
static _Noreturn __attribute__((noinline, cold)) void diagnose(hl_heap *h, uint64_t p)
{
    uint64_t slot = slot_of(h, p), span;
    unsigned slices;
    if (p % UNIT || !is_slot(h, slot) || !(span = heap_load(h, slot + HEAD)))
        heap_corrupt(h, p, HEAP_FOREIGN_POINTER);
    if (!is_slot(h, span) || segment_of(h, span) != segment_of(h, slot))
        heap_corrupt(h, p, HEAP_BROKEN_HEADER);
    unsigned c = shape_of(h, span, &slices);
    uint64_t bytes = (uint64_t)slices << slice_bits(h), before = slice_of(h, span) + bytes - p;
    uint64_t size = c == RUN ? bytes : class_size(c);
    int is_fresh = before <= left_of(heap_load(h, span + STATE)) * size;
    int was = before <= bytes && !(before % size) && !is_fresh;
    heap_corrupt(h, p, was ? HEAP_DOUBLE_FREE : HEAP_FOREIGN_POINTER);
}

static inline void unmark(hl_heap *h, uint64_t p)
{
    uint64_t word = bitmap_word(h, p), bits = heap_load(h, word);
    if (!(bits & bitmap_bit(p)))
        diagnose(h, p);
    heap_store(h, word, bits & ~bitmap_bit(p));
}

/* ---- the spans of a class that have room: a list ---- */

static inline uint64_t list_of(uint64_t arena, unsigned c) { return arena + ARENA_CLASSES + 8 * c; }

/* What a list has at `holder` may be loaded. */
static inline void verify_linked(hl_heap *h, uint64_t holder, uint64_t span)
{
    if (heap_checks_links(h) && span && !is_slot(h, span))
        heap_corrupt(h, holder, HEAP_BROKEN_LINK);
}

/* Behind the first, which is being allocated from. */
static void enlist(hl_heap *h, uint64_t list, uint64_t span)
{
    uint64_t first = heap_load(h, list), at = first ? first + NEXT : list;
    verify_linked(h, list, first);
    uint64_t next = first ? heap_load(h, at) : 0;
    verify_linked(h, at, next);
    heap_store(h, span + NEXT, next);
    heap_store(h, span + POINTER, at);
    heap_store(h, at, span);
    if (next)
        heap_store(h, next + POINTER, span + NEXT);
}

static void unlist(hl_heap *h, uint64_t list, uint64_t span)
{
    uint64_t next = heap_load(h, span + NEXT), at = heap_load(h, span + POINTER);
    verify_linked(h, span, next);
    if (heap_checks_links(h) && ((at != list && !is_slot(h, at - NEXT)) || heap_load(h, at) != span))
        heap_corrupt(h, span, HEAP_BROKEN_LINK);
    heap_store(h, at, next);
    if (next)
        heap_store(h, next + POINTER, at);
}

/* ---- an arena ---- */

/* The word that says which arena the thread has; 0 when it cannot have had one. */
static inline uint64_t thread_word(hl_heap *h, unsigned thread)
{
    if (thread < DIRECT)
        return h->root + ROOT_THREADS + 8 * thread;
    uint64_t of_a_table = env_page_size(h->env) / 8, n = thread - DIRECT, number = n / of_a_table;
    uint64_t at = number < TABLES ? heap_load(h, h->root + ROOT_TABLES + 8 * number) : 0;
    return at ? at + 8 * (n % of_a_table) : 0;
}

/* The arena of the thread that called, or 0. */
static HEAP_APART uint64_t find_arena(hl_heap *h)
{
    uint64_t word = thread_word(h, env_thread(h->env)), arena = word ? heap_load(h, word) : 0;
    env_set_note(h->env, arena);
    return arena;
}

/* The arena that env_note remembers for the calling thread, or 0.  A note spares the loads from the root. */
static inline uint64_t noted_arena(hl_heap *h) { return env_note(heap_env(h)); }

static inline uint64_t arena_of(hl_heap *h)
{
    uint64_t arena = noted_arena(h);
    return arena ? arena : find_arena(h);
}

static uint64_t map_own(hl_heap *h, uint64_t bytes)
{
    env_lock(h->env);
    uint64_t at = book_map(h, h->root + SEGMENTS_BOOK, heap_round_up(bytes, env_page_size(h->env)));
    env_unlock(h->env);
    return at;
}

static uint64_t new_arena(hl_heap *h)
{
    uint64_t arena = map_own(h, ARENA_CLASSES + 8 * classes(h)), first;
    if (!arena)
        return 0;
    heap_store(h, arena + ARENA_SEAL, seal(h, arena, RUN));
    heap_store(h, arena + ARENA_THREAD, BUSY);
    segments_own(h, arena);
    do {
        first = heap_load(h, h->root + ROOT_ARENAS);
        heap_store(h, arena + ARENA_NEXT, first);
    } while (!env_cas(h->env, h->root + ROOT_ARENAS, first, arena));
    return arena;
}

/* The first request of a thread: it gets an arena that no thread has, with all that is in it, or a new one. */
static uint64_t begin_thread(hl_heap *h)
{
    unsigned thread = env_thread(h->env);
    uint64_t word = thread_word(h, thread);
    if (!word) {
        uint64_t number = (thread - DIRECT) / (env_page_size(h->env) / 8);
        uint64_t table = number < TABLES ? map_own(h, env_page_size(h->env)) : 0;
        if (!table)
            return 0;
        /* another thread may have been faster; its table serves as well */
        env_cas(h->env, h->root + ROOT_TABLES + 8 * number, 0, table);
        word = thread_word(h, thread);
    }
    uint64_t arena = heap_load(h, h->root + ROOT_ARENAS);
    while (arena && !env_cas(h->env, arena + ARENA_THREAD, 0, BUSY))
        arena = heap_load(h, arena + ARENA_NEXT);
    if (!arena && !(arena = new_arena(h)))
        return 0;
    heap_store(h, arena + ARENA_THREAD, thread + 1ull);
    heap_store(h, word, arena);
    env_set_note(h->env, arena);
    return arena;
}

/* ---- spans come and go ---- */

static void give(hl_heap *h, uint64_t arena, uint64_t span, unsigned slices);

/* Ends the period: empty spans that were kept are given, and then what has long been free goes back. */
static void sweep(hl_heap *h, uint64_t arena, int all)
{
    for (unsigned c = 0; c < classes(h); c++) {
        uint64_t list = list_of(arena, c), span = heap_load(h, list);
        if (span && !used_of(heap_load(h, span + STATE))) {
            unsigned slices;
            shape_of(h, span, &slices);
            unlist(h, list, span);
            heap_store(h, span + STATE, 0);
            segments_give(h, arena, span, slices);
        }
    }
    segments_sweep(h, arena, all);
}

static void give(hl_heap *h, uint64_t arena, uint64_t span, unsigned slices)
{
    heap_store(h, span + STATE, 0);
    if (segments_give(h, arena, span, slices))
        sweep(h, arena, 0);
}

/* A span with `state` has more room than before: it is listed, or given if no block is in use; but the first
 * of a list stays. */
static __attribute__((noinline)) void settle(hl_heap *h, uint64_t arena, uint64_t span, uint64_t state)
{
    unsigned slices, c = shape_of(h, span, &slices);
    if (c == RUN) {
        if (!used_of(state))
            give(h, arena, span, slices);
        return;
    }
    uint64_t list = list_of(arena, c);
    if (used_of(state)) {
        if (!(state & LISTED)) {
            heap_store(h, span + STATE, state | LISTED);
            enlist(h, list, span);
        }
    } else if (heap_load(h, list) != span) {
        if (state & LISTED)
            unlist(h, list, span);
        give(h, arena, span, slices);
    }
}

/* The slices from `span` on are one span now, of class c or a RUN. */
static void begin_span(hl_heap *h, uint64_t arena, uint64_t span, unsigned c, unsigned slices, int clean)
{
    uint64_t state = clean ? CLEAN : 0;
    for (unsigned i = 0; i < slices; i++)
        heap_store(h, span + SLOT * i + HEAD, span);
    heap_store(h, span + SHAPE, seal(h, span, (uint64_t)slices << 8 | c));
    if (c == RUN) {
        heap_store(h, span + STATE, state | ONE_USED);
    } else {
        uint64_t capacity = ((uint64_t)slices << slice_bits(h)) / class_size(c);
        heap_store(h, span + STATE, state | LISTED | capacity * ONE_LEFT);
        enlist(h, list_of(arena, c), span);
    }
}

/* ---- what other threads have freed ---- */

/* Puts a span into an arena's mailbox. */
static void announce(hl_heap *h, uint64_t arena, uint64_t span)
{
    uint64_t first;
    do {
        first = heap_load(h, arena + ARENA_MAILBOX);
        heap_store(h, span + MAILED, first);
    } while (!env_cas(h->env, arena + ARENA_MAILBOX, first, span));
}

/* Takes what a word of a list holds, and leaves it empty. */
static uint64_t take_all(hl_heap *h, uint64_t word)
{
    uint64_t found;
    do
        found = heap_load(h, word);
    while (found && !env_cas(h->env, word, found, 0));
    return found;
}

/* The blocks that others have freed of a span are its own again. */
static void collect_span(hl_heap *h, uint64_t arena, uint64_t span)
{
    uint64_t remote = take_all(h, span + REMOTE), state = heap_load(h, span + STATE);
    uint64_t count = remote >> UNIT_BITS, unit = remote & UNITS, p = 0;
    if (!count || count > used_of(state))
        heap_corrupt(h, slice_of(h, span), HEAP_BROKEN_INDEX);
    for (uint64_t n = 0; n < count; n++) {
        if (!unit)
            heap_corrupt(h, p, HEAP_BROKEN_LINK);
        p = block_at(h, span, unit);
        unit = linked(h, p);
        if (heap_checks_all(h))
            unmark(h, p);
    }
    if (unit)
        heap_corrupt(h, p, HEAP_BROKEN_LINK);
    heap_store(h, p, link_to(h, p, state & UNITS));
    state = (state & ~UNITS) - count * ONE_USED + (remote & UNITS);
    heap_store(h, span + STATE, state);
    settle(h, arena, span, state);
}

/* Empties the mailbox.  A span that has changed hands since it was put there goes on to its owner. */
static void collect(hl_heap *h, uint64_t arena)
{
    uint64_t span = take_all(h, arena + ARENA_MAILBOX), next;
    for (; span; span = next) {
        verify_linked(h, arena, span);
        next = heap_load(h, span + MAILED);
        uint64_t owner = owner_of(h, span);
        if (owner == arena)
            collect_span(h, arena, span);
        else
            announce(h, owner, span);
    }
}

/* Takes over what the arenas have that no thread has: 1 if that was anything. */
static int adopt(hl_heap *h, uint64_t arena)
{
    int adopted = 0;
    uint64_t other = heap_load(h, h->root + ROOT_ARENAS);
    for (; other; other = heap_load(h, other + ARENA_NEXT)) {
        if (!env_cas(h->env, other + ARENA_THREAD, 0, BUSY))
            continue;
        if (heap_load(h, other + ARENA_MAILBOX))
            collect(h, other);
        if (segments_next(h, other, other)) {
            sweep(h, other, 0);
            segments_move(h, other, arena);
            for (unsigned c = 0; c < classes(h); c++) {
                uint64_t from = list_of(other, c), span;
                while ((span = heap_load(h, from))) {
                    unlist(h, from, span);
                    enlist(h, list_of(arena, c), span);
                }
            }
            adopted = 1;
        }
        env_publish(h->env, other + ARENA_THREAD, 0);
    }
    return adopted;
}

/* ---- malloc ---- */

/* The freed block that a span's state tells of.  checks_all: known when compiling, so that the path of most calls is
 * short. */
static inline __attribute__((always_inline)) uint64_t
pop_freed(hl_heap *h, uint64_t span, uint64_t state, int checks_all)
{
    uint64_t p = block_at(h, span, state & UNITS);
    heap_store(h, span + STATE, (state & ~UNITS) + ONE_USED + linked(h, p));
    if (checks_all)
        mark(h, p);
    return p;
}

/* The next fresh block of a span of class c, which has one. */
static uint64_t pop_fresh(hl_heap *h, uint64_t span, unsigned c, uint64_t state)
{
    uint64_t size = class_size(c);
    uint64_t bytes = (uint64_t)slices_of(h, size) << slice_bits(h), left = left_of(state) * size;
    if (heap_checks_links(h) && left > bytes)
        heap_corrupt(h, slice_of(h, span), HEAP_BROKEN_HEADER);
    uint64_t p = slice_of(h, span) + bytes - left;
    heap_store(h, span + STATE, state - ONE_LEFT + ONE_USED);
    h->zeroed = (state & CLEAN) != 0;
    if (heap_checks_all(h))
        mark(h, p);
    return p;
}

/* A block of the first listed span that has room; 0 when none is left. */
static uint64_t pop_listed(hl_heap *h, uint64_t list, unsigned c)
{
    uint64_t span;
    while ((span = heap_load(h, list))) {
        verify_linked(h, list, span);
        uint64_t state = heap_load(h, span + STATE);
        if (state & UNITS)
            return pop_freed(h, span, state, heap_checks_all(h));
        if (has_room(state))
            return pop_fresh(h, span, c, state);
        unlist(h, list, span);
        heap_store(h, span + STATE, heap_load(h, span + STATE) & ~LISTED);
    }
    return 0;
}

/* The arena of the thread that called, with what others have freed; 0 with errno. */
static uint64_t arena_for_more(hl_heap *h)
{
    uint64_t arena = arena_of(h);
    if (!arena && !(arena = begin_thread(h)))
        env_set_errno(h->env, ENOMEM);
    else if (heap_load(h, arena + ARENA_MAILBOX))
        collect(h, arena);
    return arena;
}

/* The first span of the class has no room, or there is none. */
static __attribute__((noinline)) uint64_t take_slowly(hl_heap *h, unsigned c)
{
    uint64_t arena = arena_for_more(h), p;
    if (!arena)
        return 0;
    unsigned slices = slices_of(h, class_size(c));
    while (!(p = pop_listed(h, list_of(arena, c), c))) {
        int clean;
        uint64_t span = segments_take(h, arena, slices, 1, &clean);
        if (!span && adopt(h, arena))
            continue; /* perhaps it had spans of the class */
        if (!span && !(span = segments_grow(h, arena, slices, 1, &clean)))
            return 0;
        begin_span(h, arena, span, c, slices, clean);
    }
    return p;
}

/* The first span of the class has no freed block. */
static HEAP_APART uint64_t take_fresh(hl_heap *h, uint64_t span, unsigned c, uint64_t state)
{
    return has_room(state) ? pop_fresh(h, span, c, state) : take_slowly(h, c);
}

static inline __attribute__((always_inline)) uint64_t
take_of(hl_heap *h, uint64_t arena, unsigned c, int checks_all)
{
    uint64_t span = heap_load(h, list_of(arena, c));
    if (!span)
        return take_slowly(h, c);
    uint64_t state = heap_load(h, span + STATE);
    return state & UNITS ? pop_freed(h, span, state, checks_all) : take_fresh(h, span, c, state);
}

static HEAP_APART uint64_t take_unnoted(hl_heap *h, unsigned c, int checks_all)
{
    uint64_t arena = find_arena(h);
    return arena ? take_of(h, arena, c, checks_all) : take_slowly(h, c);
}

static HEAP_PATH uint64_t take_checked(hl_heap *h, unsigned c)
{
    uint64_t arena = noted_arena(h);
    return arena ? take_of(h, arena, c, 1) : take_unnoted(h, c, 1);
}

static inline __attribute__((always_inline)) uint64_t take(hl_heap *h, unsigned c)
{
    if (heap_checks_all(h))
        return take_checked(h, c);
    uint64_t arena = noted_arena(h);
    return arena ? take_of(h, arena, c, 0) : take_unnoted(h, c, 0);
}

static uint64_t take_run(hl_heap *h, unsigned slices, unsigned step)
{
    uint64_t arena = arena_for_more(h);
    if (!arena)
        return 0;
    int clean;
    uint64_t span = segments_take(h, arena, slices, step, &clean);
    if (!span && adopt(h, arena))
        span = segments_take(h, arena, slices, step, &clean);
    if (!span && !(span = segments_grow(h, arena, slices, step, &clean)))
        return 0;
    begin_span(h, arena, span, RUN, slices, clean);
    uint64_t p = slice_of(h, span);
    h->zeroed = clean;
    if (heap_checks_all(h))
        mark(h, p);
    return p;
}

/* A block that is too large for a class, or stands at a multiple of more than 16. */
static __attribute__((noinline)) uint64_t take_special(hl_heap *h, uint64_t size, uint64_t alignment)
{
    uint64_t slice = slice_size(h), step = alignment > slice ? alignment >> slice_bits(h) : 1;
    int large = large_serves(h, size) || (alignment > HEAP_ALIGN && large_serves(h, alignment));
    if (!large && size <= most_small(h) && alignment <= most_small(h)) {
        unsigned c = class_of(heap_round_up(size ? size : 1, alignment));
        while (class_size(c) & (alignment - 1))
            c++;
        return take(h, c);
    }
    uint64_t slices = slices_for(h, size);
    if (!large && segments_fit(h, slices, step))
        return take_run(h, (unsigned)slices, (unsigned)step);
    env_lock(h->env);
    uint64_t p = large_malloc(h, size, alignment);
    env_unlock(h->env);
    return p;
}

static uint64_t spans_malloc(hl_heap *h, uint64_t size, uint64_t alignment)
{
    if (size <= most_small(h) && alignment == HEAP_ALIGN && size < heap_spec(h)->mmap_threshold)
        return take(h, class_of(size));
    return take_special(h, size, alignment);
}

/* ---- free ---- */

/* Where p is believed to be a block's address: a large block stands at a page, as few blocks of spans do. */
static inline int is_not_large(const hl_heap *h, uint64_t p) { return (p & (env_page_size(h->env) - 1)) != 0; }

/* Whether p is not a large block. */
static inline int is_in_span(hl_heap *h, uint64_t p)
{
    return (!heap_checks_all(h) && is_not_large(h, p)) || in_segment(h, p);
}

/* Whether another thread has freed the block at p already: its own word says so, and the span's list.  Others
 * may take the list meanwhile; then a word of it is no link any more, or one to where p is not. */
static __attribute__((noinline)) int is_remote(hl_heap *h, uint64_t span, uint64_t p, uint64_t remote)
{
    uint64_t link;
    if (!is_link(h, p, heap_load(h, p)))
        return 0;
    for (uint64_t n = remote >> UNIT_BITS, unit = remote & UNITS; n && unit; n--) {
        uint64_t at = block_at(h, span, unit);
        if (at == p)
            return 1;
        link = heap_load(h, at);
        if (!is_link(h, at, link))
            return 0;
        unit = link & UNITS;
    }
    return 0;
}

/* The block at p belongs to another arena: its owner collects it. */
static __attribute__((noinline)) void free_remote(hl_heap *h, uint64_t owner, uint64_t span, uint64_t p)
{
    uint64_t remote, unit = unit_of(h, p);
    do {
        remote = heap_load(h, span + REMOTE);
        heap_store(h, p, link_to(h, p, remote & UNITS));
    } while (!env_cas(h->env, span + REMOTE, remote, (remote & ~UNITS) + ONE_LEFT + unit));
    if (!remote)
        announce(h, owner, span);
}

/* The span of the block at p; with checks=all p starts an allocated block, which is verified, and *bits is the
 * bitmap's word with its bit. */
static inline uint64_t span_of(hl_heap *h, uint64_t p, int checks_all, uint64_t *bits)
{
    uint64_t span = heap_load(h, slot_of(h, p) + HEAD);
    if (checks_all) {
        *bits = heap_load(h, bitmap_word(h, p));
        if (!(*bits & bitmap_bit(p)) || p % UNIT)
            diagnose(h, p);
        if ((span - segment_of(h, p)) & ~(uint64_t)(SLOT * (SLICES - 1)))
            heap_corrupt(h, p, HEAP_BROKEN_HEADER);
    }
    return span;
}

/* The same, and no other thread has freed the block. */
static uint64_t span_of_allocated(hl_heap *h, uint64_t p)
{
    uint64_t bits, span = span_of(h, p, heap_checks_all(h), &bits), remote;
    if (heap_checks_all(h) && (remote = heap_load(h, span + REMOTE)) && is_remote(h, span, p, remote))
        heap_corrupt(h, p, HEAP_DOUBLE_FREE);
    return span;
}

static __attribute__((noinline)) void free_large(hl_heap *h, uint64_t p)
{
    env_lock(h->env);
    large_free(h, p);
    env_unlock(h->env);
}

/* Frees the allocated block at p, of the arena of the thread that called.  bits: the bitmap's word with its bit. */
static inline __attribute__((always_inline)) void
free_own(hl_heap *h, uint64_t p, uint64_t span, uint64_t bits, uint64_t arena, int checks_all)
{
    if (checks_all)
        heap_store(h, bitmap_word(h, p), bits ^ bitmap_bit(p));
    uint64_t state = heap_load(h, span + STATE), now = (state & ~UNITS) - ONE_USED + unit_of(h, p);
    heap_store(h, p, link_to(h, p, state & UNITS));
    heap_store(h, span + STATE, now);
    if (!used_of(now) || !(now & LISTED))
        settle(h, arena, span, now);
}

/* The block does not belong to the arena that the world has noted, if any.  owner: the word that says whose it is. */
static HEAP_APART void free_unnoted(hl_heap *h, uint64_t p, uint64_t span, uint64_t bits, uint64_t owner)
{
    uint64_t arena = arena_of(h);
    if (!is_of(arena, owner))
        free_remote(h, segments_owner(h, segment_of(h, p), owner), span, p);
    else if (heap_checks_all(h))
        free_own(h, p, span, bits, arena, 1);
    else
        free_own(h, p, span, bits, arena, 0);
}

static inline __attribute__((always_inline)) void
free_allocated(hl_heap *h, uint64_t p, uint64_t span, uint64_t bits, int checks_all)
{
    uint64_t owner = owner_word(h, p), arena = noted_arena(h);
    if (is_of(arena, owner))
        free_own(h, p, span, bits, arena, checks_all);
    else
        free_unnoted(h, p, span, bits, owner);
}

/* Other threads have freed blocks of the span: is p one of them? */
static HEAP_APART void
free_beside_remote(hl_heap *h, uint64_t p, uint64_t span, uint64_t bits, uint64_t remote)
{
    if (is_remote(h, span, p, remote))
        heap_corrupt(h, p, HEAP_DOUBLE_FREE);
    free_allocated(h, p, span, bits, 1);
}

static inline __attribute__((always_inline)) void free_in_segment(hl_heap *h, uint64_t p, int checks_all)
{
    uint64_t bits = 0, span = span_of(h, p, checks_all, &bits), remote = 0;
    if (checks_all && (remote = heap_load(h, span + REMOTE)))
        free_beside_remote(h, p, span, bits, remote);
    else
        free_allocated(h, p, span, bits, checks_all);
}

/* p is a large block, or lies in a segment whose word of `near` names another segment. */
static HEAP_APART void free_far(hl_heap *h, uint64_t p)
{
    if (is_in_tree(h, p))
        free_in_segment(h, p, heap_checks_all(h));
    else
        free_large(h, p);
}

static HEAP_PATH void free_checked(hl_heap *h, uint64_t p)
{
    if (is_near(h, p))
        free_in_segment(h, p, 1);
    else
        free_far(h, p);
}

static HEAP_PATH void free_unchecked(hl_heap *h, uint64_t p)
{
    if (is_not_large(h, p) || is_near(h, p))
        free_in_segment(h, p, 0);
    else
        free_far(h, p);
}

static inline void spans_free(hl_heap *h, uint64_t p)
{
    if (heap_checks_all(h))
        free_checked(h, p);
    else
        free_unchecked(h, p);
}

static uint64_t bytes_of(const hl_heap *h, unsigned c, unsigned slices)
{
    return c == RUN ? (uint64_t)slices << slice_bits(h) : class_size(c);
}

static uint64_t spans_usable(hl_heap *h, uint64_t p)
{
    if (!is_in_span(h, p)) {
        env_lock(h->env);
        uint64_t usable = large_usable(h, p);
        env_unlock(h->env);
        return usable;
    }
    unsigned slices, c = shape_of(h, span_of_allocated(h, p), &slices);
    return bytes_of(h, c, slices);
}

/* A block stays if it keeps half of its bytes; a run gives slices, or takes those behind it. */
static int spans_resize(hl_heap *h, uint64_t p, uint64_t size)
{
    if (!is_in_span(h, p)) {
        env_lock(h->env);
        int stays = large_resize(h, p, size);
        env_unlock(h->env);
        return stays;
    }
    uint64_t span = span_of_allocated(h, p);
    unsigned slices, c = shape_of(h, span, &slices);
    uint64_t bytes = bytes_of(h, c, slices), wanted = slices_for(h, size);
    if (c != RUN || size <= most_small(h) || wanted == slices)
        return size <= bytes && 2 * size >= bytes - UNIT;
    if (large_serves(h, size) || owner_of(h, p) != arena_of(h))
        return 0;
    if (wanted > slices) {
        if (wanted >= SLICES || !segments_extend(h, span + SLOT * slices, (unsigned)wanted - slices))
            return 0;
        for (unsigned i = slices; i < wanted; i++)
            heap_store(h, span + SLOT * i + HEAD, span);
    }
    heap_store(h, span + SHAPE, seal(h, span, wanted << 8 | RUN));
    if (wanted < slices) {
        uint64_t arena = arena_of(h);
        if (segments_give(h, arena, span + SLOT * wanted, slices - (unsigned)wanted))
            sweep(h, arena, 0);
    }
    return 1;
}

/* ---- a thread ends ---- */

/* Its arena waits for a thread that begins or needs slices; what is free in it goes back. */
static void spans_thread_exit(hl_heap *h, unsigned thread)
{
    uint64_t word = thread_word(h, thread), arena = word ? heap_load(h, word) : 0;
    if (!arena)
        return;
    if (heap_load(h, arena + ARENA_MAILBOX))
        collect(h, arena);
    sweep(h, arena, 1);
    heap_store(h, word, 0);
    env_set_note(h->env, 0);
    env_publish(h->env, arena + ARENA_THREAD, 0); /* whoever takes it sees its blocks as they are */
}

/* ---- create, walk and check ---- */

static int spans_create(hl_heap *h)
{
    if (!segments_begin(h))
        return 0;
    heap_store(h, h->root + ROOT_MARKED, (uint64_t)heap_checks_all(h));
    return 1;
}

/* Shape and state of a span, verified as far as a walk goes by them. */
typedef struct view {
    uint64_t span, start, end, size, first, fresh, state, freed;
    unsigned c, slices;
} view;

static view view_of(hl_heap *h, uint64_t slot)
{
    view v = {.span = heap_load(h, slot + HEAD)};
    if (!is_slot(h, v.span) || segment_of(h, v.span) != segment_of(h, slot) || v.span > slot)
        heap_corrupt(h, slice_of(h, slot), HEAP_BROKEN_HEADER);
    v.c = shape_of(h, v.span, &v.slices);
    v.state = heap_load(h, v.span + STATE);
    v.start = slice_of(h, v.span);
    v.end = v.start + ((uint64_t)v.slices << slice_bits(h));
    uint64_t used = used_of(v.state), left = left_of(v.state);
    int sound = v.slices && v.slices <= SLICES && v.end <= segment_of(h, slot) + segment_size(h) &&
                slot < v.span + SLOT * v.slices;
    if (v.c == RUN) {
        v.size = v.end - v.start;
        sound = sound && used == 1 && !(v.state & (LISTED | (ONE_USED - 1)));
    } else {
        sound = sound && v.c < classes(h) && v.slices == slices_of(h, class_size(v.c));
        v.size = sound ? class_size(v.c) : 1;
        uint64_t capacity = (v.end - v.start) / v.size;
        sound = sound && used + left <= capacity;
        v.freed = capacity - used - left;
        v.first = v.end - capacity * v.size;
        v.fresh = v.end - left * v.size;
    }
    if (!sound)
        heap_corrupt(h, slice_of(h, slot), HEAP_BROKEN_HEADER);
    return v;
}

/* The block of a unit, which a list has at `holder`; or heap_corrupt. */
static uint64_t block_of_unit(hl_heap *h, const view *v, uint64_t unit, uint64_t holder)
{
    uint64_t p = block_at(h, v->span, unit);
    int sound = v->c == RUN ? p == v->start : p >= v->first && p < v->fresh && !((v->end - p) % v->size);
    if (!sound || unit > last_unit(h))
        heap_corrupt(h, holder, HEAP_BROKEN_LINK);
    return p;
}

/* Calls for each block of a list: clears the bits of those in the window of p; says whether p was there. */
static int clear_window(hl_heap *h, const view *v, uint64_t unit, uint64_t n, uint64_t p, uint64_t *bits)
{
    int met = 0;
    for (uint64_t holder = v->start; n; n--) {
        uint64_t at = block_of_unit(h, v, unit, holder);
        if (at / WINDOW == p / WINDOW)
            *bits &= ~bitmap_bit(at);
        met |= at == p;
        unit = linked(h, at);
        holder = at;
    }
    return met;
}

/* Which of the 64 units around p have an allocated block's start; bits of no block's start are set or not. */
static uint64_t allocated_around(hl_heap *h, const view *v, uint64_t p)
{
    uint64_t bits = UINT64_MAX, remote = heap_load(h, v->span + REMOTE);
    clear_window(h, v, v->state & UNITS, v->freed, p, &bits);
    clear_window(h, v, remote & UNITS, remote >> UNIT_BITS, p, &bits);
    return bits;
}

static int block_state(hl_heap *h, const view *v, uint64_t p, uint64_t bits)
{
    if (bits & bitmap_bit(p))
        return HEAP_ALLOCATED;
    uint64_t remote = heap_load(h, v->span + REMOTE);
    return clear_window(h, v, remote & UNITS, remote >> UNIT_BITS, p, &bits) ? HEAP_CACHED : HEAP_FREE;
}

/* The span at `*offset` of the segment.  *bits: what allocated_around said last. */
static void walk_segment(hl_heap *h, uint64_t segment, uint64_t *offset, uint64_t *bits, hl_span *out)
{
    uint64_t p = segment + *offset;
    if (p == segment) {
        *out = heap_metadata(segment, (uint64_t)header_slices(h) << slice_bits(h));
    } else {
        uint64_t slot = slot_of(h, p), free_slices = heap_load(h, segment + SEG_FREE);
        uint64_t here = free_slices >> (slot - segment) / SLOT;
        if (here & 1) {
            uint64_t size = (uint64_t)run_length(here) << slice_bits(h);
            *out = (hl_span){p, size, p, size, HEAP_FREE};
        } else {
            view v = view_of(h, slot);
            if (v.c == RUN) {
                uint64_t remote = heap_load(h, v.span + REMOTE);
                *out = (hl_span){p, v.size, p, v.size, remote ? HEAP_CACHED : HEAP_ALLOCATED};
            } else if (p < v.first) {
                *out = heap_metadata(p, v.first - p); /* the rest */
            } else if (p == v.fresh) {
                *out = (hl_span){p, v.end - p, p, v.end - p, HEAP_FREE};
            } else {
                if (p == v.first || (p - v.size) / WINDOW != p / WINDOW)
                    *bits = allocated_around(h, &v, p);
                *out = (hl_span){p, v.size, p, v.size, block_state(h, &v, p, *bits)};
            }
        }
    }
    *offset += out->size;
}

/* place[0]: the stage, and in the stage of segments which one; place[1] to [3]: how far it is. */
static int spans_walk(hl_heap *h, uint64_t place[4], hl_span *out)
{
    enum { ROOT, BOOK, SEGMENTS, LARGE, STAGE = 3 };
    switch (place[0] & STAGE) {
    case ROOT:
        *out = heap_metadata(h->root, segments_root_end(h) - h->root);
        place[0] = BOOK;
        return 1;
    case BOOK:
        if (book_walk(h, h->root + SEGMENTS_BOOK, &place[1], &place[2], out))
            return 1;
        place[0] = SEGMENTS;
        place[1] = heap_load(h, h->root + ROOT_ARENAS);
        __attribute__((fallthrough));
    case SEGMENTS:
        while (place[1]) {
            uint64_t segment = place[0] - SEGMENTS;
            if (!segment || place[2] == segment_size(h)) {
                segment = segments_next(h, place[1], segment ? segment : place[1]);
                place[0] = SEGMENTS + segment;
                place[2] = 0;
                if (!segment) {
                    place[1] = heap_load(h, place[1] + ARENA_NEXT);
                    continue;
                }
            }
            walk_segment(h, segment, &place[2], &place[3], out);
            return 1;
        }
        place[0] = LARGE;
        __attribute__((fallthrough));
    default:
        return large_walk(h, &place[1], out);
    }
}

/* What the check counts. */
typedef struct census {
    uint64_t segments, listed, remote;
    int marked; /* whether the bitmap is kept */
} census;

/* Follows a list of `n` freed blocks.  A bitmap that is kept says of each that it is in use, if `used`. */
static void check_list(hl_heap *h, const view *v, uint64_t unit, uint64_t n, int is_kept, int used)
{
    uint64_t holder = v->start;
    for (; n; n--) {
        uint64_t p = block_of_unit(h, v, unit, holder);
        if (is_kept && ((heap_load(h, bitmap_word(h, p)) & bitmap_bit(p)) != 0) != used)
            heap_corrupt(h, p, HEAP_BROKEN_INDEX);
        unit = linked(h, p);
        holder = p;
    }
    if (unit)
        heap_corrupt(h, holder, HEAP_BROKEN_LINK);
}

static void check_span(hl_heap *h, const view *v, census *found)
{
    uint64_t remote = heap_load(h, v->span + REMOTE);
    for (unsigned i = 1; i < v->slices; i++)
        if (heap_load(h, v->span + SLOT * i + HEAD) != v->span)
            heap_corrupt(h, v->start, HEAP_BROKEN_HEADER);
    if (heap_load(h, v->span + SHAPE) != seal(h, v->span, (uint64_t)v->slices << 8 | v->c) ||
        remote >> UNIT_BITS > used_of(v->state) || !(remote >> UNIT_BITS) != !(remote & UNITS) ||
        (has_room(v->state) && !(v->state & LISTED)))
        heap_corrupt(h, v->start, HEAP_BROKEN_HEADER);
    check_list(h, v, v->state & UNITS, v->freed, found->marked, 0);
    check_list(h, v, remote & UNITS, remote >> UNIT_BITS, found->marked, 1);
    found->listed += (v->state & LISTED) != 0;
    found->remote += remote != 0;
    if (!found->marked)
        return;
    unsigned marked = 0;
    for (uint64_t p = v->start, end; p < v->end; p = end) {
        end = (p / WINDOW + 1) * WINDOW; /* small slices share a word of the bitmap */
        if (end > v->end)
            end = v->end;
        uint64_t its = run_mask(p / UNIT & 63, (unsigned)((end - p) / UNIT));
        marked += count_ones(heap_load(h, bitmap_word(h, p)) & its);
    }
    if (marked != used_of(v->state))
        heap_corrupt(h, v->start, HEAP_BROKEN_INDEX);
}

static void check_segment(hl_heap *h, uint64_t segment, census *found)
{
    uint64_t free_slices = heap_load(h, segment + SEG_FREE);
    for (unsigned at = header_slices(h); at < SLICES;) {
        if (free_slices >> at & 1) {
            at += run_length(free_slices >> at);
            continue;
        }
        view v = view_of(h, segment + SLOT * at);
        if (v.span != segment + SLOT * at || free_slices & run_mask(at, v.slices))
            heap_corrupt(h, segment + ((uint64_t)at << slice_bits(h)), HEAP_BROKEN_HEADER);
        check_span(h, &v, found);
        at += v.slices;
    }
}

static void check_lists(hl_heap *h, uint64_t arena, uint64_t listed)
{
    for (unsigned c = 0; c < classes(h); c++) {
        uint64_t at = list_of(arena, c), span;
        for (; (span = heap_load(h, at)); at = span + NEXT) {
            if (!is_slot(h, span) || heap_load(h, span + POINTER) != at || !listed)
                heap_corrupt(h, at, HEAP_BROKEN_LINK);
            unsigned slices;
            if (shape_of(h, span, &slices) != c || !(heap_load(h, span + STATE) & LISTED) ||
                owner_of(h, span) != arena)
                heap_corrupt(h, slice_of(h, span), HEAP_BROKEN_INDEX);
            listed--;
        }
    }
    if (listed)
        heap_corrupt(h, arena, HEAP_BROKEN_INDEX);
}

/* What stands at one side in a ring, also where links are believed. */
static uint64_t checked_link(hl_heap *h, uint64_t at, unsigned side)
{
    uint64_t link = heap_load(h, at + side);
    if (!is_sealed(h, at + side, link))
        heap_corrupt(h, at, HEAP_BROKEN_LINK);
    return link & SEAL_TAG;
}

static void check_arena(hl_heap *h, uint64_t arena, census *found)
{
    uint64_t owner = heap_load(h, arena + ARENA_THREAD), word, at = arena, segment, listed = found->listed;
    if (heap_load(h, arena + ARENA_SEAL) != seal(h, arena, RUN))
        heap_corrupt(h, arena, HEAP_BROKEN_HEADER);
    if (owner && (owner > UINT32_MAX || !(word = thread_word(h, (unsigned)owner - 1)) ||
                  heap_load(h, word) != arena))
        heap_corrupt(h, arena, HEAP_BROKEN_INDEX);
    uint64_t segments = heap_load(h, h->root + SEGMENTS_COUNT), before = UINT64_MAX;
    for (; (segment = checked_link(h, at, SEG_NEXT)) != arena; at = segment) {
        segments_check(h, arena, at, segment);
        uint64_t free_slices = heap_load(h, segment + SEG_FREE);
        if (found->segments++ == segments || (free_slices && !before)) /* those without stand behind */
            heap_corrupt(h, segment, HEAP_BROKEN_INDEX);
        before = free_slices;
        check_segment(h, segment, found);
    }
    if (checked_link(h, arena, SEG_PREV) != at)
        heap_corrupt(h, arena, HEAP_BROKEN_LINK);
    check_lists(h, arena, found->listed - listed);
}

static void spans_check(hl_heap *h)
{
    census found = {.marked = heap_load(h, h->root + ROOT_MARKED) != 0};
    uint64_t most = DIRECT + TABLES * env_page_size(h->env) / 8, span;
    uint64_t arena = heap_load(h, h->root + ROOT_ARENAS);
    for (uint64_t n = 0; arena; arena = heap_load(h, arena + ARENA_NEXT)) {
        if (n++ == most || !book_has(h, h->root + SEGMENTS_BOOK, arena))
            heap_corrupt(h, h->root, HEAP_BROKEN_ROOT);
        check_arena(h, arena, &found);
    }
    if (found.segments != heap_load(h, h->root + SEGMENTS_COUNT))
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    arena = heap_load(h, h->root + ROOT_ARENAS);
    for (; arena; arena = heap_load(h, arena + ARENA_NEXT))
        for (span = heap_load(h, arena + ARENA_MAILBOX); span; span = heap_load(h, span + MAILED))
            if (!found.remote-- || !is_slot(h, span) || !heap_load(h, span + REMOTE))
                heap_corrupt(h, arena, HEAP_BROKEN_LINK);
    if (found.remote)
        heap_corrupt(h, h->root, HEAP_BROKEN_INDEX);
    segments_check_near(h);
    large_check(h);
}

static const hl_option options[] = {LARGE_OPTIONS, SEGMENTS_OPTIONS, HEAP_CHECK_OPTIONS, {0}};

static const hl_design spans = {
    .name = "spans",
    .magic = 0x736e6170732d6c68, /* "hl-spans" */
    .traits = HEAP_TRIMS | HEAP_REUSES | HEAP_ANY_ORDER | HEAP_DETECTS | HEAP_MAPS_LARGE | HEAP_THREADS |
              HEAP_RESIZES,
    .smallest = UNIT,
    .options = options,
    .create = spans_create,
    .malloc = spans_malloc,
    .free = spans_free,
    .usable = spans_usable,
    .resize = spans_resize,
    .walk = spans_walk,
    .check = spans_check,
    .thread_exit = spans_thread_exit,
};
HEAP_DESIGN(spans);
