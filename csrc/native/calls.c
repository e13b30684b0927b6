/* calls.h says what is recorded. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "calls.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const int numbers[CALLS_KINDS] = {
    [CALLS_BRK] = SYS_brk,         [CALLS_MMAP] = SYS_mmap,       [CALLS_MUNMAP] = SYS_munmap,
    [CALLS_MREMAP] = SYS_mremap,   [CALLS_MADVISE] = SYS_madvise, [CALLS_MPROTECT] = SYS_mprotect,
};

/* CALLS_KINDS when the number is none of ours. */
static int kind_of(uint64_t number)
{
    int kind = 0;
    while (kind < CALLS_KINDS && (uint64_t)numbers[kind] != number)
        kind++;
    return kind;
}

/* Lets the kernel stop the calling process, and all that come of it, at the calls of `numbers`: 0, or an errno. */
static int install_filter(void)
{
    struct sock_filter code[CALLS_KINDS + 3];
    int n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int kind = 0; kind < CALLS_KINDS; kind++, n++)
        code[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)numbers[kind],
                                               (uint8_t)(CALLS_KINDS - kind), 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        return errno;
    return 0;
}

/* ---- the tracer ---- */

/* Calls that have been entered and not left: one of each task at most. */
#define OPEN_MOST 4096

static calls_entry open_calls[OPEN_MOST];
static int open_count;

static calls_entry *open_call_of(pid_t task)
{
    for (int i = 0; i < open_count; i++)
        if (open_calls[i].task == (uint32_t)task)
            return &open_calls[i];
    return NULL;
}

static void close_call(calls_entry *call)
{
    if (call)
        *call = open_calls[--open_count];
}

/* A task stands before one of our calls: how it is to go on. */
static int enter_call(calls *log, pid_t task)
{
    struct __ptrace_syscall_info info;
    if (!__atomic_load_n(&log->recording, __ATOMIC_RELAXED) || open_count == OPEN_MOST ||
        ptrace(PTRACE_GET_SYSCALL_INFO, task, sizeof info, &info) <= 0)
        return PTRACE_CONT;
    int kind = kind_of(info.seccomp.nr);
    if (kind == CALLS_KINDS || (kind == CALLS_BRK && !info.seccomp.args[0]))
        return PTRACE_CONT;
    calls_entry *call = &open_calls[open_count++];
    *call = (calls_entry){.mark = log->mark, .task = (uint32_t)task, .kind = (uint32_t)kind};
    for (int i = 0; i < 6; i++)
        call->args[i] = info.seccomp.args[i];
    return PTRACE_SYSCALL; /* until it leaves the call */
}

static void leave_call(calls *log, pid_t task)
{
    struct __ptrace_syscall_info info;
    calls_entry *call = open_call_of(task);
    if (!call)
        return;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task, sizeof info, &info) > 0) {
        call->result = info.exit.rval;
        if (log->count < log->capacity)
            log->at[log->count] = *call;
        log->count++;
        log->seen[call->kind]++;
    }
    close_call(call);
}

static void go_on(calls *log, pid_t task, int status)
{
    int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_SECCOMP)
        ptrace(enter_call(log, task), task, 0, 0);
    else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP)
        ptrace(PTRACE_LISTEN, task, 0, 0); /* it is stopped as by SIGSTOP: that is not ours to end */
    else if (event)
        ptrace(PTRACE_CONT, task, 0, 0); /* a new task, or a new program */
    else if (signal == (SIGTRAP | 0x80)) {
        leave_call(log, task);
        ptrace(PTRACE_CONT, task, 0, 0);
    } else {
        ptrace(PTRACE_CONT, task, 0, (long)signal);
    }
}

/* Traces until nobody is left, and ends as `first` has ended. */
static _Noreturn void trace(calls *log, pid_t first)
{
    int status, last = 0;
    for (pid_t task; (task = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR;) {
        if (task > 0 && WIFSTOPPED(status)) {
            go_on(log, task, status);
        } else if (task > 0) {
            close_call(open_call_of(task));
            if (task == first)
                last = status;
        }
    }
    if (WIFSIGNALED(last)) {
        signal(WTERMSIG(last), SIG_DFL);
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* a core would be the tracer's */
        kill(getpid(), WTERMSIG(last));
    }
    _exit(WEXITSTATUS(last));
}

/* ---- the beginning: each side tells the other an errno, 0 for success ---- */

static int hear(int fd)
{
    int error = 0;
    ssize_t n;
    while ((n = read(fd, &error, sizeof error)) < 0 && errno == EINTR)
        ;
    return n == (ssize_t)sizeof error ? error : ECONNRESET;
}

static void tell(int fd, int error)
{
    while (send(fd, &error, sizeof error, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static const long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK |
                            PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;

int calls_begin(calls *log)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        return -errno;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        if (hear(ends[1])) /* nobody traces us */
            _exit(0);
        int error = install_filter();
        tell(ends[1], error);
        if (error)
            _exit(0);
        close(ends[1]);
        return 0;
    }
    int error = child < 0 ? errno : 0;
    close(ends[1]);
    if (!error) {
        error = ptrace(PTRACE_SEIZE, child, 0, options) ? errno : 0;
        tell(ends[0], error);
        if (!error)
            error = hear(ends[0]);
        if (error)
            waitpid(child, NULL, 0);
    }
    close(ends[0]);
    if (error)
        return -error;
    trace(log, child);
}
