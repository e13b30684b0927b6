/* What the real kernel's calls cost a process with so much memory resident: kernel_cost.py compiles and runs it.
 *
 *     kernel_cost PROGRAM MIB ROUNDS
 *
 * prints a line for each call: its name, and seconds, the least of the rounds.  PROGRAM is what exec runs.
 *
 * Ordinary pages of 4 KiB throughout.  Nothing is in memory beside the program itself and what it asks for.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define FORKS 3   /* in a round */
#define PAIRS 200 /* of mmap and munmap, timed together */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What else the machine does adds to a time, and never takes away: the least is the call's own. */
static void keep(double *least, double seconds)
{
    if (seconds < *least)
        *least = seconds;
}

static volatile char *pages(size_t count)
{
    void *p = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return p;
}

/* Seconds a page to write one byte of each of `count` pages. */
static double touch(volatile char *first, size_t count)
{
    double start = now();
    for (size_t i = 0; i < count; i++)
        first[i * PAGE] = 1;
    return (now() - start) / (double)count;
}

/* Apart, so that the child has no variables of main's to spoil. */
static double time_vfork(void)
{
    double start = now(), end;
    pid_t child = vfork();
    if (child == 0)
        _exit(0);
    end = now();
    waitpid(child, NULL, 0);
    return end - start;
}

/* From vfork or fork until the child, which execs `program`, has been waited for. */
static double time_exec(char *program, int shares_memory)
{
    char *const arguments[] = {program, NULL}, *const environment[] = {NULL};
    int status = -1;
    double start = now();
    pid_t child = shares_memory ? vfork() : fork();
    if (child == 0) {
        execve(program, arguments, environment);
        _exit(127);
    }
    waitpid(child, &status, 0);
    double taken = now() - start;
    if (status != 0) {
        fprintf(stderr, "%s did not run: status %d\n", program, status);
        exit(1);
    }
    return taken;
}

int main(int argc, char **argv)
{
    double fork_s = 1e9, vfork_s = 1e9, exec_s = 1e9, fork_exec_s = 1e9;
    double copy_s = 1e9, reuse_s = 1e9, zero_s = 1e9, map_s = 1e9;
    size_t count = argc > 2 ? strtoull(argv[2], NULL, 10) * 256 : 0;
    int rounds = argc > 3 ? atoi(argv[3]) : 0;
    if (rounds < 1 || count < 256)
        return 2;
    char *program = argv[1];
    size_t some = count / 2 < 512 ? count / 2 : 512; /* pages written in a round */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    volatile char *base = pages(count);
    touch(base, count);
    for (int round = 0; round < rounds; round++) {
        double start;
        pid_t child;
        for (int i = 0; i < FORKS; i++) {
            start = now();
            child = fork();
            if (child == 0)
                _exit(0);
            keep(&fork_s, now() - start);
            waitpid(child, NULL, 0);
        }

        keep(&vfork_s, time_vfork());
        keep(&exec_s, time_exec(program, 1));
        keep(&fork_exec_s, time_exec(program, 0));

        child = fork();
        if (child == 0)
            for (;;)
                pause();
        keep(&copy_s, touch(base, some));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        keep(&reuse_s, touch(base + some * PAGE, some));

        volatile char *fresh = pages(512);
        keep(&zero_s, touch(fresh, 512));
        munmap((void *)(uintptr_t)fresh, 512 * PAGE);

        start = now();
        for (int i = 0; i < PAIRS; i++)
            munmap((void *)(uintptr_t)pages(16), 16 * PAGE);
        keep(&map_s, (now() - start) / PAIRS);
    }
    printf("fork %.9f\nvfork %.9f\n", fork_s, vfork_s);
    printf("exec %.9f\nforkexec %.9f\ncopy %.9f\n", exec_s, fork_exec_s, copy_s);
    printf("reuse %.9f\nzero %.9f\nmmap %.9f\n", reuse_s, zero_s, map_s);
    return 0;
}
