/* What `heaplab native run --check` adds: the whole heap is verified now and then, and at exit a line on stderr
 * tells what was done.
 *
 * Bytes are usable ones, as malloc_usable_size says: what the heap keeps for the program.  The heap is verified at
 * the calls number 1, 2, 4, ..., TALLY_EVERY, 2 * TALLY_EVERY, ..., and at exit.  Threads take turns, whatever the
 * design (takes_turns in preload.c), so no other one is in the heap meanwhile.  A forked child counts its own calls;
 * what it has of its parent's blocks counts as its own.
 *
 * Without SPEC_CHECK all of this is nothing.
 */
#ifndef HL_TALLY_H
#define HL_TALLY_H

enum { TALLY_MALLOC, TALLY_CALLOC, TALLY_REALLOC, TALLY_ALIGNED, TALLY_FREE, TALLY_KINDS };

#if SPEC_CHECK
#include <fcntl.h>
#include <sys/stat.h>

#define TALLY_EVERY 65536u

static struct {
    uint64_t calls[TALLY_KINDS], refused;
    uint64_t blocks, live, peak;
    uint64_t checked;
} told;

static void tally_verify(hl_heap *h)
{
    heap_check(h);
    told.checked++;
}

static void tally_call(hl_heap *h, int kind)
{
    uint64_t all = 0;
    told.calls[kind]++;
    for (int k = 0; k < TALLY_KINDS; k++)
        all += told.calls[k];
    if (!(all % TALLY_EVERY) || (all < TALLY_EVERY && !(all & (all - 1))))
        tally_verify(h);
}

static void tally_live(hl_heap *h, uint64_t p)
{
    told.live += heap_usable_size(h, p);
    told.blocks++;
    if (told.live > told.peak)
        told.peak = told.live;
}

static void tally_given(hl_heap *h, uint64_t p, int kind)
{
    if (p)
        tally_live(h, p);
    else
        told.refused++;
    tally_call(h, kind);
}

static void tally_taken(hl_heap *h, uint64_t p, int kind)
{
    tally_call(h, kind);
    told.live -= usable_in(h, p, HEAP_DOUBLE_FREE);
    told.blocks--;
}

/* The usable bytes of a block that is to be resized. */
static uint64_t tally_resized(hl_heap *h, uint64_t p)
{
    tally_call(h, TALLY_REALLOC);
    return usable_in(h, p, HEAP_FREED_REALLOC);
}

/* `p` is what became of a block of `before` bytes, or of none. */
static void tally_resized_to(hl_heap *h, uint64_t p, uint64_t before, int freed)
{
    if (p || freed) {
        told.live -= before;
        told.blocks -= before != 0;
    } else {
        told.refused++;
    }
    if (p)
        tally_live(h, p);
}

/* ---- where it is told ---- */

/* Programs close standard error before they end, or open something else in its place: so it is kept open, and known
 * by its file. */
static struct {
    int descriptor;
    dev_t device;
    ino_t file;
} tally_place;

enum { TALLY_DESCRIPTOR = 200 }; /* from here on: where programs look for no descriptor of theirs */

static void tally_begin(void)
{
    struct stat is;
    tally_place.descriptor = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, TALLY_DESCRIPTOR);
    if (tally_place.descriptor >= 0 && !fstat(tally_place.descriptor, &is)) {
        tally_place.device = is.st_dev;
        tally_place.file = is.st_ino;
    }
}

static void tally_write(const char *line, size_t length)
{
    int places[] = {tally_place.descriptor, STDERR_FILENO};
    for (int i = 0; i < 2; i++) {
        struct stat is;
        if (!fstat(places[i], &is) && is.st_dev == tally_place.device && is.st_ino == tally_place.file &&
            write(places[i], line, length) >= 0)
            return;
    }
}

/* In a forked child. */
static void tally_fork(void)
{
    memset(told.calls, 0, sizeof told.calls);
    told.refused = told.checked = 0;
    told.peak = told.live;
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
    char line[sizeof SPEC_TEXT + 512], *end = append(line, "heaplab: " SPEC_TEXT ": process ");
    end = tally_word(end, (uint64_t)getpid(), " (");
    for (const char *name = program_invocation_short_name; *name && end < line + sizeof SPEC_TEXT + 100; name++)
        *end++ = *name >= ' ' ? *name : '?';
    end = append(end, "): ");
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
    heap_leave();
    tally_write(line, (size_t)(end - line));
}

#else

static inline void tally_begin(void) {}

static inline void tally_fork(void) {}

static inline void tally_given(hl_heap *h, uint64_t p, int kind) { (void)h, (void)p, (void)kind; }

static inline void tally_taken(hl_heap *h, uint64_t p, int kind) { (void)h, (void)p, (void)kind; }

static inline uint64_t tally_resized(hl_heap *h, uint64_t p) { return (void)h, (void)p, 0; }

static inline void tally_resized_to(hl_heap *h, uint64_t p, uint64_t before, int freed)
{
    (void)h, (void)p, (void)before, (void)freed;
}

#endif

#endif
