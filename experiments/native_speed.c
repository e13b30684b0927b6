/* Work for a malloc, timed as a whole: native_speed.py says what is asked, and starts this under each allocator.
 *
 *   native_speed lifo|random|one|two OPERATIONS     prints the nanoseconds of processor time that an operation takes
 *
 * An operation is a malloc and the free of a block.  No clock is read inside.  Processor time, of all threads and of
 * the kernel for them, because a machine may have more to do than this.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STACK = 100, TABLE = 4096, PHASE = 100000 };

static uint64_t operations;

/* xorshift64 (Marsaglia) */
static inline uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* 16 to 271 bytes, and every sixteenth time up to 2 KiB. */
static inline size_t some_size(uint64_t random)
{
    return random & 0xf00 ? 16 + (random & 0xff) : 16 + (random >> 12 & 0x7ff);
}

static inline void *fresh(uint64_t *random)
{
    uint64_t *p = malloc(some_size(next(random)));
    if (!p)
        abort();
    p[0] = *random;
    return p;
}

/* A stack of blocks grows and shrinks. */
static void lifo(void)
{
    void *stack[STACK];
    uint64_t random = 88172645463325252ull;
    for (uint64_t done = 0; done < operations; done += STACK) {
        for (int n = 0; n < STACK; n++)
            stack[n] = fresh(&random);
        for (int n = STACK; n--;)
            free(stack[n]);
    }
}

/* A block of a table is freed and another one takes its place. */
static void replace(void **table, uint64_t *random, uint64_t times)
{
    while (times--) {
        void **slot = &table[next(random) >> 20 & (TABLE - 1)];
        free(*slot);
        *slot = fresh(random);
    }
}

static void **tables[2];
static pthread_barrier_t barrier;

/* Threads swap their tables after each phase: many blocks are freed by the thread that did not allocate them (Larson
 * and Krishnan, Memory allocation for long-running server applications, 1998). */
static void *exchange(void *number)
{
    uint64_t mine = (uint64_t)(uintptr_t)number, random = 88172645463325252ull + mine;
    for (uint64_t phase = 0; phase < operations / PHASE / 2; phase++) {
        replace(tables[(phase + mine) & 1], &random, PHASE);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    operations = strtoull(argv[2], NULL, 10);
    uint64_t random = 88172645463325252ull;
    for (int n = 0; n < 2; n++)
        tables[n] = calloc(TABLE, sizeof(void *));
    if (!strcmp(argv[1], "lifo")) {
        lifo();
    } else if (!strcmp(argv[1], "random")) { /* fills the table, and then empties it in another order */
        for (uint64_t done = 0; done < operations; done += TABLE) {
            for (uint64_t n = 0; n < TABLE; n++)
                tables[0][n] = fresh(&random);
            for (uint64_t n = 0; n < TABLE; n++)
                free(tables[0][n * 2654435761u & (TABLE - 1)]);
        }
    } else if (!strcmp(argv[1], "one")) {
        replace(tables[0], &random, operations);
    } else {
        pthread_t thread;
        pthread_barrier_init(&barrier, NULL, 2);
        if (pthread_create(&thread, NULL, exchange, (void *)1))
            return 1;
        exchange(NULL);
        pthread_join(thread, NULL);
    }
    struct timespec taken;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &taken);
    printf("%.3f\n", ((double)taken.tv_sec * 1e9 + (double)taken.tv_nsec) / (double)operations);
    return 0;
}
