/* `ends WAY COUNT`: allocates COUNT blocks of 50 bytes, frees every other one, and ends in that way. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **argument)
{
    const char *way = argument[1];
    if (count != 3)
        return 1;
    errno = 77;
    for (int step = atoi(argument[2]); step > 0; step--) {
        void *volatile block = malloc(50);
        if (step % 2 == 0)
            free(block);
    }
    if (errno != 77) /* neither malloc nor free changes it when all goes well */
        return 2;
    if (strcmp(way, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(way, "abort") == 0)
        abort();
    if (strcmp(way, "_exit") == 0)
        _exit(9);
    if (strcmp(way, "descriptor") == 0)
        return open("/dev/null", O_RDONLY);
    return 9;
}
