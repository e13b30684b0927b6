/* hostile DEED [ARGUMENT]: tries to do harm, and says what came of it: the name of the error, or "done".
 *
 * With -DPRELOADED=DEED it is a library that does so, to /etc/passwd, when it is loaded. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *argument;

static long reads(void) { return open(argument, O_RDONLY); }
static long writes(void) { return open(argument, O_WRONLY | O_CREAT | O_TRUNC, 0600); }
static long deletes(void) { return unlink(argument); }
static long renames(void) { return rename(argument, "stolen"); }
static long shortens(void) { return truncate(argument, 0); }
static long makes_readable(void) { return chmod(argument, 0777); }
static long dates(void) { return utimensat(AT_FDCWD, argument, NULL, 0); }
static long prints(void)
{
    static char line[1 << 16];
    memset(line, 'x', sizeof line);
    for (int i = 0; i < 1024; i++)
        if (write(STDERR_FILENO, line, sizeof line) < 0)
            return -1;
    return 0;
}
static long fills(void)
{
    int file = open(argument, O_WRONLY | O_CREAT, 0600);
    return file < 0 ? -1 : posix_fallocate(file, 0, 1l << 30) ? (errno = EFBIG, -1) : 0;
}
static long connects(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    return s < 0 ? -1 : connect(s, (void *)&to, sizeof to);
}
static long connects_by_file(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static long makes_pair(void)
{
    int pair[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}
static long forks(void)
{
    for (int i = 0; i < 100000; i++) {
        pid_t child = fork();
        if (child < 0)
            return -1;
        if (!child)
            pause();
    }
    return 0;
}
static int nothing(void *unused) { return unused != NULL; }
static char stack[1 << 16];
static long clones(void) { return clone(nothing, stack + sizeof stack, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, NULL); }
static long clones3(void) { return syscall(SYS_clone3, NULL, 0); }
static long eats(void)
{
    for (;;) {
        char *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return -1;
        *p = 1;
    }
}
static long hides_memory(void) { return memfd_create("x", 0); }
static long leaves_memory(void) { return shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600); }
static long burns(void)
{
    signal(SIGXCPU, SIG_IGN);
    for (volatile int i = 0;; i++)
        ;
}
static long kills(void) { return kill(atoi(argument), SIGTERM); }
static long kills_all(void) { return kill(-1, SIGTERM); }
static long kills_parent(void) { return kill(getppid(), SIGTERM); }
static long traces(void) { return ptrace(PTRACE_SEIZE, atoi(argument), 0, 0); }
static long peeks(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)argument, 1};
    return process_vm_readv(getppid(), &here, 1, &there, 1, 0);
}
static long escapes_group(void) { return setsid(); }
static long raises_limit(void)
{
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    return setrlimit(RLIMIT_CPU, &most);
}
static long raises_limit_of(void)
{
    struct rlimit most = {1, 1};
    return prlimit(atoi(argument), RLIMIT_CPU, &most, NULL);
}
static long hurries(void) { return setpriority(PRIO_PROCESS, 0, -5); }
static long unshares(void) { return unshare(CLONE_NEWUSER); }
static long asks_the_kernel(void) { return syscall(SYS_bpf, 0, NULL, 0); }
static long rings(void) { return syscall(SYS_io_uring_setup, 1, NULL); }
static long from_the_future(void) { return syscall(100000); }
static long knows_secrets(void)
{
    errno = ENOENT;
    return getenv("SECRET") ? 0 : -1;
}
static long finds_descriptor(void) { return fcntl(atoi(argument), F_GETFD); }
static long asks_as_x32(void) { return syscall(0x40000000 + SYS_getpid); }
static long asks_as_i386(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20 /* getpid */));
    return result;
}

#define DEED(name) {#name, name}
static const struct {
    const char *name;
    long (*deed)(void);
} deeds[] = {
    DEED(reads), DEED(writes), DEED(deletes), DEED(renames), DEED(shortens), DEED(makes_readable), DEED(dates),
    DEED(prints), DEED(fills), DEED(connects), DEED(connects_by_file), DEED(makes_pair), DEED(forks), DEED(clones),
    DEED(clones3), DEED(eats), DEED(hides_memory), DEED(leaves_memory), DEED(burns), DEED(kills), DEED(kills_all),
    DEED(kills_parent), DEED(traces), DEED(peeks), DEED(escapes_group), DEED(raises_limit), DEED(raises_limit_of),
    DEED(hurries), DEED(unshares), DEED(asks_the_kernel), DEED(rings), DEED(from_the_future), DEED(knows_secrets),
    DEED(finds_descriptor), DEED(asks_as_x32), DEED(asks_as_i386),
};

static const char *try(const char *name)
{
    for (unsigned i = 0; i < sizeof deeds / sizeof *deeds; i++)
        if (strcmp(deeds[i].name, name) == 0)
            return deeds[i].deed() < 0 ? strerrorname_np(errno) : "done";
    return "no such deed";
}

#ifdef PRELOADED
#define TEXT(word) #word
#define TEXT_OF(word) TEXT(word)
__attribute__((constructor)) static void begin(void)
{
    argument = "/etc/passwd";
    fprintf(stderr, "%s\n", try(TEXT_OF(PRELOADED)));
}
#endif

int main(int argc, char **argv)
{
    argument = argc > 2 ? argv[2] : "";
    puts(try(argv[1]));
    return 0;
}
