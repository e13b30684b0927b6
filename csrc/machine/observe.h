/* What is noted of an observed context's references. */
#ifndef HL_OBSERVE_H
#define HL_OBSERVE_H

#include "machine.h"

typedef struct hl_reference {
    uint64_t address;
    uint64_t is_store;
} hl_reference;

/* Cache lines, each once: an open hash table.  A line belongs to the set while its entry has the set's number, so that
 * to forget all of them costs an addition. */
typedef struct hl_line_set {
    uint64_t *lines, *numbers;
    uint64_t capacity; /* a power of two */
    uint64_t number, count;
} hl_line_set;

typedef struct hl_observer {
    uint64_t order; /* the hash */
    uint64_t seen;  /* references so far */
    uint64_t keep;  /* a power of two */
    hl_line_set touched;
    hl_reference recent[]; /* reference i is at i % keep */
} hl_observer;

void hl_note(hl_observer *o, uint64_t va, unsigned size, int is_store);
void hl_observer_delete(hl_observer *o);

#endif
