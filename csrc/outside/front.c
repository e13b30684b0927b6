/* The malloc of programs over an allocator from outside, which is compiled into the same library.
 *
 * heaplab/outside/building.py says by macros what the allocator has:
 *
 *   OUTSIDE_COURSE           a course's mm.c: mm_init, mm_malloc, ...; else malloc and its kin under the names
 *                            their_malloc, ...
 *   OUTSIDE_HAS_CALLOC ...   it has this function; calloc is made of malloc where it has none
 *   OUTSIDE_INIT_IS_BOOL     mm_init returns a bool, true for success; else an int, 0 or more for success
 *   OUTSIDE_CHECKHEAP        the type that its mm_checkheap(line) returns; void with OUTSIDE_CHECKHEAP_VOID
 *   OUTSIDE_WATCHED          hooks.c is there
 *
 * What the C library allocates while the allocator is at work (its printf does) comes from a small arena: the
 * allocator is not entered twice.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../env/lock.h"

#define EXPORT __attribute__((visibility("default")))
#define JOIN(a, b) a##b

#ifdef OUTSIDE_COURSE
#define THEIR(name) JOIN(mm_, name)
#else
#define THEIR(name) JOIN(their_, name)
#endif

void *THEIR(malloc)(size_t size);
void THEIR(free)(void *p);
void *THEIR(realloc)(void *p, size_t size);
void *THEIR(calloc)(size_t count, size_t size);
void *THEIR(memalign)(size_t align, size_t size);
void *THEIR(aligned_alloc)(size_t align, size_t size);
int THEIR(posix_memalign)(void **p, size_t align, size_t size);
size_t THEIR(malloc_usable_size)(void *p);

__thread int lock_passes;
static lock the_lock;
static __thread int inside;

#ifdef OUTSIDE_WATCHED
/* What the front writes is not the allocator's doing. */
void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_memset(void *to, int byte, size_t n);
#define memcpy __real_memcpy
#define memset __real_memset
#endif

/* ---- what the C library needs meanwhile ---- */

static _Alignas(16) uint8_t arena[1u << 22];
static size_t arena_used;
/* Blocks that were given back, by their bytes / 16; larger ones are not used again. */
static void *arena_free[65];

static size_t arena_whole(size_t size) { return (size + 31) & ~(size_t)15; }

static void *arena_take(size_t size)
{
    size_t whole = arena_whole(size);
    uint8_t *p = whole / 16 < 65 && whole >= size ? arena_free[whole / 16] : NULL;
    if (p) {
        memcpy(&arena_free[whole / 16], p, sizeof(void *));
    } else {
        if (whole < size || whole > sizeof arena - arena_used)
            return NULL;
        p = arena + arena_used + 16;
        arena_used += whole;
    }
    memcpy(p - 16, &size, sizeof size);
    return p;
}

static int is_of_arena(const void *p) { return (uintptr_t)p - (uintptr_t)arena < sizeof arena; }

static size_t arena_size(const void *p)
{
    size_t size;
    memcpy(&size, (const uint8_t *)p - 16, sizeof size);
    return size;
}

static void arena_give(void *p)
{
    size_t at = arena_whole(arena_size(p)) / 16;
    if (at >= 65)
        return;
    memcpy(p, &arena_free[at], sizeof(void *));
    arena_free[at] = p;
}

static void *arena_resize(void *old, size_t size)
{
    void *p = arena_take(size);
    if (p && old) {
        memcpy(p, old, arena_size(old) < size ? arena_size(old) : size);
        arena_give(old);
    }
    return p;
}

#ifdef OUTSIDE_COURSE
/* A mm.c that calls malloc itself, for what it keeps beside its heap; unless it defines a malloc too. */
#define FOR_ITSELF __attribute__((weak))
FOR_ITSELF void *their_malloc(size_t size) { return arena_take(size); }
FOR_ITSELF void *their_realloc(void *p, size_t size) { return arena_resize(p, size); }
FOR_ITSELF void their_free(void *p)
{
    if (p)
        arena_give(p);
}
FOR_ITSELF void *their_calloc(size_t count, size_t size)
{
    size_t bytes;
    void *p = __builtin_mul_overflow(count, size, &bytes) ? NULL : arena_take(bytes);
    return p ? memset(p, 0, bytes) : p;
}
#endif

/* ---- judging what the allocator answers ---- */

#ifdef OUTSIDE_WATCHED
#include "hooks.h"

EXPORT void heaplab_watch(hl_watch *watch)
{
    the_watch = watch;
    hooks_show();
    if (watch->checks)
        dup2(STDERR_FILENO, STDOUT_FILENO); /* what mm_checkheap prints is to be told */
}

/* mm_init is judged as any request, but its references are none of the trace's. */
static uint64_t mems_before, bulk_before;

static void init_begins(void)
{
    mems_before = the_watch->mems;
    bulk_before = the_watch->bulk;
    watching = 1;
}

static void init_ends(int failed)
{
    watching = 0;
    the_watch->mems = mems_before;
    the_watch->bulk = bulk_before;
    if (failed)
        hooks_note(HL_WATCH_INIT, 0, 0);
    hooks_verdict();
    the_watch->site = 0;
}

/* A block that is freed or resized is the allocator's from now on. */
static void begins(const void *subject)
{
    hooks_show();
    the_watch->result = 0;
    the_watch->subject = (uintptr_t)subject;
    if (!the_watch->counting)
        return;
    if (subject)
        hooks_mark((uintptr_t)subject, the_watch->subject_size, 0);
    watching = 1;
}

static void judge_place(uintptr_t p, size_t size)
{
    if (p % the_watch->align)
        hooks_note(HL_WATCH_SKEWED, p, size);
    if (!hooks_owns(p, size))
        hooks_note(HL_WATCH_NOT_THERE, p, size);
    uintptr_t taken = hooks_taken(p, size);
    if (taken)
        hooks_note(HL_WATCH_OVERLAP, taken, size);
}

static void ends(const void *result, size_t size)
{
    watching = 0;
    the_watch->result = (uintptr_t)result;
    if (!the_watch->counting)
        return;
    if (result && size)
        judge_place((uintptr_t)result, size);
    hooks_verdict();
    if (result)
        hooks_mark((uintptr_t)result, size, 1);
}

/* A block that the front is to write to. */
static void gives(const void *result, size_t size)
{
    if (!the_watch->counting)
        return;
    watching = 0;
    the_watch->result = (uintptr_t)result;
    judge_place((uintptr_t)result, size);
    hooks_verdict();
}

/* The request was refused: the block that was to be resized stays. */
static void stays(void)
{
    if (the_watch->counting && the_watch->subject)
        hooks_mark(the_watch->subject, the_watch->subject_size, 1);
}
#else
static void init_begins(void) {}
static void init_ends(int failed) { (void)failed; }
static void begins(const void *subject) { (void)subject; }
static void ends(const void *result, size_t size) { (void)result, (void)size; }
static void gives(const void *result, size_t size) { (void)result, (void)size; }
static void stays(void) {}
#endif

/* ---- into the allocator and out ---- */

#ifdef OUTSIDE_COURSE
#ifdef OUTSIDE_INIT_IS_BOOL
_Bool mm_init(void);
#define INIT_FAILS() (!mm_init())
#else
int mm_init(void);
#define INIT_FAILS() (mm_init() < 0)
#endif
void mem_init(void);
static void note_sound(void);

static int initialise(void)
{
    static int state; /* 1: it stands, -1: it failed */
    if (!state) {
        mem_init();
        init_begins();
        state = INIT_FAILS() ? -1 : 1;
        init_ends(state < 0);
        note_sound();
    }
    return state > 0;
}
#else
static int initialise(void) { return 1; }
#endif

#ifdef OUTSIDE_COURSE
enum { IS_COURSE = 1 }; /* courses promise that mm_free takes nothing but blocks: NULL stays here */
#else
enum { IS_COURSE = 0 };
#endif

#if defined OUTSIDE_COURSE || defined OUTSIDE_WATCHED
enum { TAKES_TURNS = 1 };
#else
enum { TAKES_TURNS = 0 }; /* it sees to its threads itself */
#endif

/* 1: the allocator may be called, and is to be left; 0: it is at work, or could not begin. */
static inline int enter(void)
{
    if (!TAKES_TURNS)
        return 1;
    if (inside)
        return 0;
    lock_take(&the_lock);
    inside = 1;
    if (initialise())
        return 1;
    inside = 0;
    lock_give(&the_lock);
    return 0;
}

static void check_heap(void);

static inline void leave(void)
{
    if (!TAKES_TURNS)
        return;
    check_heap();
    inside = 0;
    lock_give(&the_lock);
}

#if defined OUTSIDE_WATCHED && defined OUTSIDE_CHECKHEAP
#ifdef OUTSIDE_CHECKHEAP_VOID
void mm_checkheap(int line);
static void check_heap(void)
{
    if (the_watch->checks && the_watch->counting)
        mm_checkheap(__LINE__);
}
#else
OUTSIDE_CHECKHEAP mm_checkheap(int line);
/* Sound is what it says of the heap before the first request: some return 0 for it, some not. */
static int sound;

static void note_sound(void)
{
    if (the_watch->checks)
        sound = mm_checkheap(__LINE__) != 0;
}

static void check_heap(void)
{
    if (!the_watch->checks || !the_watch->counting || (mm_checkheap(__LINE__) != 0) == sound)
        return;
    fflush(NULL);
    hooks_note(HL_WATCH_CHECKHEAP, 0, 0);
    hooks_verdict();
}
#define NOTES_SOUND
#endif
#else
static void check_heap(void) {}
#endif
#if defined OUTSIDE_COURSE && !defined NOTES_SOUND
static void note_sound(void) {}
#endif

static void *answer(void *p, size_t size)
{
    if (!p && size)
        errno = ENOMEM;
    return p;
}

/* ---- the family ---- */

EXPORT void *malloc(size_t size)
{
    if (!enter())
        return answer(inside ? arena_take(size) : NULL, size);
    begins(NULL);
    void *p = THEIR(malloc)(size);
    ends(p, size);
    leave();
    return answer(p, size);
}

EXPORT void free(void *p)
{
    if (is_of_arena(p)) {
        arena_give(p);
        return;
    }
    if ((IS_COURSE && !p) || !enter())
        return;
    begins(p);
    THEIR(free)(p);
    ends(NULL, 0);
    leave();
}

static void *zeroed(size_t count, size_t size)
{
#ifdef OUTSIDE_HAS_CALLOC
    return THEIR(calloc)(count, size);
#else
    void *p = THEIR(malloc)(count * size);
    if (!p)
        return NULL;
    gives(p, count * size);
    return memset(p, 0, count * size);
#endif
}

EXPORT void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return answer(NULL, 1);
    if (!enter()) {
        void *p = inside ? arena_take(bytes) : NULL;
        return answer(p ? memset(p, 0, bytes) : p, bytes);
    }
    begins(NULL);
    void *p = zeroed(count, size);
    ends(p, bytes);
    leave();
    return answer(p, bytes);
}

static void *resized(void *old, size_t size)
{
#ifdef OUTSIDE_HAS_REALLOC
    return THEIR(realloc)(old, size);
#else
#ifdef OUTSIDE_WATCHED
    hooks_note(HL_WATCH_NO_REALLOC, 0, 0);
#endif
    (void)old, (void)size;
    return NULL;
#endif
}

EXPORT void *realloc(void *old, size_t size)
{
    if (is_of_arena(old) || !enter()) {
        void *p = is_of_arena(old) || (inside && !old) ? arena_resize(old, size) : NULL;
        return answer(p, size);
    }
    begins(old);
    void *p = resized(old, size);
    ends(p, size);
    if (!p && size)
        stays();
    leave();
    return answer(p, size);
}

#if defined OUTSIDE_HAS_MEMALIGN || defined OUTSIDE_HAS_ALIGNED_ALLOC || defined OUTSIDE_HAS_POSIX_MEMALIGN
static void *aligned(size_t align, size_t size)
{
#if defined OUTSIDE_HAS_MEMALIGN
    return THEIR(memalign)(align, size);
#elif defined OUTSIDE_HAS_ALIGNED_ALLOC
    return THEIR(aligned_alloc)(align, size);
#else
    void *p = NULL;
    return THEIR(posix_memalign)(&p, align, size) ? NULL : p;
#endif
}

EXPORT void *memalign(size_t align, size_t size)
{
    if (!enter())
        return answer(NULL, size);
    begins(NULL);
    void *p = aligned(align, size);
    ends(p, size);
    leave();
    return answer(p, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }

EXPORT int posix_memalign(void **p, size_t align, size_t size)
{
    void *got = memalign(align, size);
    if (!got && size)
        return ENOMEM;
    *p = got;
    return 0;
}
#else
/* A program that asks gets nothing: a block of the C library's would come to the allocator's free. */
EXPORT void *memalign(size_t align, size_t size) { return (void)align, (void)size, answer(NULL, 1); }
EXPORT void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }

EXPORT int posix_memalign(void **p, size_t align, size_t size)
{
    (void)p, (void)align, (void)size;
    return ENOMEM;
}
#endif

#ifdef OUTSIDE_HAS_MALLOC_USABLE_SIZE
EXPORT size_t malloc_usable_size(void *p)
{
    if (is_of_arena(p))
        return arena_size(p);
    if (!enter())
        return 0;
    size_t size = THEIR(malloc_usable_size)(p);
    leave();
    return size;
}
#else
/* 0: nobody knows.  The C library's own would read before the block. */
EXPORT size_t malloc_usable_size(void *p) { return is_of_arena(p) ? arena_size(p) : 0; }
#endif
