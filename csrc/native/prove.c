/* The prover: plays a trace on the malloc of a design, so that every system call, fault and page can be counted.
 *
 *   prove STATE EVENTS CALLS [NUMBER]     descriptors of shared memory: a prove_state, the columns of the trace, a calls;
 *                                         NUMBER: the process that has executed itself
 *
 * It is linked statically with the malloc of entry/preload.c, under names of its own: the C library's calls go to
 * another malloc, and there are none while events are carried out.  What else the program has was touched before.  So
 * a fault then is the heap's, or that of a payload.
 *
 * Each process of the trace is a process, and an EXEC is one: the prover executes itself.  One process at a time has
 * the turn.  It carries out its events up to the next one of another process.  At a stop it writes to the standard
 * output how many events are done, and goes on when it reads a byte: so that somebody can look.
 *
 * All runs have the same addresses, whatever chance (ASLR) does: before the heap is made the break is moved up to
 * PROVE_START, and a mapping is placed below all others that reaches down to PROVE_TOP.  Both cost no memory.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../replay/events.h"
#include "../replay/payload.h"
#include "../replay/slots.h"
#include "calls.h"
#include "prove.h"

#define PAGE 4096u

static prove_state *state;
static calls *observed;
static const uint64_t *stops;
static hl_events events;
static hl_slot *slots;      /* of this process */
static unsigned me, thread; /* number of the process; of the thread that it plays */
static uint64_t faults_before;

/* of entry/preload.c */
void heaplab_thread(unsigned number);
void heaplab_thread_exit(void);

/* ---- what goes wrong ---- */

static void wake(uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0); }

static _Noreturn void end_all(int status)
{
    state->over = 1;
    state->turn = UINT32_MAX;
    wake(&state->turn);
    _exit(status);
}

/* Says it in one line and ends all processes. */
static _Noreturn void fail(const char *text)
{
    dprintf(STDERR_FILENO, "%s, at event %lu\n", text, (unsigned long)state->row);
    end_all(1);
}

/* Sleeps while *word is `value`.  When the process whose turn it is has died, nobody would wake this one: it ends. */
static void sleep_while(uint32_t *word, uint32_t value)
{
    const struct timespec second = {.tv_sec = 1};
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) {
        int late = syscall(SYS_futex, word, FUTEX_WAIT, value, &second, NULL, 0) && errno == ETIMEDOUT;
        if (state->over || (late && kill((pid_t)state->holder, 0) && state->holder != state->leaving))
            _exit(1);
    }
}

/* ---- memory that is not the heap's ---- */

/* Calls `visit` for each mapping of this process, with its rights as in "rw-p". */
static void each_mapping(void (*visit)(uint64_t start, uint64_t end, const char *rights))
{
    static char text[1 << 20];
    size_t length = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; (n = read(fd, text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)n;
    close(fd);
    if (length == sizeof text - 1)
        fail("the process has too many mappings");
    text[length] = 0;
    for (char *line = text; *line;) {
        char *at, *next = strchr(line, '\n') + 1;
        uint64_t start = strtoull(line, &at, 16), end = strtoull(at + 1, &at, 16);
        visit(start, end, at + 1);
        line = next;
    }
}

static uint64_t own_break; /* the C library's part of the break ends here; then comes nothing up to the heap */

/* Makes all pages of a mapping present, and writable where they may be written, so that no access to them faults. */
static void touch(uint64_t start, uint64_t end, const char *rights)
{
    if (start < PROVE_START && end > own_break)
        end = own_break;
    else if (start >= PROVE_START && start < PROVE_TOP)
        return; /* the heap's */
    if (rights[0] == 'r' && start < end) /* what is refused is the kernel's own, and nobody reads it here */
        madvise((void *)start, end - start, rights[1] == 'w' ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

static uint64_t lowest;

static void find_lowest(uint64_t start, uint64_t end, const char *rights)
{
    (void)end, (void)rights; /* in the order of their addresses */
    if (!lowest && start >= PROVE_START)
        lowest = start;
}

static uint64_t place(uint64_t length)
{
    void *at = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        fail("the kernel gives no address space");
    return (uint64_t)at;
}

/* Moves the break to PROVE_START, fills the holes between the mappings, and reaches down from them to PROVE_TOP. */
static void place_heap(void)
{
    own_break = (uint64_t)syscall(SYS_brk, 0);
    if (own_break > PROVE_START || (uint64_t)syscall(SYS_brk, PROVE_START) != PROVE_START)
        fail("the kernel does not move the break to where the heap begins");
    lowest = 0;
    each_mapping(find_lowest);
    for (uint64_t length = 1 << 20, at; length >= PAGE; length /= 2) {
        while ((at = place(length)) > lowest)
            ;
        munmap((void *)at, length);
    }
    if (lowest <= PROVE_TOP || place(lowest - PROVE_TOP) != PROVE_TOP)
        fail("the kernel places mappings otherwise than expected");
}

/* ---- the window in which faults and calls are the heap's ---- */

static uint64_t minor_faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_minflt;
}

static void open_window(void)
{
    faults_before = minor_faults();
    observed->recording = 1;
}

static void close_window(void)
{
    observed->recording = 0;
    state->process[me].faults += minor_faults() - faults_before;
}

/* ---- huge pages: the linker lets the heap's calls of mmap and syscall come through here (--wrap) ---- */

void *__real_mmap(void *address, size_t length, int rights, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t length, int rights, int flags, int fd, off_t offset);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/* Asks for huge pages in memory that the heap has just got, before it is touched. */
static void ask_for_huge_pages(uint64_t start, uint64_t end)
{
    if (!observed || !observed->recording || !state->huge)
        return;
    observed->recording = 0;
    madvise((void *)start, end - start, MADV_HUGEPAGE);
    observed->recording = 1;
}

void *__wrap_mmap(void *address, size_t length, int rights, int flags, int fd, off_t offset)
{
    void *at = __real_mmap(address, length, rights, flags, fd, offset);
    if (at != MAP_FAILED)
        ask_for_huge_pages((uint64_t)at, (uint64_t)at + length);
    return at;
}

long __wrap_syscall(long number, ...)
{
    va_list rest;
    long args[6];
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(rest, long);
    va_end(rest);
    long result = __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (number == SYS_brk && (uint64_t)result > PROVE_START)
        ask_for_huge_pages(PROVE_START, (uint64_t)result);
    return result;
}

/* ---- events ---- */

static void give_back(hl_slot *slot, uint32_t id)
{
    uint8_t *p = (uint8_t *)(uintptr_t)slot->address;
    if (payload_agrees(p, slot->size, payload_word(payload_seed(id, slot->stamp), 0)) != slot->size)
        fail("a block has lost what was written to it");
    free(p);
    slot->address = 0;
}

static void allocate(hl_slot *slot, int op, uint32_t id, uint64_t size, uint64_t align)
{
    uint64_t from = 0; /* what is before is written already */
    uint8_t *p;
    if (op == HL_OP_REALLOC) {
        p = realloc((void *)(uintptr_t)slot->address, size);
        from = (slot->size < size ? slot->size : size) & ~7ull;
    } else {
        p = op == HL_OP_MALLOC ? malloc(size) : op == HL_OP_CALLOC ? calloc(1, size) : memalign(align, size);
        slot->stamp = payload_stamp(state->row);
    }
    if (!p)
        fail("the allocator gave no memory");
    payload_fill(p + from, size - from, payload_word(payload_seed(id, slot->stamp), from));
    slot->address = (uintptr_t)p & SLOT_MASK;
    slot->size = size & SLOT_MASK;
}

static void heap_event(int op, uint64_t row)
{
    uint32_t id = events.id[row];
    if (events.thread[row] != thread)
        heaplab_thread(thread = events.thread[row]);
    if (op == HL_OP_THREAD_EXIT)
        heaplab_thread_exit();
    else if (op != HL_OP_FREE)
        allocate(&slots[id], op, id, events.size[row], events.align[row]);
    else if (id == HL_NULL_ID)
        free(NULL);
    else
        give_back(&slots[id], id);
}

/* ---- processes ---- */

static void be_born(unsigned number)
{
    prove_process *mine = &state->process[number];
    mine->pid = (uint32_t)getpid();
    me = number;
    each_mapping(touch);
    __atomic_store_n(&mine->ready, 1, __ATOMIC_RELEASE);
    wake(&mine->ready);
}

static void fork_event(unsigned child)
{
    pid_t pid = fork();
    if (pid < 0)
        fail("the kernel forks no process");
    if (!pid) {
        be_born(child);
        return;
    }
    each_mapping(touch); /* what the fork has made read-only */
    sleep_while(&state->process[child].ready, 0);
    state->row++;
}

/* The process that holds the turn next, when `row` events are done: UINT32_MAX when all have exited. */
static uint32_t next_holder(void)
{
    if (state->row < state->events)
        return events.process[state->row];
    for (uint32_t number = 0; number < state->processes; number++)
        if (state->process[number].pid)
            return number;
    return UINT32_MAX;
}

static void pass_turn(void)
{
    uint32_t next = next_holder();
    if (next == UINT32_MAX)
        end_all(0);
    state->holder = state->process[next].pid;
    __atomic_store_n(&state->turn, next, __ATOMIC_RELEASE);
    wake(&state->turn);
}

static _Noreturn void exit_event(void)
{
    state->leaving = (uint32_t)getpid();
    state->process[me].pid = 0;
    state->row++;
    pass_turn();
    _exit(0);
}

/* The memory of a process that exits is gone before the next event. */
static void wait_for_turn(void)
{
    for (uint32_t turn; (turn = __atomic_load_n(&state->turn, __ATOMIC_ACQUIRE)) != me;) {
        if (state->over)
            _exit(0);
        sleep_while(&state->turn, turn);
    }
    if (!state->leaving)
        return;
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)state->leaving, 0);
    if (fd >= 0) {
        struct pollfd exited = {.fd = fd, .events = POLLIN};
        while (poll(&exited, 1, -1) < 0 && errno == EINTR)
            ;
        close(fd);
    } else if (errno != ESRCH) {
        fail("the kernel has no pidfd_open");
    }
    state->leaving = 0;
}

static void execute_again(char **argv)
{
    char number[16];
    snprintf(number, sizeof number, "%u", me);
    char *arguments[] = {argv[0], argv[1], argv[2], argv[3], number, NULL};
    execve("/proc/self/exe", arguments, environ);
    fail("the kernel does not execute the prover again");
}

/* Lets somebody look at how things stand. */
static void make_stop(void)
{
    char byte;
    state->stopped++;
    if (write(STDOUT_FILENO, &state->row, sizeof state->row) != sizeof state->row ||
        read(STDIN_FILENO, &byte, 1) != 1)
        end_all(1);
}

static int is_stop(void)
{
    return state->stopped < state->stops && stops[state->stopped] == state->row;
}

/* Carries out the events of this process up to the next one of another, or to a process event, or to a stop. */
static void play(void)
{
    open_window();
    for (;;) {
        uint64_t row = state->row;
        if (row == state->events || events.process[row] != me || is_process_op(events.op[row]) || is_stop())
            break;
        observed->mark = row;
        heap_event(events.op[row], row);
        state->row = row + 1;
    }
    close_window();
}

static _Noreturn void live(char **argv)
{
    for (;;) {
        wait_for_turn();
        play();
        if (is_stop()) {
            make_stop();
        } else if (state->row == state->events) {
            end_all(0);
        } else if (events.process[state->row] != me) {
            pass_turn();
        } else if (events.op[state->row] == HL_OP_FORK) {
            fork_event(events.id[state->row]);
        } else if (events.op[state->row] == HL_OP_EXIT) {
            exit_event();
        } else if (events.op[state->row] == HL_OP_EXEC) {
            execute_again(argv);
        }
    }
}

/* ---- the beginning of a program ---- */

static void *share(const char *descriptor, int rights)
{
    struct stat file;
    int fd = atoi(descriptor);
    if (fstat(fd, &file) || !file.st_size)
        _exit(2);
    void *at = mmap(NULL, (size_t)file.st_size, rights, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        _exit(2);
    return at;
}

/* The columns lie one after the other, each at a multiple of 8. */
static const void *column(const uint8_t **at, uint64_t size)
{
    const uint8_t *here = *at;
    *at += (size * state->events + 7) & ~7ull;
    return here;
}

static void find_columns(const uint8_t *at)
{
    events.op = column(&at, 1);
    events.id = column(&at, 4);
    events.size = column(&at, 8);
    events.align = column(&at, 4);
    events.thread = column(&at, 2);
    events.process = column(&at, 2);
}

/* Makes an empty heap, within the window: what it costs belongs to the event at hand. */
static void begin_heap(void)
{
    prove_process *mine = &state->process[me];
    mine->pid = state->holder = (uint32_t)getpid();
    mine->faults = 0;
    place_heap();
    each_mapping(touch);
    open_window();
    observed->mark = state->row;
    heaplab_thread(0);
    close_window();
}

/* A CPU keeps pages that were added lately on a list of its own, with a reference each.  A process on another CPU then
 * copies a page that it writes to, although nobody else has it mapped any more. */
static void stay_on_one_cpu(void)
{
    cpu_set_t cpu;
    CPU_ZERO(&cpu);
    CPU_SET((size_t)sched_getcpu(), &cpu);
    sched_setaffinity(0, sizeof cpu, &cpu);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    state = share(argv[1], PROT_READ | PROT_WRITE);
    observed = share(argv[3], PROT_READ | PROT_WRITE);
    find_columns(share(argv[2], PROT_READ));
    stops = (const uint64_t *)&state->process[state->processes];
    int was_executed = argc > 4;
    if (was_executed) {
        me = (unsigned)strtoul(argv[4], NULL, 10);
    } else {
        stay_on_one_cpu();
        int error = calls_begin(observed);
        if (error) {
            dprintf(STDERR_FILENO, "%s\n", strerror(-error));
            return PROVE_REFUSED;
        }
        signal(SIGCHLD, SIG_IGN); /* nobody waits: what exits is gone */
        if (!state->huge && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
            fail("the kernel cannot turn huge pages off");
    }
    slots = mmap(NULL, (state->slots + 1) * sizeof *slots, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                 -1, 0);
    if (slots == MAP_FAILED)
        fail("the kernel gives no memory");
    if (madvise(slots, sizeof *slots, MADV_POPULATE_WRITE))
        fail("the kernel has no MADV_POPULATE_WRITE: it is older than Linux 5.14");
    begin_heap();
    if (was_executed)
        state->row++;
    live(argv);
}
