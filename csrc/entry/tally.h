/* What `heaplab native run --check` adds: the whole heap is verified now and then, and at exit a line on stderr
 * tells what was done.
 *
 * Bytes are usable ones, as malloc_usable_size says: what the heap keeps for the program.  The heap is verified at
 * the calls number 1, 2, 4, ..., TALLY_EVERY, 2 * TALLY_EVERY, ..., and at exit.  A design that serves threads is
 * verified only while the program has one: a check reads what other threads write.
 *
 * Without SPEC_CHECK all of this is nothing.
 */
#ifndef HL_TALLY_H
#define HL_TALLY_H

enum { TALLY_MALLOC, TALLY_CALLOC, TALLY_REALLOC, TALLY_ALIGNED, TALLY_FREE, TALLY_KINDS };

#if SPEC_CHECK
#include <sys/single_threaded.h>

#define TALLY_EVERY 65536u

static struct {
    uint64_t calls[TALLY_KINDS], refused;
    uint64_t blocks, live, peak;
    uint64_t checked;
} told;

static uint64_t tally_count(uint64_t *of, uint64_t by) { return __atomic_add_fetch(of, by, __ATOMIC_RELAXED); }

static void tally_verify(hl_heap *h)
{
    if (serves_threads() && !__libc_single_threaded)
        return;
    heap_check(h);
    told.checked++;
}

static void tally_call(hl_heap *h, int kind)
{
    uint64_t all = 0;
    tally_count(&told.calls[kind], 1);
    for (int k = 0; k < TALLY_KINDS; k++)
        all += told.calls[k];
    if (!(all % TALLY_EVERY) || (all < TALLY_EVERY && !(all & (all - 1))))
        tally_verify(h);
}

static void tally_live(hl_heap *h, uint64_t p)
{
    uint64_t live = tally_count(&told.live, heap_usable_size(h, p));
    tally_count(&told.blocks, 1);
    if (live > told.peak)
        told.peak = live;
}

static void tally_given(hl_heap *h, uint64_t p, int kind)
{
    if (p)
        tally_live(h, p);
    else
        tally_count(&told.refused, 1);
    tally_call(h, kind);
}

static void tally_taken(hl_heap *h, uint64_t p, int kind)
{
    tally_call(h, kind);
    tally_count(&told.live, -heap_usable_size(h, p));
    tally_count(&told.blocks, -1ull);
}

/* The usable bytes of a block that is to be resized. */
static uint64_t tally_resized(hl_heap *h, uint64_t p)
{
    tally_call(h, TALLY_REALLOC);
    return heap_usable_size(h, p);
}

/* `p` is what became of a block of `before` bytes, or of none. */
static void tally_resized_to(hl_heap *h, uint64_t p, uint64_t before, int freed)
{
    if (p || freed) {
        tally_count(&told.live, -before);
        tally_count(&told.blocks, before ? -1ull : 0);
    } else {
        tally_count(&told.refused, 1);
    }
    if (p)
        tally_live(h, p);
}

static char *tally_number(char *to, uint64_t n)
{
    char digits[20], *at = digits;
    do
        *at++ = (char)('0' + n % 10);
    while (n /= 10);
    while (at > digits)
        *to++ = *--at;
    return to;
}

static char *tally_word(char *to, uint64_t n, const char *word)
{
    return append(tally_number(to, n), word);
}

static __attribute__((destructor)) void tally_tell(void)
{
    hl_heap *h = heap_enter();
    if (!h)
        return;
    tally_verify(h);
    char line[512], *end = append(line, "heaplab: " SPEC_TEXT ": process ");
    end = tally_word(end, (uint64_t)getpid(), ": ");
    end = tally_word(end, told.calls[TALLY_MALLOC], " malloc, ");
    end = tally_word(end, told.calls[TALLY_CALLOC], " calloc, ");
    end = tally_word(end, told.calls[TALLY_REALLOC], " realloc, ");
    end = tally_word(end, told.calls[TALLY_ALIGNED], " aligned, ");
    end = tally_word(end, told.calls[TALLY_FREE], " free; ");
    end = tally_word(end, told.refused, " refused; peak ");
    end = tally_word(end, told.peak, " bytes; kept ");
    end = tally_word(end, told.blocks, " blocks, ");
    end = tally_word(end, told.live, " bytes; heap verified ");
    end = tally_word(end, told.checked, " times\n");
    heap_leave(h);
    if (write(STDERR_FILENO, line, (size_t)(end - line)) < 0) {
        /* nobody is there to read it */
    }
}

#else

static inline void tally_given(hl_heap *h, uint64_t p, int kind) { (void)h, (void)p, (void)kind; }

static inline void tally_taken(hl_heap *h, uint64_t p, int kind) { (void)h, (void)p, (void)kind; }

static inline uint64_t tally_resized(hl_heap *h, uint64_t p) { return (void)h, (void)p, 0; }

static inline void tally_resized_to(hl_heap *h, uint64_t p, uint64_t before, int freed)
{
    (void)h, (void)p, (void)before, (void)freed;
}

#endif

#endif
