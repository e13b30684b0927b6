/* A known number of calls: `tally WAY`.  What the C library asks for beside them is the same in `tally none`. */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *nothing(void *none) { return none; }

static void *volatile block[100];

/* 101 malloc, one of them refused, 20 calloc, 10 realloc, 5 aligned and 75 free; 50 blocks of 1000 bytes are kept. */
static void *calls(void *none)
{
    for (int i = 0; i < 100; i++)
        block[i] = malloc(1000);
    for (int i = 0; i < 50; i++)
        free(block[i]);
    for (int i = 0; i < 20; i++) {
        void *volatile p = calloc(10, 10);
        free(p);
    }
    void *volatile p = realloc(NULL, 10);
    for (size_t i = 0; i < 8; i++)
        p = realloc(p, 100 << i);
    p = realloc(p, 0);
    for (int i = 0; i < 5; i++) {
        p = memalign(64, 100);
        free(p);
    }
    for (int i = 0; i < 10; i++)
        free(NULL); /* no call of the heap's */
    p = malloc((size_t)-1);
    return none;
}

int main(int count, char **word)
{
    const char *way = count > 1 ? word[1] : "";
    pthread_t thread;
    if (strcmp(way, "calls") == 0)
        calls(NULL);
    if (strcmp(way, "nothread") == 0 || strcmp(way, "thread") == 0) {
        pthread_create(&thread, NULL, strcmp(way, "thread") == 0 ? calls : nothing, NULL);
        pthread_join(thread, NULL);
    }
    if (strcmp(way, "child") == 0 || strcmp(way, "nochild") == 0) {
        if (!fork()) {
            if (strcmp(way, "child") == 0)
                calls(NULL);
            exit(0);
        }
        wait(NULL);
    }
    if (strcmp(way, "closed") == 0) {
        close(1);
        close(2);
    }
    return 0;
}
