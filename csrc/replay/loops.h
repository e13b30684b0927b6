/* Between the replay (replay.c) and its loops (rows.c), which are compiled for two kinds of machine. */
#ifndef HL_REPLAY_LOOPS_H
#define HL_REPLAY_LOOPS_H

#include "replay.h"

typedef struct hl_replay_loops {
    /* Carries out rows [r->row, stop); why it came to a stop, unless an access fails: then it jumps to `escape`. */
    int (*run)(hl_replay *r, const hl_events *events, uint64_t stop, void *escape);
    /* Verifies every live block of the process that has been entered. */
    int (*verify_all)(hl_replay *r, hl_replay_process *p);
} hl_replay_loops;

extern const hl_replay_loops hl_loops, hl_usual_loops;

/* NULL: no such process is alive. */
static inline hl_replay_process *process_of(const hl_replay *r, uint64_t number)
{
    return number < r->process_capacity ? r->processes[number] : NULL;
}

/* Lets this context run next, with what is left of the limit; NULL: none. */
void hl_replay_enter(hl_replay *r, hl_context *c, void *escape);
/* Gives the context that was entered what is left of the limit. */
void hl_replay_refuel(hl_replay *r);

/* hl_replay_run without reading a clock, which takes longer than an event. */
int hl_replay_step(hl_replay *r, const hl_events *events, uint64_t stop);

/* Writes the row of the event that was carried out last, or compares it. */
void hl_replay_log_event(hl_replay *r);

/* What does not fit is UINT32_MAX. */
static inline uint32_t narrow(uint64_t n) { return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX; }

static inline void replay_peak(hl_peak *peak, const hl_sample *now, uint64_t most)
{
    *peak = (hl_peak){most, now->event, now->live, now->heap, now->resident};
}

/* After an event: sums, peaks, its row in the log, and a sample if one is due.  page: bytes. */
static inline void replay_note(hl_replay *r, uint64_t page)
{
    hl_sample *now = &r->now;
    now->event = ++r->events;
    now->heap = r->heap_pages * page;
    now->resident = r->machine->used[HL_ANON] * page;
    r->sum_live += now->live;
    r->sum_heap_pages += r->heap_pages;
    r->sum_resident_pages += r->machine->used[HL_ANON];
    if (now->live > r->peak_live.most)
        replay_peak(&r->peak_live, now, now->live);
    if (now->heap > r->peak_heap.most)
        replay_peak(&r->peak_heap, now, now->heap);
    if (now->resident > r->peak_resident.most)
        replay_peak(&r->peak_resident, now, now->resident);
    if (HL_UNLIKELY(r->log != NULL))
        hl_replay_log_event(r);
    if (HL_UNLIKELY(r->events == r->sample_at[r->sampled]))
        r->samples[r->sampled++] = *now;
}

#endif
