/* The columns of a block of trace events, as heaplab/traces/event.py defines them. */
#ifndef HL_REPLAY_EVENTS_H
#define HL_REPLAY_EVENTS_H

#include <stdint.h>

/* Op of event.py.  FORK, EXEC and EXIT are the process's; the others call the allocator. */
enum {
    HL_OP_MALLOC = 0,
    HL_OP_FREE,
    HL_OP_CALLOC,
    HL_OP_REALLOC,
    HL_OP_ALIGNED,
    HL_OP_FORK,
    HL_OP_EXEC,
    HL_OP_EXIT,
    HL_OP_THREAD_EXIT
};

#define HL_NULL_ID UINT32_MAX /* the id of FREE when the pointer freed is NULL */

static inline int is_process_op(int op) { return op >= HL_OP_FORK && op <= HL_OP_EXIT; }

typedef struct hl_events {
    const uint8_t *op;
    const uint32_t *id;
    const uint64_t *size;
    const uint32_t *align;
    const uint16_t *thread;
    const uint16_t *process;
} hl_events;

#endif
