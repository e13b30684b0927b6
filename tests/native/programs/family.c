/* A family of processes; `family WAY` makes the child by that way.  Sizes say who asked:
   1xx the parent, 2xx the child, 3xx the program after exec. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void child(char *self, int execs, void *first, void *second)
{
    free(first);
    first = malloc(201);
    second = realloc(second, 202);
    if (execs)
        execl(self, self, "after", (char *)NULL);
    free(first);
    _exit(7);
}

int main(int count, char **argument)
{
    const char *way = count > 1 ? argument[1] : "";
    if (strcmp(way, "after") == 0) {
        free(malloc(301));
        return 7;
    }
    void *first = malloc(101), *second = malloc(102);
    pid_t pid = -1;
    if (strcmp(way, "fork") == 0 || strcmp(way, "exec") == 0)
        pid = fork();
    else if (strcmp(way, "syscall") == 0)
        pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); /* no atfork handler knows */
    else if (strcmp(way, "vfork") == 0)
        pid = vfork();
    else if (strcmp(way, "spawn") == 0)
        posix_spawn(&pid, argument[0], NULL, NULL, (char *[]){argument[0], "after", NULL}, environ);
    if (pid == 0 && strcmp(way, "vfork") == 0)
        execl(argument[0], argument[0], "after", (char *)NULL);
    if (pid == 0)
        child(argument[0], strcmp(way, "exec") == 0, first, second);
    free(second);
    second = malloc(103);
    int status;
    wait(&status);
    free(first);
    free(malloc(104));
    return WEXITSTATUS(status);
}
