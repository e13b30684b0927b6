/* What the agent (agent.c) and whoever drives it (driver.c) share: a slot of memory for each process.

   The slots lie in one file that every process of the tested tree maps, shared, at AGENT_BASE; a child
   inherits the mapping and uses a slot of its own.  An agent keeps its stack there too: shared memory is
   never copied by fork, so that what the agent itself writes causes no fault that a test could see.
   Behind the slots the file has the agent's text, for processes that exec something else and then map both
   again.  The last slot serves no process: its stack is where those begin.

       slot    0 ............... AGENT_ALT_STACK ............. AGENT_SLOT_SIZE
               | hl_agent_slot   |  <-- signal handler's stack |  <-- stack |

   The turn passes between the two sides like a token: whoever has it may use the slot. */
#ifndef CONFORM_AGENT_H
#define CONFORM_AGENT_H
#include <stdint.h>

#define AGENT_BASE 0x200000ul
#define AGENT_SLOTS 32u
#define AGENT_SLOT_SIZE 0x10000ul
#define AGENT_END (AGENT_BASE + AGENT_SLOTS * AGENT_SLOT_SIZE) /* the agent's text is linked to start here */
#define AGENT_TEXT_SIZE 0x1000ul

/* Where in the text a handler lies that notes each signal it gets, and what a handler returns to. */
#define AGENT_CATCHER (AGENT_END + 0xf00ul)
#define AGENT_RESTORER (AGENT_END + 0xf10ul)

#define AGENT_FD 1000 /* of the file with the slots, in every process: above what it opens itself */

enum { AGENT_DRIVERS_TURN, AGENT_AGENTS_TURN };

enum {
    AGENT_SYSCALL, /* nr, args */
    AGENT_FORK,    /* the same, for calls that return twice; the child serves slot number `child` */
    AGENT_EXEC,    /* the same, for calls that do not return: the slot is served by the new program then */
    AGENT_LOAD,    /* `size` bytes at args[0] */
    AGENT_STORE,   /* args[1], `size` bytes, at args[0] */
};

#define AGENT_CAUGHT_MOST 16u

/* A signal as the handler got it: of its siginfo, and what was blocked meanwhile. */
typedef struct {
    int32_t signo;
    int32_t code;
    int32_t pid;
    int32_t status;
    uint64_t blocked;
} hl_agent_signal;

typedef struct {
    uint32_t turn; /* a futex */
    /* the command */
    uint32_t op;
    uint64_t nr;
    uint64_t args[6];
    uint32_t size;
    uint32_t fatal; /* an access that faults: 0 it is given up and reported, 1 it also ends the process */
    uint32_t child;
    /* the report */
    uint32_t signo; /* of the access that faulted; 0: none did */
    int32_t code;     /* its si_code and si_addr */
    int32_t pid; /* of the launcher's child, seen from outside; only in slot 0, before the first turn */
    uint64_t address;
    int64_t result; /* of the call; of an exec that worked, the stack pointer that the program began with */
    int32_t tid; /* of the task that serves the slot, as it sees itself */
    uint64_t resume; /* where a program goes on once it has mapped slots and text; only in slot 0 */
    uint32_t execing; /* the number of the slot whose command is an exec, while it is; only in slot 0 */
    uint64_t minflt; /* ru_minflt so far, whatever the agent touched for itself before its first turn included */
    /* signals caught since the driver last set caught_count to 0; of more than fit, the first */
    uint64_t caught_count;
    hl_agent_signal caught[AGENT_CAUGHT_MOST];
    /* memory for what system calls read and write by pointers */
    uint64_t scratch[64];
} hl_agent_slot;

/* Let the agent that serves `slot` do its command, and wait until it has: 0; -EINTR when a signal came first,
   -ETIMEDOUT when the agent took longer (it sleeps in a call, or is dead): hl_agent_wait waits on. */
int hl_agent_run(hl_agent_slot *slot, uint32_t milliseconds);
int hl_agent_wait(hl_agent_slot *slot, uint32_t milliseconds);

#endif
