/* Replays a trace on heaps of the model: whole blocks of events in one call.
 *
 * Python makes the processes and their heaps, and is called back for FORK, EXEC and EXIT alone; everything
 * else happens here, payloads included:
 *
 *   allocation   the address is aligned, no byte of the block belongs to another live block (and the block is
 *                zero, for calloc); the payload is written whole
 *   realloc      the same; the bytes both sizes have were kept; the rest is written
 *   free         the payload is still what was written
 *
 * so that an allocator that hands out a byte twice is caught at once, and one that loses a byte at the latest
 * when the block is freed, or at the end.  The payload's accesses go through the MMU, and fault as a program's
 * do, but are not counted as loads and stores: mems are the allocator's own.
 */
#ifndef HL_REPLAY_H
#define HL_REPLAY_H

#include "../heap/heap.h"
#include "events.h"
#include "shadow.h"
#include "slots.h"

/* Why a replay came to a stop.  From HL_REPLAY_NO_MEMORY on the event at hand was not carried out. */
enum {
    HL_REPLAY_DONE = 0,    /* all events asked for */
    HL_REPLAY_PROCESS,     /* the next event is FORK, EXEC or EXIT: Python's */
    HL_REPLAY_NO_MEMORY,   /* the allocator gave no block */
    HL_REPLAY_MISALIGNED,  /* the block at bad_address is no multiple of bad_offset */
    HL_REPLAY_NOWHERE,     /* the block at bad_address is in no address space */
    HL_REPLAY_OVERLAP,     /* the block shares bytes with the live block other_id */
    HL_REPLAY_TOO_LARGE,   /* the block is larger than all memory of its process */
    HL_REPLAY_NO_ACCESS,   /* an access to the block's payload failed: the context knows more */
    HL_REPLAY_NOT_ZERO,    /* calloc: byte bad_offset of the block is not zero */
    HL_REPLAY_WRONG_BYTE,  /* byte bad_offset of the block is not what was written */
    HL_REPLAY_KILLED,      /* the process is no more, though the trace does not say so */
    HL_REPLAY_RAISED,      /* the heap is corrupt, or an access failed: the heap knows more */
    HL_REPLAY_HOST_MEMORY, /* the host has no memory for the slots */
};

/* A heap in Python, as the replay calls it: an op of events.h on the block at p (0 where there is none).  The
 * context's `thread` is the one that calls, or, for HL_OP_THREAD_EXIT, that ends.
 * The address, or HL_HEAP_RAISED. */
typedef uint64_t (*hl_heap_fn)(void *handle, int op, uint64_t p, uint64_t size, uint64_t align);
#define HL_HEAP_RAISED UINT64_MAX

typedef struct hl_replay_process {
    hl_context *context;
    hl_heap *heap; /* in C, or NULL: */
    void *handle;  /* in Python */
    hl_slots slots;
    hl_shadow shadow;    /* of the blocks in the slots; only when payloads are verified */
    uint64_t live;       /* payload bytes */
    uint64_t heap_pages; /* as of its last event */
    uint64_t faults;     /* minor ones, as of its last event; kept for the log */
} hl_replay_process;

/* How things stand after `event` events. */
typedef struct hl_sample {
    uint64_t event;
    uint64_t live;     /* payload bytes of all processes */
    uint64_t heap;     /* bytes of address space that brk and anonymous mmap gave them */
    uint64_t resident; /* bytes of anonymous frames in use, each once */
} hl_sample;

/* What is known of every event, a row each by its number, written after the event. */
typedef struct hl_log {
    uint64_t *address;      /* of the block's payload; 0 where the event leaves no block */
    uint32_t *mems, *faults; /* of the event, all its processes': what does not fit is UINT32_MAX */
    uint64_t *live, *heap, *resident; /* as in hl_sample */
} hl_log;

/* Mems of one operation: up to HL_MEMS_EXACT - 1 a bucket each, above it 128 buckets an octave, so that a
 * bucket's ends differ by less than 1 %. */
#define HL_MEMS_EXACT 4096u
#define HL_MEMS_BUCKETS (HL_MEMS_EXACT + 52u * 128u)

/* One number per operation: the sum, the largest, and how many operations fall into each bucket, for percentiles. */
typedef struct hl_tally {
    uint64_t total, most;
    uint64_t count[HL_MEMS_BUCKETS];
} hl_tally;

/* The peak of a quantity: `most`, the event after which it was first reached, and the memory at that moment. */
typedef struct hl_peak {
    uint64_t most, event;
    uint64_t live, heap, resident; /* bytes */
} hl_peak;

typedef struct hl_replay {
    /* set at the start */
    hl_machine *machine;
    hl_heap_fn call;
    int verify;
    int payload; /* payloads are written; without it they are not verified either */
    uint64_t mems_limit; /* the reference that would take mems above it is not made: the call breaks off */
    const uint64_t *sample_at; /* numbers of events, rising; the last is UINT64_MAX */
    hl_sample *samples;        /* room for as many */
    const hl_log *log;         /* with room for every event, or NULL; set by hl_replay_log and hl_replay_compare */
    int compares;              /* the log is of an earlier replay */
    hl_tally *lines;           /* distinct cache lines of each operation, or NULL: hl_replay_count_lines */

    /* where it stands */
    uint64_t events; /* carried out */
    uint64_t row;    /* of the block at hand: the next event */
    uint64_t sampled;
    hl_replay_process **processes; /* by number; NULL: not alive */
    uint64_t process_capacity;
    hl_context *entered; /* the context whose escape is set */
    uint64_t charged;    /* as of its context when it was last given fuel */
    uint64_t before;     /* references that its context had counted when the last call of the allocator began */
    uint64_t heap_pages; /* of all processes */
    hl_sample now;
    uint64_t faults;     /* minor ones of all processes so far, as of their last events */
    uint64_t logged_mems, logged_faults; /* what the rows of the log, and what was before them, add up to */
    uint64_t strayed;    /* the first event whose row in the earlier log says otherwise, or UINT64_MAX */

    /* what it measured; peaks and sums are taken after every event */
    hl_peak peak_live, peak_heap, peak_resident;
    uint64_t sum_live;                        /* bytes */
    uint64_t sum_heap_pages, sum_resident_pages;
    uint64_t ops; /* calls of the allocator */
    uint64_t remote_frees; /* frees and reallocs by another thread than the block's */
    hl_tally mems;
    uint64_t ns; /* of the processor, in hl_replay_run: the allocator, its faults and system calls, and the payloads */

    /* what went wrong: with which block, in whose way it is, and at which of its bytes */
    uint64_t bad_process, bad_id, bad_address, bad_size, bad_offset; /* bad_address: 0 after a free */
    uint64_t other_id, other_address, other_size;
    int touching; /* the access at hand is to the payload of the block bad_id: not the allocator's own */
} hl_replay;

/* NULL when the host has no memory. */
hl_replay *hl_replay_new(hl_machine *m, hl_heap_fn call);
void hl_replay_delete(hl_replay *r);

/* Process `number` starts, with a heap and no live block.  0, or -1: the host has no memory. */
int hl_replay_start(hl_replay *r, uint64_t number, hl_context *c, hl_heap *heap, void *handle);
/* The same for the child of a fork: it starts with a copy of the slots of `from`'s process `parent`. */
int hl_replay_fork(hl_replay *r, const hl_replay *from, uint64_t parent, uint64_t number, hl_context *c, hl_heap *heap,
                   void *handle);
/* A replay that stands at the same event, with no process yet: hl_replay_fork brings them.  It verifies no payloads,
 * and counts mems on for the limit's sake; peaks, operations and samples begin anew.  NULL when the host has no
 * memory. */
hl_replay *hl_replay_branch(const hl_replay *r);
/* From now on every event has its row in the log; the counts of the first are from here on. */
void hl_replay_log(hl_replay *r, const hl_log *log);
/* From now on every event's address and mems are compared with its row: see `strayed`. */
void hl_replay_compare(hl_replay *r, const hl_log *log);
/* From now on the replay counts the distinct cache lines of each operation; the contexts of its processes must be
 * observed.  0, or -1 when the host has no memory. */
int hl_replay_count_lines(hl_replay *r);
/* Process `number` is gone, or about to start anew. */
void hl_replay_end(hl_replay *r, uint64_t number);

/* Carries out rows [r->row, stop) of a block. */
int hl_replay_run(hl_replay *r, const hl_events *events, uint64_t stop);
/* Python has carried out the process event of row r->row: counts it. */
void hl_replay_passed(hl_replay *r);
/* Verifies every live block of a process: HL_REPLAY_DONE, or what is wrong. */
int hl_replay_verify(hl_replay *r, uint64_t number);
/* The slots of a process, *count of them. */
const hl_slot *hl_replay_slots(const hl_replay *r, uint64_t number, uint64_t *count);
/* For each slot of the process: the number of the event that made the slot's block, or of the last event that
 * reallocated it.  A number that does not fit is UINT32_MAX. */
const uint32_t *hl_replay_born(const hl_replay *r, uint64_t number);
/* Finds which event allocated, or last reallocated, the blocks that live in a process after the first n events.
 * event: for each of `count` slots UINT64_MAX if its event is to be found, else anything. */
void hl_replay_origins(const hl_events *events, uint64_t n, uint64_t process, uint64_t count, uint64_t *event);

uint64_t hl_mems_bucket(uint64_t mems);
/* The largest number of mems that falls into the bucket. */
uint64_t hl_mems_bucket_top(uint64_t bucket);

#endif
