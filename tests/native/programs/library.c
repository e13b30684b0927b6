/* A library for the stress: it allocates when it is loaded, when it is unloaded, and around forks.
 *
 * The handlers of fork take a lock that a thread of the library holds while it allocates, as many libraries' do.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static char *kept;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

static void allocate_some(void)
{
    for (size_t size = 1; size < 300000; size = 2 * size + 1) {
        char *p = malloc(size);
        if (!p)
            abort();
        memset(p, 1, size);
        free(p);
    }
}

static void before_fork(void)
{
    pthread_mutex_lock(&held);
    allocate_some();
}

static void after_fork(void)
{
    allocate_some();
    pthread_mutex_unlock(&held);
}

static __attribute__((constructor)) void load(void)
{
    kept = malloc(1000);
    strcpy(kept, "kept");
    allocate_some();
    if (getenv("LIBRARY_FORKS"))
        pthread_atfork(before_fork, after_fork, after_fork);
}

static __attribute__((destructor)) void unload(void)
{
    if (strcmp(kept, "kept") != 0)
        abort();
    free(kept);
    allocate_some();
}

/* A block, made while the library's lock is held. */
void *library_gives(size_t size)
{
    pthread_mutex_lock(&held);
    allocate_some();
    void *p = malloc(size);
    pthread_mutex_unlock(&held);
    return p;
}
