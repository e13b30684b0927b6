/* Hooks at the loads and stores of an allocator from outside.
 *
 * gcc -fsanitize=thread calls __tsan_read4 and its kin before each access, with the address; this file takes the
 * place of that sanitizer's library.  The return address of a hook says where in the allocator's code the access
 * stands.  Accesses of the stack are left out: they are the compiler's choice.
 *
 * Which bytes are live payload is kept in bits, one a byte of the address space:
 *
 *   address:  46        34 33        21 20         0
 *            |   root     |  branch    | bit in leaf |
 */
#define _GNU_SOURCE
#include "hooks.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOOK __attribute__((visibility("default"), noinline)) void
#define WHERE __builtin_return_address(0)
#define MOST_REGIONS 65536u
/* A reference so near above the frame of a hook is one to the stack. */
#define STACK_REACH (8u << 20)
/* Variables of the thread lie around its pointer. */
#define THREAD_REACH (64u << 10)
/* The bytes of one loop of memcpy or memset are many references' worth: as on the model, this many are one. */
#define BULK 4096u

static hl_watch none = {.most = UINT64_MAX, .align = 16};
hl_watch *the_watch = &none;
int watching;

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern char _end[];

/* What --wrap leads here is the C library's under this name. */
void *__real_sbrk(intptr_t increment);
int __real_brk(void *end);
void *__real_mmap(void *at, size_t size, int rights, int flags, int file, off_t offset);
int __real_munmap(void *at, size_t size);
void *__real_mremap(void *at, size_t size, size_t wanted, int flags, ...);
void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_memmove(void *to, const void *from, size_t n);
void *__real_memset(void *to, int byte, size_t n);

/* ---- live payloads ---- */

enum { LEAF_SHIFT = 21, BRANCH_SHIFT = 13 };
#define BRANCHES (1u << BRANCH_SHIFT)

static uint64_t **root[BRANCHES];

static void *pages(size_t size)
{
    void *p = __real_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

/* The bits of the 2 MiB around an address; NULL: none is set, and none shall be. */
static uint64_t *leaf_of(uintptr_t address, int make)
{
    uint64_t ***branch = &root[address >> (LEAF_SHIFT + BRANCH_SHIFT) & (BRANCHES - 1)];
    if (!*branch) {
        if (!make)
            return NULL;
        *branch = pages(BRANCHES * sizeof **branch);
    }
    uint64_t **leaf = &(*branch)[address >> LEAF_SHIFT & (BRANCHES - 1)];
    if (!*leaf && make)
        *leaf = pages((1u << LEAF_SHIFT) / 8);
    return *leaf;
}

/* Goes through the words of bits for [p, p + size): calls for each the statement `each`, with `word`, `mask`, `base`. */
#define FOR_WORDS(p, size, make, each)                                                                     \
    for (uintptr_t at_ = (p), end_ = at_ + (size); at_ < end_;) {                                          \
        uintptr_t base = at_ & ~(uintptr_t)63, stop_ = base + 64 < end_ ? base + 64 : end_;                \
        uint64_t mask = ~0ull << (at_ & 63) & ~0ull >> (63 - ((stop_ - 1) & 63));                          \
        uint64_t *leaf_ = leaf_of(base, make);                                                             \
        if (leaf_) {                                                                                       \
            uint64_t *word = &leaf_[(base & ((1u << LEAF_SHIFT) - 1)) / 64];                               \
            each                                                                                           \
        }                                                                                                  \
        at_ = stop_;                                                                                       \
    }

void hooks_mark(uintptr_t p, size_t size, int live)
{
    FOR_WORDS(p, size, live, { *word = live ? *word | mask : *word & ~mask; })
}

uintptr_t hooks_taken(uintptr_t p, size_t size)
{
    FOR_WORDS(p, size, 0, {
        if (*word & mask)
            return base + (uintptr_t)__builtin_ctzll(*word & mask);
    })
    return 0;
}

/* ---- memory that is the allocator's ---- */

static struct region {
    uintptr_t start, end;
} regions[MOST_REGIONS];
static unsigned region_count, latest;
/* This process's own: the struct is shared by all processes of a trace. */
static uint64_t owned;
static uintptr_t break_start;

void hooks_show(void)
{
    the_watch->heap = owned;
    the_watch->heap_start = break_start;
}

void hooks_break(uintptr_t start, uintptr_t old, uintptr_t end)
{
    break_start = start;
    hooks_own(old, end - old);
}

void hooks_own(uintptr_t start, size_t size)
{
    uintptr_t end = start + size;
    owned += size;
    hooks_show();
    /* Neighbours become one: mmap gives one region below the other, and a block may lie across. */
    for (unsigned i = 0; i < region_count; i++)
        if (regions[i].end == start || regions[i].start == end) {
            start = regions[i].start < start ? regions[i].start : start;
            end = regions[i].end > end ? regions[i].end : end;
            regions[i--] = regions[--region_count];
        }
    if (region_count == MOST_REGIONS)
        abort();
    latest = region_count;
    regions[region_count++] = (struct region){start, end};
}

void hooks_disown(uintptr_t start, size_t size)
{
    uintptr_t end = start + size;
    for (unsigned i = 0; i < region_count; i++) {
        struct region old = regions[i];
        if (old.end <= start || end <= old.start)
            continue;
        uintptr_t from = old.start > start ? old.start : start, to = old.end < end ? old.end : end;
        owned -= to - from;
        regions[i].end = from;
        if (to < old.end) {
            if (region_count == MOST_REGIONS)
                abort();
            regions[region_count++] = (struct region){to, old.end};
        }
        if (regions[i].start == regions[i].end)
            regions[i--] = regions[--region_count];
    }
    latest = 0;
    hooks_show();
}

int hooks_owns(uintptr_t start, size_t size)
{
    if (latest < region_count && regions[latest].start <= start && start + size <= regions[latest].end)
        return 1;
    for (latest = 0; latest < region_count; latest++)
        if (regions[latest].start <= start && start + size <= regions[latest].end)
            return 1;
    return 0;
}

/* ---- the verdict ---- */

void hooks_note(int why, uintptr_t address, size_t width)
{
    if (the_watch->why)
        return;
    the_watch->why = (uint32_t)why;
    the_watch->address = address;
    the_watch->width = width;
}

void hooks_verdict(void)
{
    if (the_watch->why) {
        watching = 0;
        abort();
    }
}

static void stop(int why, uintptr_t address, size_t width)
{
    hooks_note(why, address, width);
    hooks_verdict();
}

/* ---- references ---- */

static inline int is_on_stack(uintptr_t address)
{
    return address - (uintptr_t)__builtin_frame_address(0) < STACK_REACH;
}

/* The allocator's own variables: of its library, or of the thread. */
static inline int is_variable(uintptr_t address, size_t width)
{
    return (address >= (uintptr_t)__ehdr_start && address + width <= (uintptr_t)_end) ||
           address - (uintptr_t)__builtin_thread_pointer() + THREAD_REACH < 2 * THREAD_REACH;
}

static inline uintptr_t place(const void *where) { return (uintptr_t)where - (uintptr_t)__ehdr_start; }

static inline void judge_store(uintptr_t address, size_t width)
{
    if (hooks_owns(address, width)) {
        if (__builtin_expect(hooks_taken(address, width) != 0, 0) && !the_watch->why) {
            uint64_t site = the_watch->site;
            hooks_note(HL_WATCH_PAYLOAD, address, width);
            watching = 2; /* the request goes on, so that its block can be told; but `site` stays */
            the_watch->site = site;
        }
    } else if (!is_variable(address, width)) {
        stop(HL_WATCH_STORE, address, width);
    }
}

/* A load from the heap's reserve, beyond what the allocator has asked for: real memory would give whatever is there. */
static inline void judge_load(uintptr_t address, size_t width)
{
    uintptr_t end = break_start + owned;
    if (break_start && address + width > end && address < end + (1ull << 30) && !is_variable(address, width))
        stop(HL_WATCH_LOAD, address, width);
}

/* `units`: how many references it counts as. */
static inline void refer(const void *p, size_t width, uint64_t units, int stores, const void *where)
{
    uintptr_t address = (uintptr_t)p;
    if (!watching || is_on_stack(address))
        return;
    if (watching == 1)
        the_watch->site = place(where);
    if (__builtin_expect(the_watch->mems + units > the_watch->most, 0))
        stop(HL_WATCH_NO_END, address, width);
    the_watch->mems += units;
    if (width == 8 && (address & 7) == 4)
        the_watch->halves++;
    if (stores)
        judge_store(address, width);
    else
        judge_load(address, width);
}

#define HOOKS(n)                                                                                           \
    HOOK __tsan_read##n(void *p) { refer(p, n, (n + 7) / 8, 0, WHERE); }                                   \
    HOOK __tsan_write##n(void *p) { refer(p, n, (n + 7) / 8, 1, WHERE); }                                  \
    HOOK __tsan_unaligned_read##n(void *p) { refer(p, n, (n + 7) / 8, 0, WHERE); }                         \
    HOOK __tsan_unaligned_write##n(void *p) { refer(p, n, (n + 7) / 8, 1, WHERE); }                        \
    HOOK __tsan_volatile_read##n(void *p) { refer(p, n, (n + 7) / 8, 0, WHERE); }                          \
    HOOK __tsan_volatile_write##n(void *p) { refer(p, n, (n + 7) / 8, 1, WHERE); }                         \
    HOOK __tsan_unaligned_volatile_read##n(void *p) { refer(p, n, (n + 7) / 8, 0, WHERE); }                \
    HOOK __tsan_unaligned_volatile_write##n(void *p) { refer(p, n, (n + 7) / 8, 1, WHERE); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

HOOK __tsan_read_range(void *p, size_t n) { refer(p, n, (n + 7) / 8, 0, WHERE); }
HOOK __tsan_write_range(void *p, size_t n) { refer(p, n, (n + 7) / 8, 1, WHERE); }
HOOK __tsan_vptr_read(void *p) { refer(p, 8, 1, 0, WHERE); }
HOOK __tsan_vptr_update(void *p, void *value)
{
    (void)value;
    refer(p, 8, 1, 1, WHERE);
}
HOOK __tsan_init(void) {}
HOOK __tsan_func_entry(void *caller) { (void)caller; }
HOOK __tsan_func_exit(void) {}

/* An atomic operation that reads and writes is two references. */
#define ATOMICS(bits, type)                                                                                \
    __attribute__((visibility("default"))) type __tsan_atomic##bits##_load(const volatile type *p, int order)      \
    {                                                                                                      \
        (void)order;                                                                                       \
        refer((const void *)p, sizeof *p, 1, 0, WHERE);                                                    \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                       \
    }                                                                                                      \
    HOOK __tsan_atomic##bits##_store(volatile type *p, type value, int order)                              \
    {                                                                                                      \
        (void)order;                                                                                       \
        refer((const void *)p, sizeof *p, 1, 1, WHERE);                                                    \
        __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                      \
    }                                                                                                      \
    ATOMIC_UPDATE(bits, type, exchange, __atomic_exchange_n)                                               \
    ATOMIC_UPDATE(bits, type, fetch_add, __atomic_fetch_add)                                               \
    ATOMIC_UPDATE(bits, type, fetch_sub, __atomic_fetch_sub)                                               \
    ATOMIC_UPDATE(bits, type, fetch_and, __atomic_fetch_and)                                               \
    ATOMIC_UPDATE(bits, type, fetch_or, __atomic_fetch_or)                                                 \
    ATOMIC_UPDATE(bits, type, fetch_xor, __atomic_fetch_xor)                                               \
    ATOMIC_UPDATE(bits, type, fetch_nand, __atomic_fetch_nand)                                             \
    ATOMIC_COMPARE(bits, type, strong)                                                                     \
    ATOMIC_COMPARE(bits, type, weak)
#define ATOMIC_UPDATE(bits, type, name, function)                                                          \
    __attribute__((visibility("default"))) type __tsan_atomic##bits##_##name(volatile type *p, type value, int order) \
    {                                                                                                      \
        (void)order;                                                                                       \
        refer((const void *)p, sizeof *p, 2, 1, WHERE);                                                    \
        return function(p, value, __ATOMIC_SEQ_CST);                                                       \
    }
#define ATOMIC_COMPARE(bits, type, strength)                                                               \
    __attribute__((visibility("default"))) int __tsan_atomic##bits##_compare_exchange_##strength(          \
        volatile type *p, type *expected, type value, int order, int otherwise)                            \
    {                                                                                                      \
        (void)order, (void)otherwise;                                                                      \
        refer((const void *)p, sizeof *p, 2, 1, WHERE);                                                    \
        return __atomic_compare_exchange_n(p, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);     \
    }
ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
HOOK __tsan_atomic_thread_fence(int order)
{
    (void)order;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
HOOK __tsan_atomic_signal_fence(int order) { (void)order; }

/* ---- bytes in bulk: the linker leads the allocator's calls here (--wrap) ---- */

/* No references, but so many units of the limit, that a loop of it ends; and a place to be judged. */
static inline void refer_bulk(void *to, size_t n, const void *where)
{
    if (!watching || !n || is_on_stack((uintptr_t)to))
        return;
    if (watching == 1)
        the_watch->site = place(where);
    if (the_watch->bulk += 1 + n / BULK, the_watch->mems + the_watch->bulk > the_watch->most)
        stop(HL_WATCH_NO_END, (uintptr_t)to, n);
    judge_store((uintptr_t)to, n);
}

void *__wrap_memcpy(void *to, const void *from, size_t n)
{
    refer_bulk(to, n, WHERE);
    return __real_memcpy(to, from, n);
}

void *__wrap_memmove(void *to, const void *from, size_t n)
{
    refer_bulk(to, n, WHERE);
    return __real_memmove(to, from, n);
}

void *__wrap_memset(void *to, int byte, size_t n)
{
    refer_bulk(to, n, WHERE);
    return __real_memset(to, byte, n);
}

/* ---- an end that the allocator itself makes ---- */

void __wrap_exit(int status)
{
    const void *where = WHERE;
    dup2(STDERR_FILENO, STDOUT_FILENO);
    fflush(stdout); /* what it printed at last is to be told */
    if (watching != 2)
        the_watch->site = place(where);
    watching = 0;
    hooks_note(HL_WATCH_EXIT, (uint64_t)(status & 0xff), 0);
    hooks_verdict();
}

/* ---- the system's memory, for allocators that ask for it themselves ---- */

/* Whether this growth is to be refused. */
static int refused(void)
{
    if (++the_watch->growths != the_watch->refuse)
        return 0;
    errno = ENOMEM;
    return 1;
}

static void move_break(uintptr_t before, uintptr_t after)
{
    if (after > before)
        hooks_own(before, after - before);
    else
        hooks_disown(after, before - after);
}

void *__wrap_sbrk(intptr_t increment)
{
    if (increment > 0 && refused())
        return (void *)-1;
    uintptr_t before = (uintptr_t)__real_sbrk(increment);
    if (before != UINTPTR_MAX)
        move_break(before, before + (uintptr_t)increment);
    return (void *)before;
}

int __wrap_brk(void *end)
{
    uintptr_t before = (uintptr_t)__real_sbrk(0);
    if ((uintptr_t)end > before && refused())
        return -1;
    int failed = __real_brk(end);
    if (!failed)
        move_break(before, (uintptr_t)end);
    return failed;
}

static size_t whole_pages(size_t size) { return (size + 4095) & ~(size_t)4095; }

void *__wrap_mmap(void *at, size_t size, int rights, int flags, int file, off_t offset)
{
    if (refused())
        return MAP_FAILED;
    void *p = __real_mmap(at, size, rights, flags, file, offset);
    if (p != MAP_FAILED) {
        if (flags & MAP_FIXED)
            hooks_disown((uintptr_t)p, whole_pages(size));
        hooks_own((uintptr_t)p, whole_pages(size));
    }
    return p;
}

int __wrap_munmap(void *at, size_t size)
{
    int failed = __real_munmap(at, size);
    if (!failed)
        hooks_disown((uintptr_t)at, whole_pages(size));
    return failed;
}

void *__wrap_mremap(void *at, size_t size, size_t wanted, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    void *fixed = flags & MREMAP_FIXED ? va_arg(rest, void *) : NULL;
    va_end(rest);
    if (wanted > size && refused())
        return MAP_FAILED;
    void *p = __real_mremap(at, size, wanted, flags, fixed);
    if (p != MAP_FAILED) {
        hooks_disown((uintptr_t)at, whole_pages(size));
        hooks_own((uintptr_t)p, whole_pages(wanted));
    }
    return p;
}
