/* Call stacks by the unwinder of gcc's library, which needs no frame pointers: it reads the tables that every
   program carries for exceptions.  It is loaded only when stacks are wanted.  Without it, as in many programs of
   musl's, a stack is the caller alone. */
#define _GNU_SOURCE
#include "stacks.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#define TABLE_BITS 16u
#define TABLE_SIZE (1u << TABLE_BITS)
#define TABLE_PROBES 64u
#define MAX_MODULES 512u
#define HASH_MASK ((1ull << 48) - 1)

typedef _Unwind_Reason_Code unwinder(_Unwind_Trace_Fn, void *);

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

static unwinder *unwind;
static uintptr_t (*address_in)(struct _Unwind_Context *);
static _Atomic uint64_t *seen; /* hashes, 0 for none; NULL without memory for it */
static struct {
    _Atomic uint64_t start, end; /* 0, 0 before it is filled in */
} modules[MAX_MODULES];
static atomic_uint module_count;

void stacks_begin(void)
{
    void *library = dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        *(void **)&address_in = dlsym(library, "_Unwind_GetIP");
        *(void **)&unwind = dlsym(library, "_Unwind_Backtrace");
    }
    void *table = mmap(NULL, TABLE_SIZE * sizeof *seen, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    seen = table == MAP_FAILED ? NULL : table;
}

void forget_stacks(void)
{
    if (seen != NULL)
        madvise((void *)seen, TABLE_SIZE * sizeof *seen, MADV_DONTNEED);
    atomic_store(&module_count, 0);
}

static bool is_own(uintptr_t address)
{
    return address >= (uintptr_t)__ehdr_start && address < (uintptr_t)_end;
}

static _Unwind_Reason_Code add_frame(struct _Unwind_Context *context, void *to)
{
    struct stack *stack = to;
    uintptr_t address = address_in(context);
    if (address == 0 || stack->count == MAX_FRAMES)
        return _URC_END_OF_STACK;
    if (stack->count > 0 || !is_own(address))
        stack->frames[stack->count++] = address;
    return _URC_NO_REASON;
}

void take_stack(struct stack *stack)
{
    stack->count = 0;
    if (unwind != NULL && address_in != NULL)
        unwind(add_frame, stack);
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, a word at a time, mixed */
    for (unsigned number = 0; number < stack->count; number++) {
        hash = (hash ^ stack->frames[number]) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    hash &= HASH_MASK;
    stack->hash = hash == 0 ? 1 : hash;
}

bool is_new_stack(uint64_t hash)
{
    for (uint64_t probe = 0; seen != NULL && probe < TABLE_PROBES; probe++) {
        _Atomic uint64_t *place = &seen[(hash + probe) % TABLE_SIZE];
        uint64_t there = atomic_load_explicit(place, memory_order_relaxed);
        if (there == hash)
            return false;
        if (there == 0) {
            atomic_store_explicit(place, hash, memory_order_relaxed);
            return true;
        }
    }
    return true;
}

/* A file of code in memory: the address to be found, and where the file that holds it lies. */
struct search {
    uint64_t address;
    uint64_t start;
    uint64_t end;
    const char *path;
};

static int look_into(struct dl_phdr_info *info, size_t size, void *for_what)
{
    (void)size;
    struct search *search = for_what;
    uint64_t start = UINT64_MAX, end = 0;
    for (unsigned number = 0; number < info->dlpi_phnum; number++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[number];
        uint64_t first = info->dlpi_addr + part->p_vaddr;
        if (part->p_type != PT_LOAD)
            continue;
        start = first < start ? first : start;
        end = first + part->p_memsz > end ? first + part->p_memsz : end;
    }
    if (search->address < start || search->address >= end)
        return 0;
    *search = (struct search){search->address, start & ~(uint64_t)4095, end, info->dlpi_name};
    return 1;
}

void find_module(uint64_t address, void (*found)(uint64_t start, const char *path))
{
    unsigned count = atomic_load(&module_count);
    for (unsigned number = 0; number < count && number < MAX_MODULES; number++)
        if (address >= atomic_load(&modules[number].start) && address < atomic_load(&modules[number].end))
            return;
    struct search search = {.address = address};
    if (dl_iterate_phdr(look_into, &search) == 0)
        return;
    unsigned number = atomic_fetch_add(&module_count, 1);
    if (number < MAX_MODULES) {
        atomic_store(&modules[number].end, search.end);
        atomic_store(&modules[number].start, search.start);
    }
    char path[4096];
    ssize_t length = *search.path == '\0' ? readlink("/proc/self/exe", path, sizeof path - 1) : 0;
    path[length < 0 ? 0 : length] = '\0';
    found(search.start, length > 0 ? path : search.path); /* the program itself has no name among the files */
}
