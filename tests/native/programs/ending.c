/* Threads that end in every way there is.  With the argument "pthread_exit" main is one of them, and the last thread
   ends the process; without it, main returns while another thread is still there.

   A request of n * 1000 + 1 bytes is the first thing that thread n does, one of n * 1000 + 2 bytes the last, or, where
   destructors allocate, one of n * 1000 + 3. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RETURNS = 1, EXITS, IS_CANCELLED, IS_DETACHED, HAS_DESTRUCTORS, FORKS, STAYS };

static pthread_key_t key;
static pthread_barrier_t stays, detached;
static pid_t detached_thread;
static void *passed;

static void request(unsigned size)
{
    void *volatile block = malloc(size);
    free(block);
}

/* The C library calls it again, and again, for what it sets anew: three times after the first. */
static void destructor(void *argument)
{
    uintptr_t round = (uintptr_t)argument;
    request(HAS_DESTRUCTORS * 1000 + 2);
    if (round < 4)
        pthread_setspecific(key, (void *)(round + 1));
    else
        request(HAS_DESTRUCTORS * 1000 + 3);
}

static void *work(void *argument)
{
    unsigned way = (unsigned)(uintptr_t)argument;
    request(way * 1000 + 1);
    switch (way) {
    case RETURNS:
        passed = malloc(77);
        break;
    case EXITS:
        request(way * 1000 + 2);
        pthread_exit(NULL);
    case IS_CANCELLED:
        request(way * 1000 + 2);
        for (;;)
            pause();
    case IS_DETACHED:
        detached_thread = gettid();
        pthread_barrier_wait(&detached);
        break;
    case HAS_DESTRUCTORS:
        pthread_setspecific(key, (void *)1);
        return NULL;
    case FORKS:
        if (fork() == 0) {
            request(8001);
            _exit(0);
        }
        wait(NULL);
        break;
    case STAYS:
        pthread_barrier_wait(&stays);
        pause();
    }
    request(way * 1000 + 2);
    return NULL;
}

static pthread_t start(unsigned way)
{
    pthread_t thread;
    pthread_create(&thread, NULL, work, (void *)(uintptr_t)way);
    return thread;
}

static void *last(void *argument)
{
    pthread_join(*(pthread_t *)argument, NULL); /* main's own end */
    request(9001);
    return NULL;
}

int main(int count, char **words)
{
    static pthread_t self;
    pthread_key_create(&key, destructor);
    pthread_barrier_init(&stays, NULL, 2);
    pthread_barrier_init(&detached, NULL, 2);
    bool main_ends = count > 1 && strcmp(words[1], "pthread_exit") == 0;
    if (!main_ends) {
        start(STAYS);
        pthread_barrier_wait(&stays);
    }
    for (unsigned way = RETURNS; way <= FORKS; way++) {
        pthread_t thread = start(way);
        if (way == IS_DETACHED) {
            pthread_detach(thread);
            pthread_barrier_wait(&detached);
            while (tgkill(getpid(), detached_thread, 0) == 0)
                sched_yield();
            continue;
        }
        if (way == IS_CANCELLED)
            pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    free(passed);
    if (main_ends) {
        pthread_t thread;
        self = pthread_self();
        pthread_create(&thread, NULL, last, &self);
        pthread_exit(NULL);
    }
    return 0;
}
