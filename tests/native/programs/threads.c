/* Threads that allocate, free and reallocate blocks of a table they share, each by its own random numbers.
   Thread n asks for sizes that are n modulo 8, so that every request tells who made it. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 5, STEPS = 30000, TABLE = 64 };

static void *table[TABLE];

static void *work(void *argument)
{
    uint32_t number = (uint32_t)(uintptr_t)argument, random = number * 7919 + 1;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        size_t size = (random >> 20) / 8 * 8 + number;
        void *mine;
        if ((random >> 8) % 4 == 0) {
            mine = __atomic_exchange_n(&table[(random >> 12) % TABLE], NULL, __ATOMIC_ACQ_REL);
            mine = realloc(mine, size);
        } else {
            mine = malloc(size);
        }
        memset(mine, (int)number, size);
        free(__atomic_exchange_n(&table[(random >> 10) % TABLE], mine, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t number = 1; number <= THREADS; number++)
        pthread_create(&threads[number - 1], NULL, work, (void *)number);
    for (int number = 0; number < THREADS; number++)
        pthread_join(threads[number], NULL);
    for (int slot = 0; slot < TABLE; slot++)
        free(table[slot]);
    return 0;
}
