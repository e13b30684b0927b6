/* Records the system calls that a program makes for memory, from outside: what the kernel was asked, and its answer.
 *
 * The program is traced by ptrace.  A seccomp filter lets the kernel stop it at the calls of `calls_kind` alone, so
 * that everything else runs at full speed.  A call that is recorded costs about 10 us, one that is not 3 us.
 *
 *   the program                                    the tracer
 *   calls_begin(log) returns 0, in a new process   is the process that called: it waits, and ends as the new one ends
 *   log->recording = 1 ... 0                       writes into *log what it sees while `recording` is set
 *
 * brk(0) only asks where the break is, and is left out.
 * All that the program forks later is traced too, and what it execs stays traced.  Each call is in *log before the
 * program goes on, so a program with one thread may read what it did.
 */
#ifndef HL_NATIVE_CALLS_H
#define HL_NATIVE_CALLS_H

#include <stdint.h>

enum calls_kind { CALLS_BRK, CALLS_MMAP, CALLS_MUNMAP, CALLS_MREMAP, CALLS_MADVISE, CALLS_MPROTECT, CALLS_KINDS };

typedef struct calls_entry {
    uint64_t mark;   /* the program's own word at the time of the call */
    uint32_t task;   /* the thread's id, as gettid says */
    uint32_t kind;   /* calls_kind */
    uint64_t args[6];
    int64_t result;  /* as the kernel gives it: negative for an error */
} calls_entry;

/* Lies in a shared mapping of the caller's, with room for `capacity` entries.  heaplab/native/calls.py reads it. */
typedef struct calls {
    uint32_t recording; /* the program sets it */
    uint32_t unused;
    uint64_t mark;      /* the program sets it to whatever is to be known of the calls that follow */
    uint64_t capacity;
    uint64_t count;              /* calls recorded; of those from `capacity` on no entry is kept */
    uint64_t seen[CALLS_KINDS];  /* the same by kind */
    calls_entry at[];
} calls;

/* Begins to trace: 0, in a new process, which is the program from here on.  The process that called does not return.
 * Or the negative errno of what the system refuses; then the caller goes on, and nothing has changed. */
int calls_begin(calls *log);

#endif
