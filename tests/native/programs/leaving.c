/* `leaving WAY`: processes that end, hide and go away as real programs do.  Sizes say who asked. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEGABYTE (1 << 20)

static void *volatile kept;

static void ask_for(int count, size_t size)
{
    while (count-- > 0) {
        kept = malloc(size);
        free(kept);
    }
}

/* A child holds 50 MB while its parent takes 60 MB; then it ends, by `way`. */
static int overlap(const char *way)
{
    int asked[2], ready[2];
    char byte = 0;
    if (pipe(asked) != 0 || pipe(ready) != 0)
        return 1;
    pid_t child = fork();
    if (child == 0) {
        kept = malloc(50 * MEGABYTE);
        if (write(ready[1], &byte, 1) != 1 || read(asked[0], &byte, 1) != 1)
            _exit(1);
        if (strcmp(way, "_exit") == 0)
            _exit(0);
        if (strcmp(way, "exit_group") == 0)
            quick_exit(0);
        raise(strcmp(way, "SIGKILL") == 0 ? SIGKILL : SIGSEGV);
    }
    if (read(ready[0], &byte, 1) != 1)
        return 1;
    kept = malloc(60 * MEGABYTE);
    free(kept);
    if (write(asked[1], &byte, 1) != 1)
        return 1;
    waitpid(child, NULL, 0);
    kept = malloc(70 * MEGABYTE); /* as much again as both had */
    kept = malloc(1);
    return 0;
}

/* A daemon after the book: it works when all above it have gone. */
static int become_daemon(void)
{
    int gone[2];
    char byte;
    if (pipe(gone) != 0)
        return 1;
    if (fork() != 0)
        return 0; /* whose end closes its end of the pipe */
    setsid();
    if (fork() != 0)
        _exit(0);
    close(gone[1]);
    if (read(gone[0], &byte, 1) != 0)
        _exit(1);
    for (int file = 0; file < 1024; file++)
        close(file);
    ask_for(1000, 77);
    exit(0);
}

/* A server that gives up its rights, shuts itself in, and forks. */
static int give_up_rights(const char *folder)
{
    if (chroot(folder) != 0 || chdir("/") != 0 || setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
        return 1;
    ask_for(100000, 77);
    pid_t child = fork();
    if (child == 0) {
        ask_for(1000, 78);
        exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return status;
}

/* No file may grow, and no descriptor be left. */
static int be_limited(void)
{
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, 0});
    ask_for(100000, 77);
    return 0;
}

/* More than the address space has room for, if all of the log stayed in it: 24 bytes for each of 2,000,000. */
static int be_narrow(void)
{
    setrlimit(RLIMIT_AS, &(struct rlimit){24 * MEGABYTE, 24 * MEGABYTE});
    ask_for(1000000, 77);
    return 0;
}

/* 40 MB are there, for a tenth of a second at least, while many calls are logged; then they are gone. */
static int fill_memory(void)
{
    void *memory = malloc(40 * MEGABYTE);
    memset(memory, 1, 40 * MEGABYTE);
    ask_for(300000, 77);
    usleep(200000);
    free(memory);
    usleep(200000);
    return 0;
}

int main(int count, char **argument)
{
    const char *way = count > 1 ? argument[1] : "";
    if (strcmp(way, "overlap") == 0)
        return overlap(argument[2]);
    if (strcmp(way, "daemon") == 0)
        return become_daemon();
    if (strcmp(way, "rights") == 0)
        return give_up_rights(argument[2]);
    if (strcmp(way, "limited") == 0)
        return be_limited();
    if (strcmp(way, "memory") == 0)
        return fill_memory();
    if (strcmp(way, "narrow") == 0)
        return be_narrow();
    if (strcmp(way, "cleared") == 0) /* cleared PROGRAM: it gets an environment of one variable */
        return execle(argument[2], argument[2], "return", "1001", (char *)NULL, (char *[]){"A=1", NULL});
    if (strcmp(way, "unset") == 0) { /* unset PROGRAM FUNCTION */
        unsetenv("LD_PRELOAD");
        ask_for(1, 77);
        if (strcmp(argument[3], "execlp") == 0)
            execlp(argument[2], argument[2], "return", "1001", (char *)NULL);
        if (strcmp(argument[3], "execv") == 0)
            execv(argument[2], (char *[]){argument[2], "return", "1001", NULL});
        return system(argument[2]) == -1;
    }
    return 2;
}
