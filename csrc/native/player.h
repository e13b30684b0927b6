/* The player: a program that plays a trace on the malloc it was started with.
 *
 * Python puts the trace's columns into one file in memory and a `hl_player` into another.  A third one is where blocks
 * lie that no allocator placed.  Python starts the player with the allocator's library in LD_PRELOAD.  The player calls
 * malloc for nothing but the trace's events: what it needs
 * itself lies in these files, mapped shared, so that the private memory of its processes is the allocator's
 * alone, and every page of it is touched before the first event.
 *
 *   HL_PLAY_TIME      how long: no clock but at the beginning and the end, one process, one thread
 *   HL_PLAY_FLOOR     the same loop and payloads on addresses worked out beforehand: the harness's own time
 *   HL_PLAY_LATENCY   a clock around each call
 *   HL_PLAY_SPACE     how much memory: the trace's processes are processes, its threads threads, one at a
 *                     time in the trace's order; memory is looked at after every event, payloads are verified
 *   HL_PLAY_WATCHED   as HL_PLAY_SPACE, on an allocator from outside whose references are counted and judged: what is
 *                     looked at is not memory but ../outside/watch.h
 *   HL_PLAY_DUEL      as HL_PLAY_SPACE, but events come in batches: Python writes the next ones into the columns when it
 *                     has seen in the slots where the blocks of the last ones lie.  One process, one thread
 *   HL_PLAY_EMPTY     the same without an allocator, on the addresses of HL_PLAY_FLOOR: all must be 0
 */
#ifndef HL_NATIVE_PLAYER_H
#define HL_NATIVE_PLAYER_H

#include <stdint.h>

#include "../replay/events.h"
#include "../replay/slots.h"

enum { HL_PLAY_TIME = 0, HL_PLAY_FLOOR, HL_PLAY_LATENCY, HL_PLAY_SPACE, HL_PLAY_EMPTY, HL_PLAY_WATCHED, HL_PLAY_DUEL };

/* How aligned blocks are asked for; a library need not have all of them. */
enum { HL_BY_MEMALIGN = 0, HL_BY_POSIX_MEMALIGN, HL_BY_ALIGNED_ALLOC, HL_BY_NONE };

/* Why a pass came to its end.  From HL_PLAY_NO_MEMORY on it ended early, at the event `row`. */
enum {
    HL_PLAY_RUNNING = 0,
    HL_PLAY_DONE,
    HL_PLAY_NO_MEMORY,  /* the allocator gave no block */
    HL_PLAY_NO_ALIGNED, /* the allocator has no function for aligned blocks */
    HL_PLAY_MISALIGNED, /* the block at bad_address is no multiple of bad_offset */
    HL_PLAY_NOT_ZERO,   /* calloc: byte bad_offset of the block is not zero */
    HL_PLAY_WRONG_BYTE, /* byte bad_offset of the block is not what was written */
    HL_PLAY_NO_ACCESS,  /* a signal: the block's payload cannot be read and written */
    HL_PLAY_SIGNAL,     /* a signal ended the allocator's call */
    HL_PLAY_HOST,       /* the player's own system call failed, with `error` */
};

enum { HL_LEAVES_NOBODY = 0, HL_LEAVES_THREAD, HL_LEAVES_PROCESS };

/* A process of the trace. */
typedef struct hl_play_process {
    uint64_t slots;       /* offset of its table in the file of the player, */
    uint64_t slot_count;  /* and its length, also of what it has from its parent */
    uint32_t first_actor; /* its threads' numbers as actors, */
    uint32_t actor_count; /* one after the other */

    uint32_t go;          /* its main thread's turn */
    uint32_t ready;       /* it has been set up */
    uint32_t alive;
    int32_t pid;
    uint32_t main_thread; /* the trace's number of its main thread */
    uint32_t family;
    uint64_t live;        /* payload bytes */
    uint64_t heap;        /* pages, as of its last event */
    uint64_t faults;      /* as of its last event, the player's own taken off */
    uint64_t own_faults;  /* ru_minflt less this is `faults` */
    uint64_t own_data;    /* pages that were writable and private before the allocator had any */
} hl_play_process;

/* A thread of a process of the trace, but for main threads. */
typedef struct hl_play_actor {
    uint32_t number; /* the trace's, in its process */
    uint32_t go;
    uint32_t alive;
    uint64_t thread; /* pthread_t, in its own process */
} hl_play_actor;

/* Processes that came of one program by fork: what memory of the player's own they have. */
typedef struct hl_play_family {
    uint64_t base;    /* KiB of anonymous memory before the allocator had any */
    uint64_t a_child; /* KiB that a fork adds to that, at once */
    uint64_t members;
} hl_play_family;

typedef struct hl_play_sample {
    uint64_t event, live, heap, resident; /* as hl_sample; heap and resident in pages */
} hl_play_sample;

typedef struct hl_player {
    /* set by Python.  Offsets are of the trace's file: columns of `events` rows, */
    uint64_t op_at, id_at, size_at, align_at, thread_at, process_at, actor_at;
    /* and of this file: hl_play_process, _actor, _family, */
    uint64_t processes_at, actors_at, families_at;
    /* numbers of events, rising, the last UINT64_MAX; as many hl_play_sample; */
    uint64_t sample_at, samples_at;
    /* ticks of each call, or its references: uint32_t; places of each row, in units of PLACE_UNIT: uint32_t */
    uint64_t ticks_at, places_at;
    /* a struct calls of calls.h; a hl_watch; a process's slots, kept after event number `keep_after` */
    uint64_t calls_at, watch_at, kept_at, keep_after;
    uint64_t events, processes; /* HL_PLAY_DUEL: the events of the batch at hand, 0 after the last */
    uint32_t pass;
    uint32_t aligned; /* HL_BY_... */
    uint32_t threads; /* at once in one process, at most */
    uint32_t natural; /* every block is a multiple of this, if it is as large */

    /* where it stands */
    uint32_t calling; /* the allocator is at work, and no payload */
    uint64_t row;     /* events carried out */
    uint32_t turn;    /* the process whose turn it is */
    uint32_t leaving; /* HL_LEAVES_...: the event at hand ends a thread or a process, once it is gone */
    int32_t leaver;   /* that process's pid, or that thread's actor */
    uint32_t closing; /* the last event is over: every block is being freed */
    uint32_t settled; /* it was started for the second time */
    uint64_t born;    /* processes so far */
    uint64_t families;
    uint64_t sampled;
    uint64_t places_end;
    uint32_t kept_process; /* whose slots were kept, */
    uint64_t kept_heap_start, kept_heap; /* and its heap: hl_watch */

    /* what it measured.  Heap and resident memory are pages */
    uint64_t operations, remote_frees;
    uint64_t live;                       /* bytes */
    uint64_t heap;
    uint64_t resident;                   /* as of the last look, */
    uint64_t looked_after;               /* when so many faults were counted */
    uint64_t looks;                      /* how often that was */
    uint64_t faults;                     /* of all processes, those that ended included */
    uint64_t peak_live;
    uint64_t peak_heap, peak_resident;
    uint64_t end_heap, end_resident;     /* after the last event */
    uint64_t freed_heap, freed_resident; /* when every block is freed */
    uint32_t counts_calls;               /* the system lets them be counted: */
    uint64_t brk_calls, mmap_calls;      /* mmap and munmap */
    uint64_t ns;                         /* of the player on a processor, between process events */
    uint64_t wall_ns, wall_ticks;        /* the same stretches on the wall's clock: how long a tick is */
    uint64_t overhead;                   /* ticks; see clock_overhead */

    /* what went wrong */
    uint32_t why;
    int32_t signal;
    int32_t error;
    uint32_t bad_id;
    uint64_t bad_address, bad_size, bad_offset;
} hl_player;

#endif
