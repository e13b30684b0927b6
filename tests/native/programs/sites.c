/* `sites`: named functions ask for blocks, through one another; a child inherits some. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

NOINLINE void *wrapper(size_t size)
{
    void *volatile block = malloc(size);
    return block;
}

NOINLINE void *tables(int count)
{
    void *volatile last = NULL;
    for (int number = 0; number < count; number++)
        last = wrapper(1000);
    return last;
}

NOINLINE void *buffers(int count)
{
    void *volatile last = NULL;
    for (int number = 0; number < count; number++) {
        free(last);
        last = wrapper(5000);
    }
    last = realloc(last, 6000);
    return last;
}

NOINLINE void *in_child(void)
{
    void *volatile block = wrapper(50000);
    return block;
}

int main(void)
{
    void *volatile kept = tables(100);
    kept = buffers(10);
    if (fork() == 0) {
        kept = in_child();
        _exit(0);
    }
    wait(NULL);
    free(kept);
    return 0;
}
