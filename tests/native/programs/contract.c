/* What malloc and its family answer, a line each.
 *
 * A line "name: answer" is what the C library and every design have to agree on; what POSIX demands is asserted here.
 * The program ends with the number of broken demands, each told on stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARK 4711 /* an errno that nobody sets */

static int broken;

#define DEMAND(what)                                                                                          \
    do {                                                                                                      \
        if (!(what)) {                                                                                        \
            broken++;                                                                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what);                                                \
        }                                                                                                     \
    } while (0)

/* So that the compiler knows no more of a size than the library. */
static volatile size_t most = SIZE_MAX;

static const char *error_name(int error)
{
    return error == MARK ? "errno as it was" : error == ENOMEM ? "ENOMEM" : error == EINVAL ? "EINVAL" : "another errno";
}

/* Prints what became of a request, and frees the block. */
static void tell(const char *name, void *p, size_t size, size_t alignment)
{
    if (!p) {
        printf("%s: NULL, %s\n", name, error_name(errno));
    } else {
        DEMAND((uintptr_t)p % alignment == 0);
        DEMAND(malloc_usable_size(p) >= size);
        memset(p, 0xa5, size);
        printf("%s: a block\n", name);
        free(p);
    }
    errno = MARK;
}

#define TELL(call, size, alignment) tell(#call, (errno = MARK, call), size, alignment)
#define TELL_REFUSED(call) tell(#call, (errno = MARK, call), 0, 1)

static int is_filled(const unsigned char *p, int with, size_t n)
{
    while (n)
        if (p[--n] != with)
            return 0;
    return 1;
}

static void zero_and_huge_sizes(void)
{
    TELL(malloc(0), 0, 16);
    TELL(malloc(1), 1, 16);
    TELL(malloc(1 << 20), 1 << 20, 16);
    TELL_REFUSED(malloc(most));
    TELL_REFUSED(malloc(most / 2));
    TELL_REFUSED(malloc(most / 2 + 1));
    TELL_REFUSED(malloc(most - 4096));
    TELL_REFUSED(malloc((size_t)1 << 47));
    TELL(calloc(0, 0), 0, 16);
    TELL(calloc(0, most), 0, 16);
    TELL(calloc(most, 0), 0, 16);
    TELL(calloc(3, 1000), 3000, 16);
    TELL_REFUSED(calloc(most / 2, 3));
    TELL_REFUSED(calloc(most, most));
    TELL_REFUSED(calloc((size_t)1 << 33, (size_t)1 << 33));
    TELL_REFUSED(calloc(most / 2 + 1, 1));
    void *a = malloc(0), *b = malloc(0);
    DEMAND(a != b);
    free(a), free(b);
}

static void resizing(void)
{
    TELL(realloc(NULL, 0), 0, 16);
    TELL(realloc(NULL, 100), 100, 16);
    TELL_REFUSED(realloc(NULL, most));
    TELL(reallocarray(NULL, 10, 10), 100, 16);
    TELL_REFUSED(reallocarray(NULL, most / 2, 3));
    unsigned char *p = malloc(100);
    memset(p, 7, 100);
    errno = MARK;
    DEMAND(!realloc(p, most / 2) && errno == ENOMEM);
    errno = MARK;
    DEMAND(!realloc(p, (size_t)1 << 46) && errno == ENOMEM);
    errno = MARK;
    DEMAND(!reallocarray(p, most / 2, 3) && errno == ENOMEM);
    DEMAND(is_filled(p, 7, 100)); /* a refused request leaves the block alone */
    for (size_t size = 100, next; size < 40u << 20; size = next) {
        next = size * 5 / 3;
        p = realloc(p, next);
        DEMAND(p && (uintptr_t)p % 16 == 0 && is_filled(p, 7, size));
        memset(p, 7, next);
        if (next >= 40u << 20)
            for (size = next; size > 1; size = size * 2 / 5) {
                p = realloc(p, size * 2 / 5);
                DEMAND(p && is_filled(p, 7, size * 2 / 5));
            }
    }
    errno = MARK;
    p = realloc(p, 0);
    printf("realloc(p, 0): %s, %s\n", p ? "a block" : "NULL", error_name(errno));
    p = reallocarray(malloc(10), 0, 10);
    printf("reallocarray(p, 0, 10): %s\n", p ? "a block" : "NULL");
    for (size_t alignment = 16; alignment <= 65536; alignment *= 4) {
        p = memalign(alignment, 300);
        memset(p, 9, 300);
        p = realloc(p, 5000);
        DEMAND(is_filled(p, 9, 300));
        free(p);
    }
}

static void alignments(void)
{
    TELL(memalign(0, 10), 10, 16);
    TELL(memalign(1, 10), 10, 16);
    TELL(memalign(3, 10), 10, 16);
    TELL(memalign(48, 10), 10, 64);
    TELL(memalign(4096, 0), 0, 4096);
    TELL_REFUSED(memalign(most, 10));
    TELL_REFUSED(memalign(most / 2 + 2, 10));
    TELL_REFUSED(memalign(most / 2 + 1, 10));
    TELL_REFUSED(memalign((size_t)1 << 50, 10));
    TELL_REFUSED(memalign(64, most - 63));
    TELL_REFUSED(memalign(4096, most / 2));
    TELL(aligned_alloc(64, 640), 640, 64);
    TELL(aligned_alloc(64, 10), 10, 64);
    TELL(aligned_alloc(1, 10), 10, 16);
    TELL_REFUSED(aligned_alloc(64, most - 64));
    TELL(memalign(1 << 30, 100), 100, 1 << 30);
    TELL(valloc(0), 0, 4096);
    TELL(valloc(10), 10, 4096);
    TELL_REFUSED(valloc(most));
    TELL(pvalloc(0), 0, 4096);
    TELL(pvalloc(1), 4096, 4096);
    TELL(pvalloc(4097), 8192, 4096);
    TELL_REFUSED(pvalloc(most));
    TELL_REFUSED(pvalloc(most - 4096));

    static const size_t wrong[] = {0, 1, 2, 4, 3, 24, 100, SIZE_MAX, SIZE_MAX / 2};
    void *p = &broken;
    errno = MARK;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        DEMAND(posix_memalign(&p, wrong[i], 10) == EINVAL && p == &broken);
    DEMAND(posix_memalign(&p, 64, most / 2) == ENOMEM && p == &broken);
    DEMAND(posix_memalign(&p, (size_t)1 << 62, 1) == ENOMEM && p == &broken);
    for (size_t alignment = 8; alignment <= (size_t)1 << 30; alignment *= 2)
        for (size_t size = 0; size <= 300000; size = 3 * size + 1) {
            void *q = NULL;
            DEMAND(!posix_memalign(&p, alignment, size) && (uintptr_t)p % alignment == 0);
            DEMAND(!posix_memalign(&q, alignment, size) && (uintptr_t)q % alignment == 0 && p != q);
            memset(p, 1, size), memset(q, 2, size);
            DEMAND(is_filled(p, 1, size));
            free(p), free(q);
        }
}

static void frees(void)
{
    errno = MARK;
    free(NULL);
    DEMAND(errno == MARK);
    for (size_t size = 1; size <= (size_t)64 << 20; size = 2 * size + 3) {
        void *p = malloc(size), *q = malloc(size);
        memset(p, 1, size);
        errno = MARK;
        free(p);
        DEMAND(errno == MARK);
        free(q);
        DEMAND(errno == MARK);
    }
    DEMAND(malloc_usable_size(NULL) == 0);
}

/* Blocks that were written and freed come back zero from calloc. */
static void zeros(void)
{
    enum { BLOCKS = 60 };
    unsigned char *block[BLOCKS];
    for (int round = 0; round < 4; round++)
        for (size_t size = 1; size < 3u << 20; size = size * 3 + 5) {
            for (int i = 0; i < BLOCKS; i++) {
                block[i] = round % 2 ? malloc(size) : memalign(64, size);
                memset(block[i], 0xff, malloc_usable_size(block[i]));
            }
            for (int i = 0; i < BLOCKS; i++)
                free(block[i * 7 % BLOCKS]);
            for (int i = 0; i < BLOCKS; i++) {
                block[i] = calloc(size, 1);
                DEMAND(is_filled(block[i], 0, size));
                memset(block[i], 0xff, size);
            }
            for (int i = 0; i < BLOCKS; i++)
                free(block[i]);
        }
}

/* Every usable byte is the program's. */
static void usable(void)
{
    enum { BLOCKS = 2000 };
    static unsigned char *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        block[i] = malloc((size_t)i);
        DEMAND(malloc_usable_size(block[i]) >= (size_t)i);
        memset(block[i], i & 255, malloc_usable_size(block[i]));
    }
    for (int i = 0; i < BLOCKS; i++) {
        DEMAND(is_filled(block[i], i & 255, malloc_usable_size(block[i])));
        free(block[i]);
    }
}

/* What a program takes by moving the break itself stays its own; a heap on that break may find no more room. */
static void own_break(void)
{
    enum { BYTES = 1 << 20, BLOCKS = 200 };
    unsigned char *mine = sbrk(BYTES), *block[BLOCKS];
    DEMAND(mine != (void *)-1);
    memset(mine, 7, BYTES);
    for (int i = 0; i < BLOCKS; i++) {
        block[i] = malloc(50000);
        if (block[i])
            memset(block[i], 9, 50000);
    }
    size_t kept = 0;
    while (kept < BYTES && mine[kept] == 7)
        kept++;
    DEMAND(kept == BYTES);
    for (int i = 0; i < BLOCKS; i++)
        free(block[i]);
}

/* Great alignments cost address space, not memory. */
static void residence(void)
{
    char line[128];
    long most = 0; /* of this program; ru_maxrss would be that of who started it, if that was more */
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        sscanf(line, "VmHWM: %ld", &most);
    fclose(status);
    DEMAND(most > 0 && most < 400 << 10);
}

int main(void)
{
    zero_and_huge_sizes();
    resizing();
    alignments();
    frees();
    zeros();
    usable();
    residence();
    own_break();
    return broken > 100 ? 100 : broken;
}
