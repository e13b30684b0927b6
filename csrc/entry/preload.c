/* malloc and its kin for real programs: one design, on Linux.
 *
 * heaplab/native/building.py compiles this file, the sources and env/linux.c.  Each begins with a spec.h, which it writes:
 *
 *   SPEC_DESIGN       the design's file
 *   SPEC_WORDS        [n] = value, ... of the spec's parameters: word n of an hl_heap (heap.h)
 *   SPEC_RULES        the sentences of the rules, in their order
 *   SPEC_TEXT         the spec
 *   SPEC_CHECK        1: verify the whole heap now and then, and tell at exit what was done (tally.h)
 *
 * The compiler sees front and design together, and inlines them.  The designs share one hl_heap, under a lock.  But a design
 * that serves threads by itself (HEAP_THREADS) has an hl_heap and a number for each thread; threads that find no number left
 * share the one of the others, under the lock.
 *
 * The heap is made by the first call, which may come before any constructor.  Nothing here asks the C library for
 * memory, nor for what would.
 */
#define _GNU_SOURCE
#include "../heap/heap.h"
#undef HEAP_DESIGN
#define HEAP_DESIGN(the_design) static const hl_design *const the_only_design = &(the_design)
/* Numbers that each design that serves threads has room for, and one more for the threads without a number. */
#ifndef THREADS_MOST
#define THREADS_MOST 32768u
#endif
#include SPEC_DESIGN
#undef heap_design
#define heap_design(h) the_only_design
#include "../front/posix.c"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
/* All that it calls is inlined, but for what stands apart. */
#define WHOLE __attribute__((flatten))
#define LIKELY(x) __builtin_expect(!!(x), 1)

__thread int lock_passes;

/* A thread's way into the heap. */
typedef struct entry {
    hl_heap heap; /* root 0: the thread has not come yet */
    env env;         /* where heap_env looks for it */
    unsigned number; /* the thread's; env.thread is another while it plays another thread */
    unsigned leaves; /* what of LEAVE_* heap_leave has to do */
} entry;
_Static_assert(offsetof(entry, env) == sizeof(hl_heap), "the env stands behind the heap");

enum {
    LEAVE_OVER = 1,  /* the thread's end was told, and what still comes of it is the C library's */
    LEAVE_SHARED = 2 /* the thread has no number, and is in the_entry, under the lock */
};

static entry the_entry;          /* under the lock; of a design that serves threads what new threads copy */
static __thread entry my_entry;  /* of a design that serves threads */
static lock heap_lock;           /* around every call in the_entry, and while the heap is made */
static pthread_key_t ends;       /* its destructor hears of a thread's end */
static int hears_ends;

static inline int serves_threads(void) { return (the_only_design->traits & HEAP_THREADS) != 0; }

/* Whether the threads of a design that serves them take the lock all the same: verifying a heap reads what other threads
 * write. */
static inline int takes_turns(void) { return SPEC_CHECK; }

/* ---- corruption ---- */

static const char *const rule_sentences[] = {SPEC_RULES};

static char *append(char *to, const char *text)
{
    while (*text)
        *to++ = *text++;
    return to;
}

static char *append_hex(char *to, uint64_t number)
{
    int shift = 60;
    while (shift && !(number >> shift & 15))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        *to++ = "0123456789abcdef"[number >> shift & 15];
    return to;
}

/* Says in one line which block breaks which rule, and ends the program. */
static void die(env *e)
{
    static int said;
    static __thread int dies;
    const entry *at = (const entry *)((const char *)e - offsetof(entry, env));
    char line[sizeof SPEC_TEXT + 256], *end = line;
    end = append(end, "heaplab: " SPEC_TEXT ": block 0x");
    end = append_hex(end, at->heap.corrupt_address);
    end = append(end, ": ");
    end = append(end, rule_sentences[at->heap.corrupt_rule - 1]);
    *end++ = '\n';
    if (!__atomic_exchange_n(&said, 1, __ATOMIC_RELAXED) &&
        write(STDERR_FILENO, line, (size_t)(end - line)) < 0) {
        /* nobody is there to read it */
    }
    if (dies++) /* the handler of SIGABRT has met the same corruption */
        signal(SIGABRT, SIG_DFL);
    lock_passes = 1; /* a handler of SIGABRT may allocate; it must not wait for us */
    abort();
}

/* ---- threads ---- */

static uint64_t numbers[THREADS_MOST / 64]; /* of threads: a bit for each one in use */

/* The lowest number that no thread has; THREADS_MOST when all are taken. */
static unsigned take_number(void)
{
    for (unsigned word = 0; word < THREADS_MOST / 64; word++)
        for (uint64_t bits = __atomic_load_n(&numbers[word], __ATOMIC_RELAXED); ~bits;) {
            unsigned bit = (unsigned)__builtin_ctzll(~bits);
            if (__atomic_compare_exchange_n(&numbers[word], &bits, bits | 1ull << bit, 0, __ATOMIC_ACQ_REL,
                                            __ATOMIC_RELAXED))
                return 64 * word + bit;
        }
    return THREADS_MOST;
}

static void give_number(unsigned number)
{
    __atomic_fetch_and(&numbers[number / 64], ~(1ull << (number % 64)), __ATOMIC_RELEASE);
}

/* Makes the heap: 1, or 0 when the kernel gives no memory. */
static int make_heap(void)
{
    hl_heap *h = &the_entry.heap;
    env_begin();
    the_entry.env.thread = serves_threads() ? THREADS_MOST : 0;
    *h = heap_constants.heap;
    the_entry.env.escape = die;
    h->env = &the_entry.env;
    h->design = the_only_design;
    return heap_create(h);
}

/* The first call of a thread; and every call of one without a number. */
static __attribute__((noinline, cold)) hl_heap *enter_first(void)
{
    entry *mine = &my_entry;
    lock_take(&heap_lock);
    int stands = the_entry.heap.root || make_heap();
    unsigned number = stands ? take_number() : THREADS_MOST;
    if (stands && number == THREADS_MOST) {
        mine->leaves |= LEAVE_SHARED;
        return &the_entry.heap;
    }
    unsigned leaves = mine->leaves & LEAVE_OVER;
    if (stands)
        *mine = the_entry;
    lock_give(&heap_lock);
    if (!stands)
        return NULL;
    mine->leaves = leaves;
    mine->heap.env = &mine->env;
    mine->env.thread = mine->number = number;
    env_set_note(&mine->env, 0); /* the copied note is the arena of the threads without a number */
    if (hears_ends && !leaves)
        pthread_setspecific(ends, mine); /* may allocate: we are ready for it */
    if (takes_turns())
        lock_take(&heap_lock);
    return &mine->heap;
}

/* The thread's heap goes to the others. */
static void give_up_heap(entry *mine)
{
    heap_thread_exit(&mine->heap, mine->env.thread);
    mine->heap.root = 0;
    give_number(mine->number);
}

/* A thread ends.  What it still frees afterwards, its heap is made anew for. */
static void end_thread(void *its_entry)
{
    entry *mine = its_entry;
    mine->leaves |= LEAVE_OVER;
    if (takes_turns())
        lock_take(&heap_lock);
    give_up_heap(mine);
    if (takes_turns())
        lock_give(&heap_lock);
}

static __attribute__((noinline, cold)) void leave_specially(void)
{
    unsigned leaves = my_entry.leaves;
    my_entry.leaves = leaves & LEAVE_OVER;
    if (leaves & LEAVE_SHARED)
        lock_give(&heap_lock);
    else
        give_up_heap(&my_entry); /* nobody will hear of its end once more */
}

/* ---- in and out ---- */

/* The heap, to be left again; NULL: there is none, for want of memory. */
static inline hl_heap *heap_enter(void)
{
    if (serves_threads()) {
        if (__builtin_expect(!my_entry.heap.root, 0))
            return enter_first();
        if (takes_turns())
            lock_take(&heap_lock);
        return &my_entry.heap;
    }
    lock_take(&heap_lock);
    if (LIKELY(the_entry.heap.root) || make_heap())
        return &the_entry.heap;
    lock_give(&heap_lock);
    return NULL;
}

static inline void heap_leave(void)
{
    if (!serves_threads()) {
        lock_give(&heap_lock);
        return;
    }
    int is_shared = my_entry.leaves & LEAVE_SHARED;
    if (__builtin_expect(my_entry.leaves, 0))
        leave_specially();
    if (takes_turns() && !is_shared)
        lock_give(&heap_lock);
}

static __attribute__((noinline, cold)) void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

static inline void *answer(uint64_t p) { return LIKELY(p) ? (void *)(uintptr_t)p : no_memory(); }

static uint64_t to_number(const void *p) { return (uint64_t)(uintptr_t)p; }

#include "tally.h"

/* ---- the family ---- */

/* Whether this thread has a heap of its own that is neither to be entered nor left. */
static inline int has_own_heap(void) { return serves_threads() && !SPEC_CHECK && LIKELY(my_entry.heap.root); }

static __attribute__((noinline)) void *malloc_slowly(size_t size)
{
    hl_heap *h = heap_enter();
    if (!h)
        return answer(0);
    uint64_t p = heap_malloc(h, size);
    tally_given(h, p, TALLY_MALLOC);
    heap_leave();
    return answer(p);
}

static __attribute__((noinline)) void free_slowly(void *p)
{
    hl_heap *h = p ? heap_enter() : NULL;
    if (!h)
        return;
    tally_taken(h, to_number(p), TALLY_FREE);
    heap_free(h, to_number(p));
    heap_leave();
}

EXPORT WHOLE void *malloc(size_t size)
{
    return has_own_heap() ? answer(heap_malloc(&my_entry.heap, size)) : malloc_slowly(size);
}

EXPORT WHOLE void free(void *p)
{
    if (p && has_own_heap())
        heap_free(&my_entry.heap, to_number(p));
    else
        free_slowly(p);
}

EXPORT void *calloc(size_t n, size_t size)
{
    hl_heap *h = heap_enter();
    if (!h)
        return answer(0);
    uint64_t p = heap_calloc(h, n, size);
    tally_given(h, p, TALLY_CALLOC);
    heap_leave();
    return answer(p);
}

EXPORT void *realloc(void *old, size_t size)
{
    hl_heap *h = heap_enter();
    if (!h)
        return answer(0);
    uint64_t before = tally_resized(h, to_number(old));
    uint64_t p = heap_realloc(h, to_number(old), size);
    tally_resized_to(h, p, before, old != NULL && !size);
    heap_leave();
    return p || (old && !size) ? (void *)(uintptr_t)p : answer(p);
}

EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return answer(0);
    return realloc(p, bytes);
}

/* `alignment` is a power of two. */
static void *aligned(size_t alignment, size_t size)
{
    hl_heap *h = heap_enter();
    if (!h)
        return NULL;
    uint64_t p = heap_aligned_alloc(h, alignment, size);
    tally_given(h, p, TALLY_ALIGNED);
    heap_leave();
    return (void *)(uintptr_t)p;
}

static int is_power(size_t n) { return n && !(n & (n - 1)); }

EXPORT int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (!is_power(alignment) || alignment % sizeof(void *))
        return EINVAL;
    void *p = aligned(alignment, size);
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    if (!is_power(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    return answer(to_number(aligned(alignment, size)));
}

/* As glibc: an alignment that is no power of two is the next one. */
EXPORT void *memalign(size_t alignment, size_t size)
{
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = HEAP_ALIGN;
    while (power < alignment)
        power *= 2;
    return answer(to_number(aligned(power, size)));
}

EXPORT void *valloc(size_t size) { return answer(to_number(aligned(LINUX_PAGE, size))); }

EXPORT void *pvalloc(size_t size)
{
    if (size > SIZE_MAX - LINUX_PAGE)
        return answer(0);
    return answer(to_number(aligned(LINUX_PAGE, heap_round_up(size ? size : 1, LINUX_PAGE))));
}

EXPORT size_t malloc_usable_size(void *p)
{
    hl_heap *h = p ? heap_enter() : NULL;
    if (!h)
        return 0;
    uint64_t usable = heap_usable_size(h, to_number(p));
    heap_leave();
    return usable;
}

/* ---- for who plays several threads on one ---- */

EXPORT const char heaplab_spec[] = SPEC_TEXT;

/* Calls of this thread count as those of thread `number` from now on. */
EXPORT void heaplab_thread(unsigned number)
{
    hl_heap *h = heap_enter();
    if (!h)
        return;
    h->env->thread = number;
    env_set_note(h->env, 0);
    heap_leave();
}

/* The thread that this one plays has ended. */
EXPORT void heaplab_thread_exit(void)
{
    hl_heap *h = heap_enter();
    if (!h)
        return;
    heap_thread_exit(h, h->env->thread);
    heap_leave();
}

/* ---- fork, begin and end of the program ---- */

static void before_fork(void)
{
    lock_take(&heap_lock);
    lock_take(&env_the_lock);
    lock_passes = 1;
}

static void after_fork_in_parent(void)
{
    lock_passes = 0;
    lock_give(&env_the_lock);
    lock_give(&heap_lock);
}

/* The one thread that the child has begins with locks that nobody waits for. */
static void after_fork_in_child(void)
{
    lock_passes = 0;
    env_the_lock.word = heap_lock.word = 0;
    tally_fork();
}

/* The loader runs this constructor before those of all other libraries (-z initfirst), so our handlers of fork are
 * registered first.  At a fork, the handlers that run before it are called in reverse order, and those that run after
 * it in order.  So ours take the locks last and give them back first: no handler of another library runs while the
 * locks are held.  Such a handler may wait for a thread that is in malloc. */
static __attribute__((constructor)) void begin_program(void)
{
    tally_begin();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    if (serves_threads() && !pthread_key_create(&ends, end_thread))
        hears_ends = 1;
    if (serves_threads() && my_entry.heap.root)
        pthread_setspecific(ends, &my_entry);
}
