/* The looks at the blocks; trail.h says what for.
 *
 *   span start      p                         p + usable
 *      | header     | payload                 |            small: below the break, lead = header
 *                   | payload                 |            elsewhere: lead = 0, unless a large alignment moved it
 */
#include "trail.h"

#include "../entry/model.h"
#include "loops.h"

static inline int makes_block(int op)
{
    return op == HL_OP_MALLOC || op == HL_OP_CALLOC || op == HL_OP_REALLOC || op == HL_OP_ALIGNED;
}

/* Whether the word was not met before; it is known from now on.  A table that is half full learns no more. */
static int is_new(hl_trail *t, uint64_t word)
{
    if (!word || 2 * t->count >= t->capacity)
        return 0;
    uint64_t i = (word * 0x9E3779B97F4A7C15ull >> 32) & (t->capacity - 1);
    while (t->known[i] && t->known[i] != word)
        i = (i + 1) & (t->capacity - 1);
    if (t->known[i])
        return 0;
    t->known[i] = word;
    t->count++;
    return 1;
}

static int look_at(const hl_replay *r, hl_trail *t, uint64_t row, uint64_t number, uint64_t align)
{
    const hl_replay_process *p = process_of(r, number);
    hl_heap *seen = t->seen[number];
    uint64_t address = r->bad_address;
    t->address[row] = address;
    if (!seen || !p || !p->context->space)
        return HL_TRAIL_ASK;
    int small = address >= seen->root && address < p->context->space->brk;
    if (!small && align > r->machine->page_size)
        return HL_TRAIL_ASK;
    t->lead[row] = small ? t->header : 0;
    t->span[row] = t->lead[row] + hl_heap_usable_size(seen, address);
    seen->corrupt_rule = seen->env->failed = 0; /* a broken heap is the replay's business */
    if (!t->mask || !t->lead[row])
        return HL_REPLAY_DONE;
    t->word[row] = hl_load64(seen->env, address - t->lead[row]) & t->mask;
    return is_new(t, t->word[row]) ? HL_TRAIL_WORD : HL_REPLAY_DONE;
}

int hl_replay_trail(hl_replay *r, const hl_events *events, uint64_t stop, hl_trail *t)
{
    while (r->row < stop) {
        uint64_t row = r->row;
        int why = hl_replay_step(r, events, row + 1);
        if (why)
            return why;
        if (!makes_block(events->op[row]))
            continue;
        why = look_at(r, t, r->events - 1 - t->first, events->process[row], events->align[row]);
        if (why)
            return why;
    }
    return HL_REPLAY_DONE;
}
