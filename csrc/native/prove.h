/* What the prover and who drives it share: heaplab/native/proving.py writes and reads it too. */
#ifndef HL_NATIVE_PROVE_H
#define HL_NATIVE_PROVE_H

#include <stdint.h>

/* What of a process of the trace can be known from outside.  pid 0: it is not born yet, or has exited. */
typedef struct prove_process {
    uint32_t pid;
    uint32_t ready;  /* a futex: 1 when the process waits for its turn */
    uint64_t faults; /* minor faults of its events since it was born, or has execed */
} prove_process;

/* heaplab/native/proving.py defines, by flags of the compiler:
 *   PROVE_START, PROVE_TOP   the addresses of every heap: what grows by brk begins at START, the first mapping ends at
 *                            TOP.  Chance (ASLR) puts the kernel's own choices above TOP, and the break below START.
 *   PROVE_REFUSED            the exit status when the system does not let the prover be traced
 */

typedef struct prove_state {
    /* set at the start */
    uint64_t events, slots, processes, stops; /* how many there are */
    uint64_t huge; /* 1: with huge pages wherever the heap has room for one */
    /* where it stands */
    uint64_t row;     /* events carried out */
    uint64_t stopped; /* stops that were made */
    uint32_t turn;    /* a futex: the number of the process whose turn it is */
    uint32_t over;    /* whoever waits is to exit */
    uint32_t holder;  /* the pid of the process whose turn it is */
    uint32_t leaving; /* the pid of a process that is about to exit, 0: none */
    prove_process process[]; /* then `stops` numbers of events, rising */
} prove_state;

#endif
