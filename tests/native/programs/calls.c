/* Every function the recorder exports, between two marks of 11111 and 22222 bytes. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

int main(void)
{
    void *volatile p, *volatile q;
    void *block;
    free(malloc(11111));
    p = malloc(100);
    q = calloc(3, 8);
    p = realloc(p, 5000);
    free(q);
    q = realloc(NULL, 7);
    free(NULL);
    q = reallocarray(q, 6, 7);
    p = realloc(p, 0);
    free(q);
    if (posix_memalign(&block, 64, 200) != 0)
        return 1;
    free(block);
    free(aligned_alloc(32, 320));
    free(memalign(256, 10));
    free(memalign(24, 11)); /* glibc rounds an alignment up to a power of two */
    free(valloc(12));
    free(pvalloc(13));
    free(malloc(0));
    errno = 0;
    p = malloc(SIZE_MAX / 2);
    q = calloc(SIZE_MAX / 2, 3);
    if (p != NULL || q != NULL || errno != ENOMEM)
        return 2;
    p = malloc(40);
    q = realloc(p, SIZE_MAX / 2);
    if (q != NULL || reallocarray(p, SIZE_MAX / 2, 3) != NULL)
        return 3;
    errno = 77;
    free(p);
    p = malloc(41);
    if (errno != 77)
        return 4;
    free(p);
    free(malloc(22222));
    return 5;
}
