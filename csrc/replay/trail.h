/* Where the blocks of a replay lie: after each event that leaves a block, a look at it. */
#ifndef HL_REPLAY_TRAIL_H
#define HL_REPLAY_TRAIL_H

#include "replay.h"

/* Why hl_replay_trail came to a stop, besides what hl_replay_run says.  The event was carried out. */
enum {
    HL_TRAIL_ASK = 64, /* where the block's span starts and ends is Python's to find out */
    HL_TRAIL_WORD,     /* its header says what no header before it said */
};

/* Rows of events, by number, from the event `first` on. */
typedef struct hl_trail {
    uint64_t first;
    uint64_t *address; /* of the payload; 0: the event leaves no block */
    uint64_t *lead;    /* bytes from the span's start to the payload */
    uint64_t *span;    /* bytes of the span */
    uint64_t *word;    /* the bits of the block's header that `mask` keeps */
    /* the same heaps by number, each as a look sees it; NULL where Python is asked */
    hl_heap *const *seen;
    uint64_t header; /* bytes of the design's in front of a payload that lies below the break */
    uint64_t mask;   /* 0: headers are not read */
    uint64_t *known; /* words met, in a hash table: 0 is an empty place; at most half is used */
    uint64_t capacity, count; /* a power of two */
} hl_trail;

/* Carries out rows [r->row, stop) of a block as hl_replay_run does, and writes a row for each. */
int hl_replay_trail(hl_replay *r, const hl_events *events, uint64_t stop, hl_trail *trail);

#endif
