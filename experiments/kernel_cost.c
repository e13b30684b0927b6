/* What the real kernel's calls cost a process with so much memory resident: kernel_cost.py compiles and runs it.
 *
 *     kernel_cost MIB ROUNDS      prints a line for each call: its name, and seconds, the median of the rounds
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
#define MOST_ROUNDS 1000
#define PAIRS 200 /* of mmap and munmap, timed together */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, double *seconds, int rounds)
{
    qsort(seconds, (size_t)rounds, sizeof *seconds, by_size);
    printf("%s %.9f\n", name, seconds[rounds / 2]);
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

int main(int argc, char **argv)
{
    double fork_s[MOST_ROUNDS], vfork_s[MOST_ROUNDS], copy_s[MOST_ROUNDS], reuse_s[MOST_ROUNDS];
    double zero_s[MOST_ROUNDS], map_s[MOST_ROUNDS];
    size_t count = argc > 1 ? strtoull(argv[1], NULL, 10) * 256 : 256;
    int rounds = argc > 2 ? atoi(argv[2]) : 9;
    if (rounds < 1 || rounds > MOST_ROUNDS || count < 256)
        return 2;
    size_t some = count / 2 < 512 ? count / 2 : 512; /* pages written in a round */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    volatile char *base = pages(count);
    touch(base, count);
    for (int round = 0; round < rounds; round++) {
        double start = now();
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        fork_s[round] = now() - start;
        waitpid(child, NULL, 0);

        start = now();
        child = vfork();
        if (child == 0)
            _exit(0);
        vfork_s[round] = now() - start;
        waitpid(child, NULL, 0);

        child = fork();
        if (child == 0)
            for (;;)
                pause();
        copy_s[round] = touch(base, some);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        reuse_s[round] = touch(base + some * PAGE, some);

        volatile char *fresh = pages(512);
        zero_s[round] = touch(fresh, 512);
        munmap((void *)(uintptr_t)fresh, 512 * PAGE);

        start = now();
        for (int i = 0; i < PAIRS; i++)
            munmap((void *)(uintptr_t)pages(16), 16 * PAGE);
        map_s[round] = (now() - start) / PAIRS;
    }
    report("fork", fork_s, rounds);
    report("vfork", vfork_s, rounds);
    report("copy", copy_s, rounds);
    report("reuse", reuse_s, rounds);
    report("zero", zero_s, rounds);
    report("mmap", map_s, rounds);
    return 0;
}
