/* An allocator for tests of the player, with a fault that -DFAULT=... plants.
 *
 * Block follows block in one reserve, which becomes writable page by page.  Nothing is ever handed out again, so what
 * it takes can be worked out by hand: 16 bytes a block, its size in them, and the sizes rounded up to 16.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NONE 0
#define OVERLAPS 1
#define CRASHES 2
#define ABORTS 3
#define EXITS 4
#define HANGS 5
#define DIRTY 6
#define SKEWED 7
#define FULL 8
#define LOSES 9
#define NOWHERE 10
#define BY_THREAD 11

#define PAGE 4096u
#define RESERVE (1ull << 32)
#define FAULTY_CALL 20 /* of malloc */
#define FOR_A_THREAD (16 * PAGE)

static struct {
    uint8_t *start, *top, *end;
    unsigned calls, taken;
} heap __attribute__((aligned(PAGE)));

static void *take(size_t size, size_t align)
{
    __atomic_fetch_add(&heap.taken, 1, __ATOMIC_RELAXED); /* written before it is read: one fault, not two */
    if (!heap.start)
        heap.start = heap.top = heap.end =
            mmap(NULL, RESERVE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (size > RESERVE / 2)
        return NULL;
    uint8_t *p = (uint8_t *)(((uintptr_t)heap.top + 16 + align - 1) & ~(uintptr_t)(align - 1));
    heap.top = p + ((size + 15) & ~(size_t)15);
    if (heap.top > heap.end) {
        size_t more = (size_t)(heap.top - heap.end + PAGE - 1) & ~(size_t)(PAGE - 1);
        mprotect(heap.end, more, PROT_READ | PROT_WRITE);
        heap.end += more;
    }
    memcpy(p - 16, &size, sizeof size);
    return p;
}

#if FAULT == BY_THREAD
static __thread int known;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void leave(void *memory) { munmap(memory, FOR_A_THREAD); }
static void begin(void) { pthread_key_create(&key, leave); }

static void meet(void)
{
    if (known++)
        return;
    pthread_once(&once, begin);
    pthread_setspecific(key, mmap(NULL, FOR_A_THREAD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}
#endif

void *malloc(size_t size)
{
#if FAULT == BY_THREAD
    meet();
#endif
    uint8_t *p = take(size, 16);
    if (++heap.calls != FAULTY_CALL)
        return p;
    switch (FAULT) {
    case OVERLAPS:
        return p - 32;
    case CRASHES:
        *(volatile int *)8 = 1;
        break;
    case ABORTS:
        if (write(2, "planted: this heap is corrupt\n", 30) == 30)
            abort();
        break;
    case EXITS:
        close_range(3, ~0u, 0); /* as the kernel does, a while before anybody can wait for the process */
        usleep(50000);
        _exit(3);
    case HANGS:
        for (;;)
            ;
    case SKEWED:
        return p + 8;
    case FULL:
        return NULL;
    case NOWHERE:
        return (void *)0x7000;
    }
    return p;
}

void free(void *p) { (void)p; }

void *calloc(size_t n, size_t size)
{
    uint8_t *p = take(n * size, 16);
    if (p && FAULT == DIRTY)
        p[n * size / 2] = 1;
    return p;
}

void *realloc(void *old, size_t size)
{
    uint8_t *p = take(size, 16);
    size_t before = 0;
    if (old)
        memcpy(&before, (uint8_t *)old - 16, sizeof before);
    if (p && FAULT != LOSES)
        memcpy(p, old, before < size ? before : size);
    return p;
}

#ifndef WITHOUT_ALIGNED
void *memalign(size_t align, size_t size) { return take(size, align < 16 ? 16 : align); }
#endif
