/* Replays a trace on the malloc of the process it runs in: the C library's own.
 *
 * The same events and the same payload writes as on the model, nothing verified, so that the two can be timed
 * against each other.  All processes of a trace share the one heap: at a fork the child's blocks are allocated
 * anew, outside the measured time, and at exec and exit what is left is freed the same way.
 */
#ifndef HL_REPLAY_NATIVE_H
#define HL_REPLAY_NATIVE_H

#include "clock.h"
#include "events.h"
#include "slots.h"

typedef struct hl_native {
    hl_slots *processes; /* by number */
    uint64_t process_count;
    uint64_t ops;
    hl_clock clock; /* ticks: within malloc; wall: the replay as a whole, forks, execs and exits left out */
} hl_native;

hl_native *hl_native_new(void);
/* Frees every block that is still live. */
void hl_native_delete(hl_native *n);
/* Carries out all `count` events: 0, or -1 when malloc has no memory. */
int hl_native_run(hl_native *n, const hl_events *events, uint64_t count);

#endif
