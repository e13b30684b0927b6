/* Threads call the library named by LIBRARY, which allocates under a lock, while the main thread forks. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *(*gives)(size_t);
static int over;

static void *ask(void *none)
{
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE))
        free(gives(100));
    return none;
}

int main(void)
{
    pthread_t thread[2];
    alarm(60);
    void *library = dlopen(getenv("LIBRARY"), RTLD_NOW);
    if (!library)
        return 1;
    *(void **)&gives = dlsym(library, "library_gives");
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, ask, NULL);
    for (int i = 0; i < 60; i++) {
        int status = 0;
        pid_t child = fork();
        if (child < 0)
            return 2;
        if (!child) {
            alarm(30);
            free(gives(10));
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child || status)
            return 3;
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    puts("done");
    return 0;
}
