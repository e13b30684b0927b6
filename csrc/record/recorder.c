/* The recorder: preloaded into a program, it writes down every call of malloc and its kin.

   It exports malloc and the others, calls the next library's, and logs.  A release is logged BEFORE the
   call and an acquisition AFTER it; the place in the log is taken by one atomic increment.  So if an
   address is reused, its release stands in front of its acquisition, whichever threads did them.

   The log is memory shared with the monitor (monitor.c), chunk by chunk, so a program that dies leaves
   everything behind, and the program itself opens and grows no file.
   A process that is forked begins its own log: the kernel wipes the page that says "this process records"
   in the child, whatever system call made the child, and the next event finds it wiped.  A vfork child
   shares the memory, so it records as its parent, whose heap it uses, until it execs.

   The recorder itself allocates nothing, keeps no descriptor open, and makes system calls only when a log
   or a chunk begins, and at exec (following.c).  Nothing here needs Python: heaplab.native finds the
   library and sets two variables.

   Environment: LD_PRELOAD, and HEAPLAB_RECORD, where the monitor listens. */
#define _GNU_SOURCE
#include "recorder.h"
#include "calm.h"
#include "client.h"
#include "clock.h"
#include "following.h"
#include "stacks.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)

#define ADDRESS_BITS 48
#define MAX_CHUNKS 65536
#define HEADER_RECORDS (sizeof(struct header) / sizeof(struct record))

/* ---- The process's log ---------------------------------------------------------------------------- */

enum phase { UNSET = 0, OPENING, RECORDING, OFF };

/* One page, wiped by the kernel in a forked child: there the phase is UNSET again. */
static _Atomic(_Atomic int *) phase_page;

static atomic_uint_fast64_t next_record; /* NOT wiped: a child learns from its copy where it was forked */
static _Atomic(struct record *) chunks[MAX_CHUNKS];
static atomic_uint next_thread;
static uint64_t started;
static uint64_t image;                   /* the monitor's number of the log */
static uint64_t clock_base;
static uint32_t clock_is_counter;
static bool stacks_wanted, with_stacks;
static atomic_uint_fast64_t unmapped;    /* chunks 1 to `unmapped` are no longer mapped */
static atomic_flag growing = ATOMIC_FLAG_INIT; /* a thread asks for a chunk */
static _Atomic pid_t recorded_pid;       /* the process whose log this is: not a vfork child that shares it */

static _Thread_local unsigned thread_number; /* 0: not yet numbered */
static pthread_key_t thread_key;             /* set in numbered threads, so that its destructor is called */
static bool has_thread_key;
static _Thread_local bool busy;              /* inside the recorder: a signal handler's events are dropped */

static uint64_t now(void)
{
    return read_clock(clock_is_counter) - clock_base;
}

/* A chunk of the log: which one, and which records it holds. */
struct chunk {
    size_t number;
    uint64_t first;
    uint64_t count;
};

static struct chunk chunk_of(uint64_t index)
{
    if (index < RAW_FIRST_CHUNK_RECORDS)
        return (struct chunk){0, 0, RAW_FIRST_CHUNK_RECORDS};
    uint64_t number = (index - RAW_FIRST_CHUNK_RECORDS) / RAW_CHUNK_RECORDS;
    return (struct chunk){number + 1, RAW_FIRST_CHUNK_RECORDS + number * RAW_CHUNK_RECORDS, RAW_CHUNK_RECORDS};
}

/* The log's `chunk`, which the monitor answers `ask` with, mapped; NULL and errno when that cannot be. */
static struct record *map_chunk(struct chunk chunk, struct ask *ask, struct answer *answer)
{
    size_t size = chunk.count * sizeof(struct record);
    int file;
    ask->first = chunk.first;
    if (!ask_monitor(ask, NULL, answer, &file))
        return NULL;
    /* populated: at once, the pages cost a tenth of what they cost one by one */
    void *records = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    int error = errno;
    close(file);
    errno = error;
    if (records == MAP_FAILED)
        return NULL;
    madvise(records, size, MADV_DONTFORK);
    madvise(records, size, MADV_DONTDUMP);
    return records;
}

static void thread_ends(void *numbered);

/* Begin this process's log.  Returns the phase that follows. */
static enum phase begin_log(void)
{
    if (started == 0) {
        if (!find_monitor())
            return OFF;
        /* before the program makes keys: the C library keeps the values of the first ones without malloc */
        has_thread_key = pthread_key_create(&thread_key, thread_ends) == 0;
    }
    uint64_t parents_records = started == 0 ? 0 : atomic_load(&next_record);
    struct header header = {
        .magic = RAW_MAGIC,
        .parent_pid = (uint32_t)getppid(),
        .forked_from = started,
        .fork_index = started == 0 ? 0 : parents_records - HEADER_RECORDS,
        .thread = thread_number,
    };
    prctl(PR_GET_NAME, header.program);
    for (size_t number = 0; number < MAX_CHUNKS && number <= chunk_of(parents_records).number; number++)
        atomic_store(&chunks[number], NULL); /* the parent's mappings did not come along */
    atomic_store(&unmapped, 0);
    atomic_flag_clear(&growing);
    struct ask ask = {.question = ASK_BEGIN};
    struct answer answer;
    struct record *first = map_chunk(chunk_of(0), &ask, &answer);
    if (first == NULL)
        return OFF;
    image = answer.image;
    clock_base = answer.base;
    clock_is_counter = answer.counter;
    if (with_stacks)
        forget_stacks();
    stacks_wanted = answer.stacks;
    header.pid = answer.pid;
    header.process = answer.process;
    header.started = started = now(); /* later than all that the monitor saw before it answered */
    memcpy(first, &header, sizeof header);
    atomic_store(&recorded_pid, getpid());
    atomic_store(&next_record, HEADER_RECORDS);
    atomic_store(&chunks[0], first);
    return RECORDING;
}

/* The page that a forked child finds wiped; NULL when the kernel has none to give. */
static _Atomic int *make_phase_page(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    _Atomic int *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    _Atomic int *expected = NULL;
    if (madvise(page, size, MADV_WIPEONFORK) != 0 || !atomic_compare_exchange_strong(&phase_page, &expected, page)) {
        munmap(page, size);
        return expected; /* another thread's, or NULL */
    }
    return page;
}

/* The way in when this process does not record yet.  Returns the phase that follows. */
static __attribute__((noinline)) int enter(void)
{
    struct calm calm;
    be_calm(&calm);
    int reached = OFF;
    _Atomic int *phase = atomic_load(&phase_page);
    if (phase == NULL)
        phase = make_phase_page();
    if (phase != NULL) {
        int expected = UNSET;
        if (atomic_compare_exchange_strong(phase, &expected, OPENING))
            atomic_store(phase, begin_log());
        while ((reached = atomic_load(phase)) == OPENING)
            sched_yield();
    }
    calm_ends(&calm);
    return reached;
}

static bool recording(void)
{
    _Atomic int *page = atomic_load_explicit(&phase_page, memory_order_acquire);
    int phase = page == NULL ? UNSET : atomic_load_explicit(page, memory_order_acquire);
    if (!LIKELY(phase == RECORDING) && phase != OFF)
        phase = enter();
    return phase == RECORDING;
}

/* Unmap the chunks up to `finished`: the monitor has seen that their last record is written. */
static void unmap_chunks(uint64_t finished)
{
    for (uint64_t number = atomic_load(&unmapped) + 1; number <= finished && number < MAX_CHUNKS; number++) {
        munmap(atomic_load(&chunks[number]), RAW_CHUNK_RECORDS * sizeof(struct record));
        atomic_store(&unmapped, number);
    }
}

/* A chunk made by the first thread that needs it.  NULL: the recording has ended for want of room. */
static __attribute__((noinline)) struct record *new_chunk(struct chunk chunk)
{
    struct calm calm;
    struct record *records = NULL;
    be_calm(&calm);
    while (atomic_flag_test_and_set(&growing))
        sched_yield();
    if (chunk.number < MAX_CHUNKS)
        records = atomic_load(&chunks[chunk.number]); /* another thread was faster */
    if (records == NULL && atomic_load(atomic_load(&phase_page)) == RECORDING) {
        struct ask ask = {.question = ASK_CHUNK, .image = image};
        struct answer answer;
        if (chunk.number >= MAX_CHUNKS)
            errno = EFBIG;
        else
            records = map_chunk(chunk, &ask, &answer);
        if (records == NULL) {
            ((struct header *)atomic_load(&chunks[0]))->failed = (uint32_t)errno;
            atomic_store(atomic_load(&phase_page), OFF);
        } else {
            atomic_store(&chunks[chunk.number], records);
            unmap_chunks(answer.finished);
        }
    }
    atomic_flag_clear(&growing);
    calm_ends(&calm);
    return records;
}

/* The log2 of `align`, rounded up to a power of two as memalign does. */
static unsigned log2_up(size_t align)
{
    return align <= 1 ? 0 : 64 - (unsigned)__builtin_clzl(align - 1);
}

/* The first record of this thread.  Its number is never given again, modulo 2^16. */
static __attribute__((noinline)) void begin_thread(void)
{
    thread_number = atomic_fetch_add(&next_thread, 1) + 1;
    if (has_thread_key)
        pthread_setspecific(thread_key, &thread_number); /* any value but NULL */
}

/* Write one record into the log of a thread that is in the recorder. */
static inline void append(enum kind kind, const void *address, size_t size, size_t align)
{
    uint64_t index = atomic_fetch_add(&next_record, 1);
    struct chunk chunk = chunk_of(index);
    struct record *records = chunk.number < MAX_CHUNKS ? atomic_load(&chunks[chunk.number]) : NULL;
    if (records == NULL)
        records = new_chunk(chunk);
    if (records != NULL) {
        struct record *slot = &records[index - chunk.first];
        slot->word[1] = (uint64_t)(thread_number - 1) << ADDRESS_BITS | (uintptr_t)address;
        slot->word[2] = (uint64_t)log2_up(align) << ADDRESS_BITS | size;
        __atomic_store_n(&slot->word[0], now() << 8 | kind, __ATOMIC_RELEASE);
    }
}

static void tell_module(uint64_t start, const char *path)
{
    struct ask ask = {.question = TELL_MODULE, .image = image, .first = start};
    struct calm calm;
    be_calm(&calm);
    tell_monitor(&ask, path);
    calm_ends(&calm);
}

/* Log the call stack that leads here, with its frames if it is a new one. */
static __attribute__((noinline)) void append_stack(void)
{
    struct stack stack;
    take_stack(&stack);
    if (is_new_stack(stack.hash))
        for (unsigned number = 0; number < stack.count; number++) {
            find_module(stack.frames[number], tell_module);
            append(RAW_FRAME, (const void *)(uintptr_t)stack.frames[number], stack.hash, 0);
        }
    append(RAW_SITE, NULL, stack.hash, 0);
}

static bool acquires(enum kind kind)
{
    return kind <= RAW_ALIGNED || kind == RAW_REALLOC_END;
}

static void record(enum kind kind, const void *address, size_t size, size_t align)
{
    if (busy)
        return;
    busy = true;
    if (LIKELY(recording())) {
        if (!LIKELY(thread_number != 0))
            begin_thread();
        if (with_stacks && acquires(kind))
            append_stack();
        append(kind, address, size, align);
    }
    busy = false;
}

/* The key's destructor.  Other destructors, and the C library's own, may free blocks after it: whoever reads the
   log looks for the thread's last record. */
static void thread_ends(void *numbered)
{
    (void)numbered;
    record(RAW_THREAD_END, NULL, 0, 0);
}

/* The child's file says which thread it has: one with a number. */
static void before_fork(void)
{
    if (thread_number == 0)
        begin_thread();
}

/* A forked child begins its log at once, so that its birth is known even if it never allocates. */
static void in_child(void)
{
    busy = false;
    recording();
}

/* Another C library than glibc has pthread_atfork, and no __register_atfork, which glibc's pthread_atfork is. */
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *) __attribute__((weak));
extern void *__dso_handle __attribute__((visibility("hidden")));

static __attribute__((constructor)) void start(void)
{
    int (*atfork)(void (*)(void), void (*)(void), void (*)(void)) = NULL;
    if (__register_atfork != NULL)
        __register_atfork(before_fork, NULL, in_child, &__dso_handle);
    else if ((*(void **)&atfork = dlsym(RTLD_DEFAULT, "pthread_atfork")) != NULL)
        atfork(before_fork, NULL, in_child);
    following_begins();
    if (recording() && stacks_wanted) {
        busy = true; /* what this allocates is not the program's */
        stacks_begin();
        with_stacks = true;
        busy = false;
    }
}

static __attribute__((destructor)) void stop(void)
{
    record_exit();
}

void record_exit(void)
{
    if (atomic_load(&recorded_pid) == getpid())
        record(RAW_EXIT, NULL, 0, 0);
}

void record_wait(pid_t pid)
{
    if (is_recorded())
        record(RAW_WAITED, (const void *)(uintptr_t)pid, 0, 0);
}

bool is_recorded(void)
{
    _Atomic int *page = atomic_load(&phase_page);
    return page != NULL && atomic_load(page) == RECORDING;
}

/* ---- The next library's functions ------------------------------------------------------------------ */

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void *(*next_memalign)(size_t, size_t);
static int (*next_posix_memalign)(void **, size_t, size_t);
static void *(*next_aligned_alloc)(size_t, size_t);
static void *(*next_valloc)(size_t);
static void *(*next_pvalloc)(size_t);

/* Looking the functions up may itself allocate.  Those few blocks come from here and are never freed. */
static _Alignas(max_align_t) char nursery[16384];
static atomic_size_t nursery_used;
static _Thread_local bool resolving;

static bool in_nursery(const void *address)
{
    return (const char *)address >= nursery && (const char *)address < nursery + sizeof nursery;
}

static void *from_nursery(size_t size)
{
    size_t rounded = (size + 15) & ~(size_t)15;
    size_t used = rounded < size ? sizeof nursery : atomic_fetch_add(&nursery_used, rounded);
    if (used + rounded > sizeof nursery) {
        errno = ENOMEM;
        return NULL;
    }
    return nursery + used;
}

/* Find the functions.  Returns false while that is under way, when the nursery has to serve. */
static __attribute__((noinline)) bool resolve(void)
{
    if (resolving)
        return false;
    resolving = true;
#define FIND(name) *(void **)&next_##name = dlsym(RTLD_NEXT, #name)
    FIND(free);
    FIND(calloc);
    FIND(realloc);
    FIND(memalign);
    FIND(posix_memalign);
    FIND(aligned_alloc);
    FIND(valloc);
    FIND(pvalloc);
    void *(*found)(size_t);
    *(void **)&found = dlsym(RTLD_NEXT, "malloc");
    __atomic_store_n(&next_malloc, found, __ATOMIC_RELEASE); /* last: the others are there when it is */
    resolving = false;
    return true;
}

static bool ready(void)
{
    return LIKELY(__atomic_load_n(&next_malloc, __ATOMIC_ACQUIRE) != NULL) || resolve();
}

/* ---- What is exported ------------------------------------------------------------------------------ */

/* Log a block, if there is one, and return it. */
static void *acquired(enum kind kind, void *block, size_t size, size_t align)
{
    if (block != NULL)
        record(kind, block, size, align);
    return block;
}

EXPORT void *malloc(size_t size)
{
    if (!ready())
        return from_nursery(size);
    return acquired(RAW_MALLOC, next_malloc(size), size, 0);
}

EXPORT void *calloc(size_t count, size_t size)
{
    if (!ready()) {
        size_t bytes;
        return __builtin_mul_overflow(count, size, &bytes) ? NULL : from_nursery(bytes); /* zero already */
    }
    return acquired(RAW_CALLOC, next_calloc(count, size), count * size, 0);
}

EXPORT void free(void *block)
{
    if (in_nursery(block) || !ready())
        return;
    record(RAW_FREE, block, 0, 0);
    next_free(block);
}

EXPORT void *realloc(void *block, size_t size)
{
    if (!ready() || in_nursery(block)) {
        void *copy = malloc(size);
        size_t most = in_nursery(block) ? (size_t)(nursery + sizeof nursery - (char *)block) : 0;
        if (copy != NULL && block != NULL)
            memcpy(copy, block, size < most ? size : most);
        return copy;
    }
    if (block == NULL)
        return acquired(RAW_MALLOC, next_realloc(NULL, size), size, 0);
    record(RAW_REALLOC_BEGIN, block, 0, 0);
    void *moved = next_realloc(block, size);
    record(RAW_REALLOC_END, moved, moved == NULL && size != 0 ? 1 : size, 0); /* a size that failed may not fit */
    return moved;
}

EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

EXPORT int posix_memalign(void **block, size_t align, size_t size)
{
    if (!ready())
        return ENOMEM;
    int error = next_posix_memalign(block, align, size);
    if (error == 0)
        acquired(RAW_ALIGNED, *block, size, align);
    return error;
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    return ready() ? acquired(RAW_ALIGNED, next_aligned_alloc(align, size), size, align) : NULL;
}

EXPORT void *memalign(size_t align, size_t size)
{
    return ready() ? acquired(RAW_ALIGNED, next_memalign(align, size), size, align) : NULL;
}

EXPORT void *valloc(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return ready() ? acquired(RAW_ALIGNED, next_valloc(size), size, page) : NULL;
}

EXPORT void *pvalloc(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return ready() ? acquired(RAW_ALIGNED, next_pvalloc(size), (size + page - 1) & ~(page - 1), page) : NULL;
}
