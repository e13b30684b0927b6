/* Makes system calls for memory, records some of them: itself, a thread, a forked child, a program it execs. */
#include "../../../csrc/native/calls.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static calls *log_of_calls;

static void record(uint64_t mark)
{
    log_of_calls->mark = mark;
    log_of_calls->recording = mark != 0;
}

static void *in_thread(void *page)
{
    record(3);
    syscall(SYS_madvise, page, 4096, MADV_DONTNEED);
    record(0);
    return NULL;
}

int main(int argc, char **argv)
{
    size_t length = strtoul(argv[2], NULL, 10);
    log_of_calls = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
    if (argc > 4) { /* execed */
        record(5);
        syscall(SYS_mprotect, 1, 1, 0); /* EINVAL */
        record(0);
        printf("%d ", -calls_begin(log_of_calls)); /* who is traced cannot be traced by another */
        fflush(stdout);
        raise(SIGSTOP); /* is passed on: somebody has to send SIGCONT */
        return 0;
    }
    int error = calls_begin(log_of_calls);
    if (error) {
        printf("%s\n", strerror(-error));
        return 77;
    }
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* not recorded */
    record(1);
    long at = syscall(SYS_brk, 0);
    syscall(SYS_brk, at + 4096);
    record(2);
    getpid();
    syscall(SYS_munmap, page + 1, 4096); /* EINVAL */
    record(0);
    pthread_t thread;
    pthread_create(&thread, NULL, in_thread, page);
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (!child) {
        record(4);
        syscall(SYS_mremap, page, 8192, 4096, 0, 0);
        record(0);
        execl("/proc/self/exe", argv[0], argv[1], argv[2], argv[3], "again", NULL);
        abort();
    }
    int status;
    waitpid(child, &status, WUNTRACED);
    printf("%ld %ld %d", (long)page, at, WIFSTOPPED(status));
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    printf(" %d %d\n", WIFEXITED(status), getpid());
    fflush(stdout);
    if (!strcmp(argv[3], "abort"))
        abort();
    return 5;
}
