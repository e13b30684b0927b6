#define _GNU_SOURCE
#include "ground.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../replay/clock.h"
#include "calls.h"

#define STACK_TOUCHED (256u << 10) /* below where the main stack starts: no call goes deeper */
#define STACK_IN_USE (16u << 10)   /* around where it is, after a fork */
#define MOST_RANGES 256

/* The arguments: the program, the number of a process, and descriptors. */
enum { NUMBER = 1, FD_PLAYER, FD_TRACE, FD_PLACES, FD_OVER, ARGUMENTS };

hl_player *player;
hl_watch *watch;
hl_events events;
const uint32_t *event_actors;
hl_play_process *processes;
hl_play_actor *actors;
uint64_t started_as;
uint64_t base_anonymous, base_data, base_faults;

static char **arguments, **environment;
static uint8_t *stacks;
static int statm = -1;
static uint8_t signal_stack[16384];
static char text[65536]; /* of files of /proc */

extern char __data_start[], _end[];

/* Ranges of addresses that are files, mapped to be read: programs and the player's own. */
static struct range {
    uintptr_t start, end;
} ranges[MOST_RANGES];
static unsigned range_count;

/* The number that an argument says. */
static uint64_t argument(int which)
{
    uint64_t n = 0;
    for (const char *at = arguments[which]; *at; at++)
        n = n * 10 + (uint64_t)(*at - '0');
    return n;
}

static int descriptor(int which) { return (int)argument(which); }

void *play_at(uint64_t offset) { return (uint8_t *)player + offset; }

/* ---- the end ---- */

void play_end(int why)
{
    const calls *log = play_at(player->calls_at);
    player->brk_calls = log->seen[CALLS_BRK];
    player->mmap_calls = log->seen[CALLS_MMAP] + log->seen[CALLS_MUNMAP];
    player->why = (uint32_t)why;
    char word = '.';
    if (write(descriptor(FD_OVER), &word, 1) != 1)
        _exit(2);
    _exit(why != HL_PLAY_DONE);
}

void play_fail(int why) { play_end(why); }

void play_host_fails(int error)
{
    player->error = error;
    play_end(HL_PLAY_HOST);
}

void ground_await_batch(void)
{
    char word = ',';
    ssize_t n = write(descriptor(FD_OVER), &word, 1);
    while (n == 1 && (n = read(STDIN_FILENO, &word, 1)) < 0 && errno == EINTR)
        n = 1;
    if (n != 1) /* nobody is there any more */
        _exit(2);
}

static void on_signal(int signum, siginfo_t *info, void *context)
{
    (void)context;
    player->signal = signum;
    if (player->calling || (signum != SIGSEGV && signum != SIGBUS)) {
        player->bad_address = (uintptr_t)info->si_addr;
        play_end(HL_PLAY_SIGNAL);
    }
    play_end(HL_PLAY_NO_ACCESS);
}

static void catch_signals(void)
{
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static const int caught[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
    for (unsigned i = 0; i < sizeof caught / sizeof *caught; i++)
        sigaction(caught[i], &action, NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN}; /* children need nobody who waits for them */
    sigaction(SIGCHLD, &ignore, NULL);
}

/* ---- what the kernel tells ---- */

static size_t read_file(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    ssize_t got = file < 0 ? -1 : 0;
    while (file >= 0 && n < sizeof text - 1 && (got = read(file, text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    if (got < 0)
        play_host_fails(errno);
    close(file);
    text[n] = 0;
    return n;
}

/* The number at *at, in this base; *at is then behind it. */
static uint64_t number_at(const char **at, unsigned base)
{
    uint64_t n = 0;
    const char *c = *at;
    while (*c == ' ')
        c++;
    for (;; c++) {
        unsigned digit = *c >= '0' && *c <= '9' ? (unsigned)(*c - '0') : *c >= 'a' ? (unsigned)(*c - 'a') + 10u : 99u;
        if (digit >= base)
            break;
        n = n * base + digit;
    }
    *at = c;
    return n;
}

uint64_t ground_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt;
}

uint64_t ground_data(void)
{
    char line[160];
    ssize_t n = pread(statm, line, sizeof line - 1, 0);
    if (n <= 0)
        play_host_fails(errno);
    line[n] = 0;
    const char *at = line;
    for (int field = 0; field < 5; field++)
        number_at(&at, 10);
    return number_at(&at, 10);
}

uint64_t ground_anonymous(int32_t pid)
{
    char path[40] = "/proc/", digits[12];
    int n = 0, end = 6;
    for (int32_t rest = pid; rest; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n)
        path[end++] = digits[--n];
    memcpy(path + end, "/smaps_rollup", 14);
    read_file(path);
    const char *at = strstr(text, "Pss_Anon:");
    if (!at)
        play_host_fails(ENOSYS); /* Linux before 5.4 */
    at += 9;
    return number_at(&at, 10);
}

void ground_await_end(int32_t pid)
{
    int file = (int)syscall(SYS_pidfd_open, pid, 0);
    if (file < 0 && errno == ESRCH)
        return;
    struct pollfd wanted = {.fd = file, .events = POLLIN};
    while (file >= 0 && poll(&wanted, 1, -1) < 0 && errno == EINTR)
        ;
    if (file < 0)
        play_host_fails(errno);
    close(file);
}

void futex_sleep(uint32_t *word, uint32_t while_it_is)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == while_it_is)
        syscall(SYS_futex, word, FUTEX_WAIT, while_it_is, NULL, NULL, 0);
}

void futex_wake(uint32_t *word)
{
    __atomic_store_n(word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* ---- the player's own memory ---- */

static void touch_to_read(uintptr_t start, uintptr_t end)
{
    for (; start < end; start += PLAY_PAGE)
        (void)*(volatile uint8_t *)start;
}

static void touch_to_write(uintptr_t start, uintptr_t end)
{
    for (start &= ~(uintptr_t)(PLAY_PAGE - 1); start < end; start += PLAY_PAGE) {
        volatile uint8_t *byte = (volatile uint8_t *)start;
        *byte = *byte;
    }
}

/* Lists what is mapped of files and cannot be written, and the player's files. */
static void list_ranges(void)
{
    size_t n = read_file("/proc/self/maps");
    range_count = 0;
    for (const char *line = text; line < text + n;) {
        const char *at = line;
        uintptr_t start = number_at(&at, 16);
        at++; /* the '-' */
        uintptr_t end = number_at(&at, 16);
        const char *rights = at + 1; /* "rwxp offset dev:dev inode" */
        at = rights + 5;
        number_at(&at, 16);
        at++;
        number_at(&at, 16);
        at++;
        number_at(&at, 16);
        uint64_t inode = number_at(&at, 10);
        int shared = rights[3] == 's', places = start == (uintptr_t)PLAY_PLACES;
        if (inode && rights[0] == 'r' && (shared || rights[1] != 'w') && !places) {
            if (range_count == MOST_RANGES)
                play_host_fails(E2BIG);
            ranges[range_count++] = (struct range){start, end};
        }
        const char *next = memchr(at, '\n', (size_t)(text + n - at));
        line = next ? next + 1 : text + n;
    }
}

void ground_touch(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), self = (uintptr_t)pthread_self();
    touch_to_write(here - STACK_IN_USE, here + 1);
    touch_to_write(self - 512, self + 1024); /* variables of this thread; pthread's own */
    touch_to_write((uintptr_t)__data_start, (uintptr_t)_end);
    for (unsigned i = 0; i < range_count; i++)
        touch_to_read(ranges[i].start, ranges[i].end);
}

void ground_reopen(void)
{
    if (statm >= 0)
        close(statm);
    statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (statm < 0)
        play_host_fails(errno);
}

void *ground_stack(uint32_t thread) { return stacks + (uint64_t)thread * PLAY_STACK; }

static void record_calls(uint32_t on)
{
    __atomic_store_n(&((calls *)play_at(player->calls_at))->recording, on, __ATOMIC_RELAXED);
}

void ground_execute(uint64_t number)
{
    char digits[24] = {0}, *at = digits + 22;
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    arguments[NUMBER] = at;
    record_calls(0); /* those that load a program */
    execve("/proc/self/exe", arguments, environment);
    play_host_fails(errno);
}

static void *map_file(int file, void *where, uint64_t size, int populate)
{
    struct stat about_it;
    if (!size) {
        if (fstat(file, &about_it) < 0)
            _exit(2);
        size = (uint64_t)about_it.st_size;
    }
    int flags = MAP_SHARED | MAP_NORESERVE | (where ? MAP_FIXED_NOREPLACE : 0) | (populate ? MAP_POPULATE : 0);
    void *at = mmap(where, size, PROT_READ | PROT_WRITE, flags, file, 0);
    if (at == MAP_FAILED)
        _exit(2);
    return at;
}

static void map_files(void)
{
    player = map_file(descriptor(FD_PLAYER), NULL, 0, 1);
    uint8_t *trace = map_file(descriptor(FD_TRACE), NULL, 0, 1);
    if (player->pass == HL_PLAY_FLOOR || player->pass == HL_PLAY_EMPTY)
        map_file(descriptor(FD_PLACES), PLAY_PLACES, PLAY_PLACES_SIZE, 0);
    events = (hl_events){
        .op = trace + player->op_at,
        .id = (void *)(trace + player->id_at),
        .size = (void *)(trace + player->size_at),
        .align = (void *)(trace + player->align_at),
        .thread = (void *)(trace + player->thread_at),
        .process = (void *)(trace + player->process_at),
    };
    event_actors = (void *)(trace + player->actor_at);
    processes = play_at(player->processes_at);
    actors = play_at(player->actors_at);
}

/* Starts the program once more: with the same addresses in every run, since what an allocator does with its memory
 * may hang on them; and with its system calls counted, by a process that has no page in common with it. */
static void settle(void)
{
    if (player->settled)
        return;
    player->settled = 1;
    if (player->pass == HL_PLAY_SPACE)
        player->counts_calls = calls_begin(play_at(player->calls_at)) == 0;
    personality((unsigned)personality(0xFFFFFFFF) | ADDR_NO_RANDOMIZE); /* where it may */
    ground_execute(0);
}

/* Of an allocator from outside that is watched. */
void heaplab_watch(hl_watch *watch) __attribute__((weak));

static void do_nothing(void) {}

/* The linker lets this run before the constructor of any library, the allocator's included. */
static void ground_start(int argc, char **argv, char **envp)
{
    if (argc != ARGUMENTS)
        _exit(2);
    arguments = argv;
    environment = envp;
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    started_as = argument(NUMBER);
    map_files();
    if (!player->settled && !player->born)
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* an allocator that hangs must not outlive who would end it */
    if (player->pass >= HL_PLAY_SPACE)
        settle();
    catch_signals();
    uint64_t size = (uint64_t)player->threads * PLAY_STACK;
    stacks = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (stacks == MAP_FAILED)
        play_host_fails(errno);
    ground_reopen();
    list_ranges();
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    touch_to_write(here - STACK_TOUCHED, here);
    ground_touch();
    atexit(do_nothing); /* the C library's list of these is written to before main */
    clock_ns();         /* its data lie in a page of the kernel's */
    base_anonymous = ground_anonymous(getpid());
    base_data = ground_data();
    base_faults = ground_faults();
    record_calls(1);
    if (player->pass == HL_PLAY_WATCHED && heaplab_watch)
        heaplab_watch(watch = play_at(player->watch_at));
}

__attribute__((section(".preinit_array"), used)) static void (*first_of_all)(int, char **, char **) = ground_start;
