/* Children forked out of a process whose other threads never stop allocating. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 3, CHILDREN = 25, STEPS = 200 };

static volatile int stop;

static void *work(void *argument)
{
    uint32_t random = (uint32_t)(uintptr_t)argument;
    while (!stop) {
        random = random * 1664525u + 1013904223u;
        void *volatile block = malloc(random >> 22);
        block = realloc(block, (random >> 20) + 1);
        free(block);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t number = 0; number < THREADS; number++)
        pthread_create(&threads[number], NULL, work, (void *)(number + 1));
    for (int child = 0; child < CHILDREN; child++) {
        void *volatile block = malloc(12345);
        if (fork() == 0) {
            free(block);
            for (int step = 0; step < STEPS; step++) {
                block = malloc(20000 + (size_t)step);
                free(block);
            }
            _exit(0);
        }
        free(block);
    }
    while (wait(NULL) > 0)
        ;
    stop = 1;
    for (int number = 0; number < THREADS; number++)
        pthread_join(threads[number], NULL);
    return 0;
}
