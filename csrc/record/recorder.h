/* The raw file of the recorder: what recorder.c writes and heaplab/native/raw.py reads.

   A recording is a directory with one file for every program that a process ran (its image): a process
   that execs leaves two.  A file is a header and then records of 24 bytes, in the order in which they
   happened to the process's heap.  A record whose first word is zero was never finished: skip it.

       word 0   time << 8 | kind        in units of the recording's clock, since the monitor began
       word 1   thread << 48 | address  threads are numbered from 0 as they first record, modulo 2^16
       word 2   log2(align) << 48 | size

   The program writes to chunks of memory that it shares with the monitor (monitor.h): what a program did
   before it was killed is there.  The monitor writes the chunks to the file. */
#ifndef HEAPLAB_RECORDER_H
#define HEAPLAB_RECORDER_H

#include <stdint.h>

enum kind {
    RAW_MALLOC = 1,        /* address, size */
    RAW_CALLOC = 2,        /* address, size = the product */
    RAW_ALIGNED = 3,       /* address, size, align */
    RAW_FREE = 4,          /* address, or 0: written BEFORE the block is freed */
    RAW_REALLOC_BEGIN = 5, /* the old address: written before the call */
    RAW_REALLOC_END = 6,   /* the new address (0: failed, or freed when size is 0), size: after the call */
    RAW_EXIT = 7,          /* the program called exit or _exit */
    RAW_THREAD_END = 8,    /* the thread is ending; what its last destructors do may follow */
    RAW_WAITED = 9,        /* address: the pid of a process that has ended, and was waited for */
    RAW_FRAME = 10,        /* address: a return address of the call stack whose hash is in size, innermost first */
    RAW_SITE = 11,         /* size: the hash of the call stack of the thread's acquisition that follows */
};

struct record {
    uint64_t word[3];
};

struct header {
    char magic[8]; /* RAW_MAGIC */
    uint32_t pid;
    uint32_t parent_pid;
    uint64_t started;     /* when this file was begun */
    uint64_t process;     /* the monitor's number of the process: survives exec */
    uint64_t forked_from; /* `started` of the file of the process this one was forked from; 0 after exec */
    uint64_t fork_index;  /* how many records (with unfinished ones) that file held at the fork */
    uint32_t failed;      /* errno of what stopped the recording early; 0 */
    uint32_t thread;      /* one more than the number of the thread that forked; 0 if it had none */
    char program[16];     /* the kernel's name for the program: its first 15 bytes */
};

#define RAW_MAGIC "heaprec2"

/* A file grows by chunks that records fill exactly, in whole pages: the first is small, for the many
   processes that hardly allocate, the others are large, for few mappings. */
#define RAW_FIRST_CHUNK_RECORDS 4096u /* 96 KiB */
#define RAW_CHUNK_RECORDS 131072u     /* 3 MiB */

_Static_assert(sizeof(struct header) == 3 * sizeof(struct record), "records follow the header without a gap");

#endif
