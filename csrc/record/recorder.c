/* The recorder: preloaded into a program, it writes down every call of malloc and its kin.

   It exports malloc and the others, calls the next library's, and logs.  A release is logged BEFORE the
   call and an acquisition AFTER it; the place in the log is taken by one atomic increment.  So if an
   address is reused, its release stands in front of its acquisition, whichever threads did them.

   The log is a file mapped shared, chunk by chunk, so a program that dies leaves everything behind.
   A process that is forked begins its own file: the kernel wipes the page that says "this process records"
   in the child, whatever system call made the child, and the next event finds it wiped.  A vfork child
   shares the memory, so it records as its parent, whose heap it uses, until it execs.

   The recorder itself allocates nothing, keeps no descriptor open, and makes system calls only when a file
   or a chunk begins.  Nothing here needs Python: heaplab.native finds the library and sets two variables.

   Environment: LD_PRELOAD, and HEAPLAB_RECORD_DIR, the directory to write to. */
#define _GNU_SOURCE
#include "recorder.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
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
static char directory[3968]; /* where logs go: kept, as programs may change their environment */
static char log_path[4096];

static _Thread_local unsigned thread_number; /* 0: not yet numbered */
static pthread_key_t thread_key;             /* set in numbered threads, so that its destructor is called */
static bool has_thread_key;
static _Thread_local bool busy;              /* inside the recorder: a signal handler's events are dropped */

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A chunk of the file: which one, and which records it holds. */
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

/* The file's `chunk`, made and mapped; NULL and errno when that cannot be. */
static struct record *map_chunk(struct chunk chunk, int flags)
{
    off_t offset = (off_t)(chunk.first * sizeof(struct record));
    size_t size = chunk.count * sizeof(struct record);
    int file = open(log_path, O_RDWR | O_CLOEXEC | flags, 0600);
    if (file < 0)
        return NULL;
    void *records = MAP_FAILED;
    errno = posix_fallocate(file, offset, (off_t)size); /* so that a full disk is an error, not SIGBUS */
    if (errno == 0)
        records = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, offset);
    int error = errno;
    close(file);
    errno = error;
    if (records == MAP_FAILED)
        return NULL;
    madvise(records, size, MADV_DONTFORK);
    return records;
}

/* Fill in what /proc/self/stat says: field 2, the program's name, and field 22, when the process was made. */
static void describe_process(struct header *header)
{
    char text[1024];
    int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length < 0 ? 0 : length] = '\0';
    const char *name = strchr(text, '(');
    const char *field = strrchr(text, ')'); /* the last: a name may contain anything */
    if (name == NULL || field == NULL)
        return;
    size_t name_length = (size_t)(field - name - 1);
    if (name_length >= sizeof header->program)
        name_length = sizeof header->program - 1;
    memcpy(header->program, name + 1, name_length);
    for (int number = 2; field != NULL && number < 22; number++)
        field = strchr(field + 1, ' ');
    header->birth = field == NULL ? 0 : strtoull(field, NULL, 10);
}

static void thread_ends(void *numbered);

/* Begin this process's file.  Returns the phase that follows. */
static enum phase begin_file(void)
{
    if (started == 0) {
        const char *given = getenv("HEAPLAB_RECORD_DIR");
        if (given == NULL || strlen(given) >= sizeof directory)
            return OFF;
        strcpy(directory, given);
        /* before the program makes keys: the C library keeps the values of the first ones without malloc */
        has_thread_key = pthread_key_create(&thread_key, thread_ends) == 0;
    }
    uint64_t parents_records = started == 0 ? 0 : atomic_load(&next_record);
    struct header header = {
        .magic = RAW_MAGIC,
        .pid = (uint32_t)getpid(),
        .parent_pid = (uint32_t)getppid(),
        .started = now(),
        .forked_from = started,
        .fork_index = started == 0 ? 0 : parents_records - HEADER_RECORDS,
        .thread = thread_number,
    };
    describe_process(&header);
    snprintf(log_path, sizeof log_path, "%s/%u.%llu.rec", directory, header.pid,
             (unsigned long long)header.started);
    for (size_t number = 0; number < MAX_CHUNKS && number <= chunk_of(parents_records).number; number++)
        atomic_store(&chunks[number], NULL); /* the parent's mappings did not come along */
    atomic_store(&next_record, HEADER_RECORDS);
    started = header.started;
    struct record *first = map_chunk(chunk_of(0), O_CREAT | O_EXCL);
    if (first == NULL) {
        int emptied = truncate(log_path, 0); /* which says that there was no room */
        (void)emptied;
        return OFF;
    }
    memcpy(first, &header, sizeof header);
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

/* What malloc may not disturb, though the recorder's system calls would: errno, and that malloc is no
   cancellation point. */
struct calm {
    int error;
    int cancelling;
};

static struct calm be_calm(void)
{
    struct calm calm = {.error = errno};
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &calm.cancelling);
    return calm;
}

static void calm_ends(struct calm calm)
{
    pthread_setcancelstate(calm.cancelling, NULL);
    errno = calm.error;
}

/* The way in when this process does not record yet.  Returns the phase that follows. */
static __attribute__((noinline)) int enter(void)
{
    struct calm calm = be_calm();
    int reached = OFF;
    _Atomic int *phase = atomic_load(&phase_page);
    if (phase == NULL)
        phase = make_phase_page();
    if (phase != NULL) {
        int expected = UNSET;
        if (atomic_compare_exchange_strong(phase, &expected, OPENING))
            atomic_store(phase, begin_file());
        while ((reached = atomic_load(phase)) == OPENING)
            sched_yield();
    }
    calm_ends(calm);
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

/* A chunk made by the first thread that needs it.  NULL: the recording has ended for want of room. */
static __attribute__((noinline)) struct record *new_chunk(struct chunk chunk)
{
    struct calm calm = be_calm();
    struct record *records = NULL;
    if (chunk.number >= MAX_CHUNKS)
        errno = EFBIG;
    else
        records = map_chunk(chunk, 0);
    if (records == NULL) {
        ((struct header *)atomic_load(&chunks[0]))->failed = (uint32_t)errno;
        atomic_store(atomic_load(&phase_page), OFF);
    } else {
        struct record *other = NULL;
        if (!atomic_compare_exchange_strong(&chunks[chunk.number], &other, records)) {
            munmap(records, chunk.count * sizeof(struct record));
            records = other;
        }
    }
    calm_ends(calm);
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

static void record(enum kind kind, const void *address, size_t size, size_t align)
{
    if (busy)
        return;
    busy = true;
    if (LIKELY(recording())) {
        if (!LIKELY(thread_number != 0))
            begin_thread();
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

/* A forked child begins its file at once, so that its birth is known even if it never allocates. */
static void in_child(void)
{
    busy = false;
    recording();
}

static __attribute__((constructor)) void start(void)
{
    pthread_atfork(before_fork, NULL, in_child);
    recording();
}

static __attribute__((destructor)) void stop(void)
{
    record(RAW_EXIT, NULL, 0, 0);
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
