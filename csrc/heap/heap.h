/* What a design is, and what a heap is made of: the contract between the designs and everybody above them.
 *
 *   root -> +0   magic       which design, so that attaching to something else is noticed
 *           +8   end         of the part that grows by brk, as the heap knows it (sources/brk.h)
 *           +16  large       three words of the large blocks (sources/large.h)
 *           +40  ...         the design's own
 *
 * All state lives in the memory that the env gives: an hl_heap holds the env, the root's address and the
 * parameters of the spec, nothing that changes.  A design that does not use a source leaves its words alone.
 * The twins in Python make the same loads and stores in the same order.
 *
 * Every size and every pointer goes to the design.  What designs share is a part (parts/: over load and store
 * alone) or a source of memory (sources/); a design takes what it needs.
 */
#ifndef HL_HEAP_H
#define HL_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "../env/env.h"

#define HEAP_ALIGN 16u
#define HEAP_MOST ((uint64_t)INT64_MAX) /* the largest request: PTRDIFF_MAX, as in glibc */
/* The user's half of the addresses of x86-64: no heap has a block as large as this. */
#define HEAP_ADDRESSES (1ull << 47)

enum { ROOT_MAGIC = 0, ROOT_END = 8, ROOT_LARGE = 16, ROOT_DESIGN = 40 };

/* Rules that a pointer or a block can break: heaplab/errors.py has the sentences. */
enum {
    HEAP_DOUBLE_FREE = 1,
    HEAP_FOREIGN_POINTER,
    HEAP_BROKEN_HEADER,
    HEAP_BROKEN_FOOTER,
    HEAP_BROKEN_LINK,
    HEAP_BROKEN_INDEX,
    HEAP_BROKEN_ROOT,
    HEAP_UNCOALESCED,
    HEAP_NO_PROGRESS,
    HEAP_UNREADABLE, /* found by who looks: see heaplab/allocators/looking.py */
    HEAP_FREED_REALLOC, /* a design says HEAP_DOUBLE_FREE, and heap_corrupt which call it was */
    HEAP_FREED_USABLE_SIZE
};

/* What a span is. */
enum {
    HEAP_FREE = 0,  /* a later request can have it */
    HEAP_ALLOCATED, /* a program's */
    HEAP_LARGE,     /* a program's, in a mapping of its own */
    HEAP_CACHED,    /* given back by the program, held back by the design: in a thread's cache, or not yet merged */
    HEAP_METADATA   /* the design's own, apart from the blocks */
};

/* One step of a walk: `size` bytes from `start` on; a block has room for `usable` bytes from `payload` on.
 * The spans of a heap are all memory that the env gave it, each byte once. */
typedef struct hl_span {
    uint64_t start;
    uint64_t size;
    uint64_t payload; /* for METADATA the same as start, and usable is 0 */
    uint64_t usable;
    int state;
} hl_span;

/* Which clauses of the contract apply to a design. */
enum {
    HEAP_TRIMS = 1,       /* gives free memory back to the kernel */
    HEAP_COALESCES = 2,   /* merges free neighbours at once: no two free blocks stand side by side */
    HEAP_REUSES = 4,      /* memory of a freed block serves later requests */
    HEAP_ANY_ORDER = 8,   /* blocks may be freed in any order; without it, the newest first */
    HEAP_DETECTS = 16,    /* notices double frees, foreign pointers and broken metadata */
    HEAP_HEADERS = 32,    /* a header stands in front of each payload: an overflow meets the next one's */
    HEAP_CONTIGUOUS = 64, /* grows by brk alone: the walk of what is not large has no holes */
    HEAP_MAPS_LARGE = 128, /* requests from mmap_threshold on have a mapping each */
    HEAP_THREADS = 256,   /* keeps something for each thread, and hears when a thread ends */
    HEAP_RESIZES = 512    /* realloc stays in place where the block has room or the next one is free */
};

/* What the checks option says. */
enum { HEAP_CHECKS_NONE, HEAP_CHECKS_LINKS, HEAP_CHECKS_ALL };
enum { HEAP_SEAL_OFF, HEAP_SEAL_PUBLIC, HEAP_SEAL_KEYED };

struct hl_design;

typedef struct hl_heap {
    env *env;
    uint64_t root;
    const struct hl_design *design;
    /* parameters of the spec; a design has those that its `options` list */
    uint64_t checks;         /* HEAP_CHECKS_* */
    uint64_t seal;           /* HEAP_SEAL_* */
    uint64_t mmap_threshold; /* bytes, or LARGE_DYNAMIC */
    uint64_t trim_threshold; /* bytes, or BRK_DYNAMIC */
    uint64_t top_pad;        /* bytes */
    uint64_t option[8];      /* the design's own */
    /* what `seal` means for the arithmetic (parts/seal.h); heap_begin and heap_attach set them */
    uint64_t seal_factor, seal_key;
    /* a malloc's second result: the block is known to be zero */
    int zeroed;
    /* the rule that a freed block breaks in the call at hand; 0: HEAP_DOUBLE_FREE */
    int freed_rule;
    /* set by heap_corrupt */
    uint64_t corrupt_address;
    int corrupt_rule;
} hl_heap;

/* A parameter of the spec: text for people, and the place of its value in hl_heap. */
typedef struct hl_option {
    const char *name;
    const char *fallback; /* its value when the spec does not say */
    const char *doc;
    const char *choices; /* words separated by '|', the value is the position; NULL: bytes */
    const char *word;    /* a word that may stand for bytes, the value is UINT64_MAX; or NULL */
    uint64_t most;       /* the largest number of bytes */
    size_t place;        /* offset in hl_heap */
} hl_option;

#define HEAP_CHOICE(field, text_name, text_fallback, text_choices, text_doc)                                  \
    {                                                                                                         \
        .name = text_name, .fallback = text_fallback, .doc = text_doc, .choices = text_choices,               \
        .place = offsetof(hl_heap, field)                                                                     \
    }
#define HEAP_BYTES(field, text_name, text_fallback, text_word, largest, text_doc)                             \
    {                                                                                                         \
        .name = text_name, .fallback = text_fallback, .doc = text_doc, .word = text_word, .most = largest,    \
        .place = offsetof(hl_heap, field)                                                                     \
    }

/* The options of every design that seals and checks. */
#define HEAP_CHECK_OPTIONS                                                                                    \
    HEAP_CHOICE(checks, "checks", "all", "none|links|all", "what is verified before it is believed"),         \
        HEAP_CHOICE(seal, "seal", "public", "off|public|keyed", "what makes a header known as one")

typedef struct hl_design {
    const char *name;
    uint64_t magic;
    unsigned traits;
    uint64_t smallest;        /* bytes of the smallest block */
    const hl_option *options; /* the last one has no name */
    /* Makes an empty heap: 1, with h->root set; or 0 with errno when the kernel gives no memory. */
    int (*create)(hl_heap *h);
    /* A block of at least `size` bytes at a multiple of `alignment`, a power of two that is HEAP_ALIGN or more:
     * the payload's address, or 0 with errno when the kernel gives no memory.  Sets h->zeroed if it is zero. */
    uint64_t (*malloc)(hl_heap *h, uint64_t size, uint64_t alignment);
    /* Gives the block at p back.  A design that DETECTS calls heap_corrupt if p is no allocated block. */
    void (*free)(hl_heap *h, uint64_t p);
    /* How many bytes from p on the block has room for. */
    uint64_t (*usable)(hl_heap *h, uint64_t p);
    /* Makes room for `size` bytes at p itself: 1, or 0 when the block has to move (nothing changed).
     * NULL: blocks always move. */
    int (*resize)(hl_heap *h, uint64_t p, uint64_t size);
    /* The span that `place` stands before, and moves the place on: 1, or 0 after the last.  A place starts
     * with zeros.  Stores nothing. */
    int (*walk)(hl_heap *h, uint64_t place[4], hl_span *out);
    /* Every rule of the design, or heap_corrupt.  Stores nothing. */
    void (*check)(hl_heap *h);
    /* The thread has ended: what was kept for it goes to all.  NULL: nothing is. */
    void (*thread_exit)(hl_heap *h, unsigned thread);
} hl_design;

/* The designs of the program: a pointer to each, gathered by the linker from all of designs/.  On the model each is
 * there a second time, compiled for the usual machine alone (machine.h). */
#ifdef HL_USUAL
#define HEAP_LIST "hl_usual_designs"
#else
#define HEAP_LIST "hl_designs"
#endif
#define HEAP_DESIGN(the_design)                                                                               \
    static const hl_design *const the_design##_listed                                                         \
        __attribute__((used, section(HEAP_LIST))) = &(the_design)

/* ---- the contract (posix.c), called with an escape set ---- */

/* Makes an empty heap: 1, or 0 with errno; then nothing is left of it. */
int heap_create(hl_heap *h);
/* Sets what an hl_heap derives from its parameters; every heap passes here before its first use. */
void heap_begin(hl_heap *h);
uint64_t heap_malloc(hl_heap *h, uint64_t size);
void heap_free(hl_heap *h, uint64_t p);
uint64_t heap_calloc(hl_heap *h, uint64_t n, uint64_t size);
uint64_t heap_realloc(hl_heap *h, uint64_t p, uint64_t size);
uint64_t heap_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size);
uint64_t heap_usable_size(hl_heap *h, uint64_t p);
void heap_thread_exit(hl_heap *h, unsigned thread);
/* How far a walk is; it starts with zeros. */
typedef struct hl_cursor {
    uint64_t place[4];          /* the design's */
    uint64_t steps, turn, seen; /* Brent: `seen` is the span met at step `turn` */
    int over;
} hl_cursor;
/* The next span of the design's walk: 1, or 0 after the last.  A walk that makes no progress is corrupt. */
int heap_walk(hl_heap *h, hl_cursor *cursor, hl_span *out);
void heap_check(hl_heap *h);

/* ---- for the designs ---- */

__attribute__((noinline, cold)) _Noreturn void heap_corrupt(hl_heap *h, uint64_t address, int rule);

#ifndef heap_design /* a library of one design says which it is, so that its verbs are inlined */
#define heap_design(h) ((h)->design)
#endif

/* Where the parameters of the spec stand.  A library of one spec (entry/preload.c) is compiled with a header that
 * has their values, SPEC_WORDS, so that the compiler folds whatever depends on them.  There the env stands behind
 * the heap, so that its words are found without loading a pointer.
 *
 * HEAP_PATH marks a function that most calls go through, HEAP_APART one that few calls need.
 *
 *                 a library of one spec     the model
 *   HEAP_PATH     always inlined            never inlined: there is one copy
 *   HEAP_APART    never inlined             the compiler may inline it
 *
 * In a library a call costs as much as the work, so the common path must be short and save few registers.  On the
 * model each load and store is long code, so copies of a function would only make the program larger. */
#ifdef SPEC_WORDS
enum { HEAP_IS_CONSTANT = 1 };
#define HEAP_PATH inline __attribute__((always_inline))
#define HEAP_APART __attribute__((noinline))
static const union {
    uint64_t words[sizeof(hl_heap) / 8];
    hl_heap heap;
} heap_constants = {.words = {SPEC_WORDS}};
static inline const hl_heap *heap_spec(const hl_heap *h)
{
    (void)h;
    return &heap_constants.heap;
}
static inline env *heap_env(hl_heap *h) { return (env *)(h + 1); }
#else
enum { HEAP_IS_CONSTANT = 0 };
#define HEAP_PATH __attribute__((noinline))
#define HEAP_APART inline
static inline const hl_heap *heap_spec(const hl_heap *h) { return h; }
static inline env *heap_env(hl_heap *h) { return h->env; }
#endif

static inline uint64_t heap_load(hl_heap *h, uint64_t address)
{
    return env_load(heap_env(h), address);
}

static inline void heap_store(hl_heap *h, uint64_t address, uint64_t value)
{
    env_store(heap_env(h), address, value);
}

static inline uint64_t heap_round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) & ~(unit - 1); }

/* The span of a design's own bytes, apart from the blocks. */
static inline hl_span heap_metadata(uint64_t start, uint64_t size)
{
    return (hl_span){.start = start, .size = size, .payload = start, .state = HEAP_METADATA};
}

static inline int heap_checks_links(const hl_heap *h) { return heap_spec(h)->checks >= HEAP_CHECKS_LINKS; }

static inline int heap_checks_all(const hl_heap *h) { return heap_spec(h)->checks == HEAP_CHECKS_ALL; }

#endif
