/* The agent: a program that does one system call, load or store at a time, as it is told (see agent.h).

   It shows a kernel nothing but what it was told to do.  It has no libc, no data of its own, and a fixed
   address; each process of it has touched all its pages before its first turn.  A process may exec any
   program that begins with the trampoline below: that leads back here.

   Started by anybody, it is the launcher: it sets what must be the same in every run, starts itself again
   as pid 1 of a new pid namespace, and waits for that to end.  Its death is the death of all. */
#define _GNU_SOURCE
#include "agent.h"

#include <asm/unistd.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <ucontext.h>

#define ALT_STACK_SIZE (AGENT_SLOT_SIZE / 2)
#define PAGE 4096u

/* ---- System calls ---------------------------------------------------------------------------------- */

static long call6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define CALL(nr, a, b, c, d) call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static hl_agent_slot *slot_number(uint32_t number)
{
    return (hl_agent_slot *)(AGENT_BASE + number * AGENT_SLOT_SIZE);
}

/* ---- Turns ----------------------------------------------------------------------------------------- */

static void give_turn(hl_agent_slot *slot)
{
    __atomic_store_n(&slot->turn, AGENT_DRIVERS_TURN, __ATOMIC_RELEASE);
    CALL(__NR_futex, &slot->turn, FUTEX_WAKE, 1, 0);
    while (__atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) != AGENT_AGENTS_TURN)
        CALL(__NR_futex, &slot->turn, FUTEX_WAIT, AGENT_DRIVERS_TURN, 0);
}

static void report_faults(hl_agent_slot *slot)
{
    struct rusage usage;
    CALL(__NR_getrusage, RUSAGE_THREAD, &usage, 0, 0);
    slot->minflt = (uint64_t)usage.ru_minflt;
}

/* ---- Accesses -------------------------------------------------------------------------------------- */

/* Where an access goes on if it faults: the handler finds it in r15. */
#define ACCESS(instruction, ...) \
    __asm__ volatile("lea 1f(%%rip), %%r15\n\t" instruction "\n1:" __VA_ARGS__ : "r15", "memory")

static uint64_t load(uint64_t address, uint32_t size)
{
    uint64_t value = 0;
    switch (size) {
    case 1: ACCESS("movzbl (%1), %k0", : "+r"(value) : "r"(address)); break;
    case 2: ACCESS("movzwl (%1), %k0", : "+r"(value) : "r"(address)); break;
    case 4: ACCESS("movl (%1), %k0", : "+r"(value) : "r"(address)); break;
    default: ACCESS("movq (%1), %0", : "+r"(value) : "r"(address)); break;
    }
    return value;
}

static void store(uint64_t address, uint64_t value, uint32_t size)
{
    switch (size) {
    case 1: ACCESS("movb %b1, (%0)", : : "r"(address), "r"(value)); break;
    case 2: ACCESS("movw %w1, (%0)", : : "r"(address), "r"(value)); break;
    case 4: ACCESS("movl %k1, (%0)", : : "r"(address), "r"(value)); break;
    default: ACCESS("movq %1, (%0)", : : "r"(address), "r"(value)); break;
    }
}

/* The kernel's struct sigaction, which is not the C library's. */
struct action {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static void default_action(int signo)
{
    struct action action = {.handler = NULL}; /* SIG_DFL */
    CALL(__NR_rt_sigaction, signo, &action, NULL, sizeof action.mask);
}

__attribute__((naked, used, section(".restorer"))) static void signal_return(void)
{
    __asm__("mov %0, %%eax\n\tsyscall" : : "i"(__NR_rt_sigreturn));
}

/* Handlers run on the slot's alternate stack: that is how they find the slot. */
static hl_agent_slot *slot_of_handler(void)
{
    return (hl_agent_slot *)((uintptr_t)__builtin_frame_address(0) & -AGENT_SLOT_SIZE);
}

/* The handler that steps ask for by its address, AGENT_CATCHER. */
__attribute__((used)) static void on_signal(int signo, siginfo_t *info)
{
    hl_agent_slot *slot = slot_of_handler();
    if (slot->caught_count < AGENT_CAUGHT_MOST) {
        hl_agent_signal *caught = &slot->caught[slot->caught_count];
        caught->signo = signo;
        caught->code = info->si_code;
        caught->pid = info->si_pid;
        caught->status = info->si_code > 0 ? info->si_status : 0; /* from a child, not from kill */
        CALL(__NR_rt_sigprocmask, SIG_BLOCK, NULL, &caught->blocked, sizeof caught->blocked);
    }
    slot->caught_count++;
}

__attribute__((naked, used, section(".catcher"))) static void catcher(void)
{
    __asm__("jmp on_signal");
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    hl_agent_slot *slot = slot_of_handler();
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    slot->signo = (uint32_t)signo;
    slot->code = info->si_code;
    slot->address = (uint64_t)info->si_addr;
    if (slot->fatal)
        default_action(signo); /* the access is tried again, and is the end */
    else
        registers[REG_RIP] = registers[REG_R15];
}

static void handle_faults(void)
{
    struct action action = {
        .handler = on_fault,
        .flags = SA_SIGINFO | SA_ONSTACK | 0x04000000 /* SA_RESTORER */,
        .restorer = signal_return,
    };
    CALL(__NR_rt_sigaction, SIGSEGV, &action, NULL, sizeof action.mask);
    CALL(__NR_rt_sigaction, SIGBUS, &action, NULL, sizeof action.mask);
}

/* ---- Commands -------------------------------------------------------------------------------------- */

static void serve(hl_agent_slot *slot) __attribute__((noreturn));

/* Where a child begins, on its own stack. */
__attribute__((used, noreturn)) static void child_start(hl_agent_slot *slot)
{
    serve(slot);
}

/* A system call that returns twice: the child changes to its own stack before it touches any memory. */
static long forking(long nr, const uint64_t *args, hl_agent_slot *child)
{
    register uint64_t r10 __asm__("r10") = args[3];
    register uint64_t r8 __asm__("r8") = args[4];
    register char *stack __asm__("r12") = (char *)child + AGENT_SLOT_SIZE;
    register hl_agent_slot *slot __asm__("r13") = child;
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[stack], %%rsp\n\t"
                     "mov %[slot], %%rdi\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call child_start\n"
                     "1:"
                     : "=a"(result)
                     : "a"(nr), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(r10), "r"(r8),
                       [stack] "r"(stack), [slot] "r"(slot)
                     : "rcx", "r11", "memory");
    return result;
}

static void perform(hl_agent_slot *slot)
{
    const uint64_t *args = slot->args;
    switch (slot->op) {
    case AGENT_LOAD:
        slot->result = (int64_t)load(args[0], slot->size);
        break;
    case AGENT_STORE:
        store(args[0], args[1], slot->size);
        slot->result = 0;
        break;
    case AGENT_FORK:
        slot->result = forking((long)slot->nr, args, slot_number(slot->child));
        break;
    default: /* an exec that works does not come back here, but to resumed */
        slot->result = call6((long)slot->nr, (long)args[0], (long)args[1], (long)args[2], (long)args[3],
                             (long)args[4], (long)args[5]);
    }
}

static void serve(hl_agent_slot *slot)
{
    stack_t alternate = {.ss_sp = (char *)slot + AGENT_SLOT_SIZE - ALT_STACK_SIZE - ALT_STACK_SIZE / 2,
                         .ss_size = ALT_STACK_SIZE};
    CALL(__NR_sigaltstack, &alternate, NULL, 0, 0);
    slot->tid = (int32_t)CALL(__NR_gettid, 0, 0, 0, 0);
    for (volatile const char *page = (const char *)slot; page < (const char *)slot + AGENT_SLOT_SIZE; page += PAGE)
        (void)*page;
    report_faults(slot);
    for (;;) {
        give_turn(slot);
        slot->signo = 0;
        perform(slot);
        report_faults(slot);
    }
}

/* ---- After exec ------------------------------------------------------------------------------------ */

/* What programs to be exec'ed begin with, wherever they lie: it maps slots and text, and goes on at resumed.
   It writes no memory. */
__attribute__((naked, used, section(".trampoline"))) static void trampoline(void)
{
    __asm__("mov %[mmap], %%eax\n\t"
            "mov %[slots], %%edi\n\t"
            "mov %[slots_size], %%esi\n\t"
            "mov %[slots_prot], %%edx\n\t"
            "mov %[flags], %%r10d\n\t"
            "mov %[fd], %%r8d\n\t"
            "xor %%r9d, %%r9d\n\t"
            "syscall\n\t"
            "mov %[mmap], %%eax\n\t"
            "mov %[text], %%edi\n\t"
            "mov %[text_size], %%esi\n\t"
            "mov %[text_prot], %%edx\n\t"
            "mov %[slots_size], %%r9d\n\t"
            "syscall\n\t"
            "mov %[resume], %%eax\n\t"
            "jmp *(%%rax)"
            :
            : [mmap] "i"(__NR_mmap), [slots] "i"(AGENT_BASE), [slots_size] "i"(AGENT_END - AGENT_BASE),
              [slots_prot] "i"(PROT_READ | PROT_WRITE), [flags] "i"(MAP_SHARED | MAP_FIXED_NOREPLACE),
              [fd] "i"(AGENT_FD), [text] "i"(AGENT_END), [text_size] "i"(AGENT_TEXT_SIZE),
              [text_prot] "i"(PROT_READ | PROT_EXEC), [resume] "i"(AGENT_BASE + offsetof(hl_agent_slot, resume)));
}

/* Goes on with the slot of the exec that brought it here. */
__attribute__((used, noreturn)) static void take_slot(uint64_t stack)
{
    hl_agent_slot *slot = slot_number(slot_number(0)->execing);
    slot->result = (int64_t)stack;
    handle_faults();
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call child_start"
                     :
                     : "r"((char *)slot + AGENT_SLOT_SIZE), "D"(slot)
                     : "memory");
    __builtin_unreachable();
}

__attribute__((naked, used)) static void resumed(void)
{
    __asm__("mov %%rsp, %%rdi\n\t"
            "mov %[stack], %%esp\n\t"
            "call take_slot"
            :
            : [stack] "i"(AGENT_END));
}

/* ---- The start ------------------------------------------------------------------------------------- */

static void fail(const char *what, unsigned long length) __attribute__((noreturn));
static void fail(const char *what, unsigned long length)
{
    CALL(__NR_write, 2, what, length, 0);
    CALL(__NR_exit_group, 1, 0, 0, 0);
    __builtin_unreachable();
}

#define CHECK(condition, what) \
    do { \
        if (!(condition)) \
            fail(what "\n", sizeof what); \
    } while (0)

static void map_slots(void)
{
    long at = call6(__NR_mmap, AGENT_BASE, AGENT_END - AGENT_BASE, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_FIXED_NOREPLACE, AGENT_FD, 0);
    CHECK(at == (long)AGENT_BASE, "the slots cannot be mapped");
}

static void same_in_every_run(void)
{
    static const struct {
        int resource;
        struct rlimit limit;
    } limits[] = {
        {RLIMIT_CORE, {1, 1}}, /* no core, not through a pipe either: the status has no bit 7 */
        {RLIMIT_STACK, {8 << 20, 8 << 20}},
        {RLIMIT_NOFILE, {1024, 1024}},
        {RLIMIT_MEMLOCK, {64 << 10, 64 << 10}},
        {RLIMIT_NPROC, {1000, 1000}},
    };
    static const uint64_t none_blocked = 0;
    CALL(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0); /* nobody is left to tell it what to do */
    for (int signo = 1; signo <= 64; signo++)
        default_action(signo); /* nohup, for one, lets its programs ignore some */
    CALL(__NR_rt_sigprocmask, SIG_SETMASK, &none_blocked, NULL, sizeof none_blocked);
    CHECK(CALL(__NR_personality, ADDR_NO_RANDOMIZE, 0, 0, 0) >= 0, "personality: ADDR_NO_RANDOMIZE is refused");
    CHECK(call6(__NR_prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0, 0) == 0, "prctl: PR_SET_THP_DISABLE is refused");
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++)
        CHECK(CALL(__NR_prlimit64, 0, limits[i].resource, &limits[i].limit, NULL) == 0, "prlimit is refused");
    CHECK(CALL(__NR_dup2, 0, AGENT_FD, 0, 0) == AGENT_FD, "dup2 failed");
}

static void launch(char **argv)
{
    static char *const no_environment[] = {NULL};
    CHECK(CALL(__NR_unshare, CLONE_NEWPID, 0, 0, 0) == 0, "unshare: a new pid namespace is refused");
    long pid = CALL(__NR_fork, 0, 0, 0, 0);
    CHECK(pid >= 0, "fork failed");
    if (pid == 0) {
        CALL(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
        CALL(__NR_execve, argv[0], argv, no_environment, 0);
        fail("execve failed\n", 14);
    }
    slot_number(0)->pid = (int32_t)pid;
    CALL(__NR_wait4, pid, NULL, 0, NULL);
    CALL(__NR_exit_group, 0, 0, 0, 0);
}

__attribute__((used, noreturn)) static void start(long *stack)
{
    char **argv = (char **)(stack + 1);
    if (CALL(__NR_getpid, 0, 0, 0, 0) != 1) {
        same_in_every_run();
        map_slots();
        launch(argv);
    }
    map_slots();
    slot_number(0)->resume = (uint64_t)resumed;
    CALL(__NR_close_range, 0, AGENT_FD - 1, 0, 0);
    CALL(__NR_close_range, AGENT_FD + 1, ~0u, 0, 0);
    CALL(__NR_setsid, 0, 0, 0, 0);
    handle_faults();
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call child_start"
                     :
                     : "r"(AGENT_BASE + AGENT_SLOT_SIZE), "D"(slot_number(0))
                     : "memory");
    __builtin_unreachable();
}

__attribute__((naked, used)) void _start(void);
__attribute__((naked, used)) void _start(void)
{
    __asm__("mov %rsp, %rdi\n\t"
            "and $-16, %rsp\n\t"
            "call start");
}
