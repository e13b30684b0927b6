/* `corrupt WAY [handler] [threads]`: breaks the rules of malloc in that way, and prints the block it does it with.
 *
 * handler: SIGABRT is caught, and the handler allocates.  threads: others allocate meanwhile.
 * Status 3: nobody has noticed.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char outside[4096];

static void *allocate_always(void *none)
{
    for (;;) {
        void *volatile p = malloc(100), *volatile q = malloc(3000);
        free(p);
        free(q);
    }
    return none;
}

static void at_abort(int number)
{
    (void)number;
    for (size_t size = 1; size < 1000000; size *= 3) {
        void *volatile p = malloc(size);
        free(p);
    }
    if (write(STDOUT_FILENO, "handled\n", 8) < 0)
        _exit(9);
}

/* Prints the block that the message has to name. */
static void *named(void *p)
{
    printf("0x%llx\n", (unsigned long long)(uintptr_t)p);
    return p;
}

int main(int count, char **word)
{
    const char *way = count > 1 ? word[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0); /* what is printed takes no block */
    alarm(60);
    for (int i = 2; i < count; i++) {
        if (strcmp(word[i], "handler") == 0)
            signal(SIGABRT, at_abort);
        pthread_t thread;
        if (strcmp(word[i], "threads") == 0)
            for (int n = 0; n < 3; n++)
                pthread_create(&thread, NULL, allocate_always, NULL);
    }
    char *volatile kept = malloc(100), *volatile p = malloc(100), *volatile next = malloc(100);
    char *volatile large = malloc(40 << 20);
    if (strcmp(way, "double") == 0) {
        free(p);
        free(named(p));
    } else if (strcmp(way, "double-later") == 0) {
        free(p);
        free(kept);
        free(next);
        free(named(kept));
    } else if (strcmp(way, "double-large") == 0) {
        free(large);
        free(named(large));
    } else if (strcmp(way, "realloc") == 0) {
        free(p);
        next = realloc(named(p), 300);
    } else if (strcmp(way, "realloc-to-nothing") == 0) {
        free(p);
        next = realloc(named(p), 0);
    } else if (strcmp(way, "usable-freed") == 0) {
        free(p);
        return malloc_usable_size(named(p)) == 0;
    } else if (strcmp(way, "usable") == 0) {
        return malloc_usable_size(named(outside + 64)) == 0;
    } else if (strcmp(way, "foreign") == 0) {
        free(named(outside + 64));
    } else if (strcmp(way, "inside") == 0) {
        free(named(p + 16));
    } else if (strcmp(way, "odd") == 0) {
        free(named(p + 1));
    } else if (strcmp(way, "wild") == 0) {
        free(named((void *)0x123456780));
    } else if (strcmp(way, "overflow") == 0) {
        if (p > next) {
            char *upper = p;
            p = next;
            next = upper;
        }
        memset(p, 'x', malloc_usable_size(p) + 24);
        free(named(next));
        free(p);
    }
    free(large);
    return 3;
}
