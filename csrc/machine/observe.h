/* What is noted of an observed context's references. */
#ifndef HL_OBSERVE_H
#define HL_OBSERVE_H

#include "machine.h"

typedef struct hl_reference {
    uint64_t address;
    uint64_t is_store;
} hl_reference;

typedef struct hl_observer {
    uint64_t order; /* the hash */
    uint64_t seen;  /* references so far */
    uint64_t keep;  /* a power of two */
    hl_reference recent[]; /* reference i is at i % keep */
} hl_observer;

void hl_note(hl_observer *o, uint64_t va, int is_store);

#endif
