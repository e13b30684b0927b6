#define _GNU_SOURCE
#include "space.h"

#include <errno.h>
#include <unistd.h>

#include "../replay/payload.h"
#include "ask.h"
#include "places.h"

/* Who this thread is.  actor: its number, unless it is its process's main thread. */
typedef struct self {
    uint32_t number;
    hl_play_process *process;
    int is_main;
    uint32_t actor;
} self;

/* ---- looking at memory ---- */

static hl_play_family *family_of(const hl_play_process *p)
{
    return (hl_play_family *)play_at(player->families_at) + p->family;
}

/* KiB of anonymous memory of all processes, each frame once. */
static uint64_t anonymous(void)
{
    uint64_t sum = 0;
    for (uint64_t number = 0; number < player->born; number++)
        if (processes[number].alive)
            sum += ground_anonymous(processes[number].pid);
    return sum;
}

static void look(void)
{
    const hl_play_family *families = play_at(player->families_at);
    uint64_t own = 0, all = anonymous();
    for (uint64_t i = 0; i < player->families; i++)
        if (families[i].members)
            own += families[i].base + (families[i].members - 1) * families[i].a_child;
    player->resident = all > own ? (all - own + 2) / 4 : 0;
    player->looked_after = player->faults;
    player->looks++;
    if (player->resident > player->peak_resident)
        player->peak_resident = player->resident;
}

/* Counts what the caller's own process has, and what it cost; of a watched heap, bytes alone. */
static void count(hl_play_process *p)
{
    if (watch) {
        player->heap += watch->heap - p->heap;
        p->heap = watch->heap;
        return;
    }
    uint64_t heap = ground_data() - p->own_data, faults = ground_faults() - p->own_faults;
    player->heap += heap - p->heap;
    p->heap = heap;
    player->faults += faults - p->faults;
    p->faults = faults;
}

/* The event is over, and everything is counted: peaks, and a sample if one is due.  Every fault brings at most one
 * frame, so resident memory need not be looked at where it cannot be above the known peak by more than 1/200. */
static void end_event(void)
{
    uint64_t event = player->row + 1;
    const uint64_t *sample_at = play_at(player->sample_at);
    int due = event == sample_at[player->sampled];
    if (player->live > player->peak_live)
        player->peak_live = player->live;
    if (player->heap > player->peak_heap)
        player->peak_heap = player->heap;
    uint64_t most = player->resident + player->faults - player->looked_after;
    if (!watch && (due || most * 200 > player->peak_resident * 201))
        look();
    if (due)
        ((hl_play_sample *)play_at(player->samples_at))[player->sampled++] = (hl_play_sample){
            .event = event, .live = player->live, .heap = player->heap, .resident = player->resident};
    __atomic_store_n(&player->row, event, __ATOMIC_RELEASE);
}

/* ---- one call ---- */

/* Returns the references so far. */
static uint64_t begin_watching(void)
{
    if (!watch)
        return 0;
    watch->counting = 1;
    return watch->mems;
}

static void end_watching(uint64_t before)
{
    if (!watch)
        return;
    watch->counting = 0;
    uint64_t mems = watch->mems - before;
    uint32_t *all = play_at(player->ticks_at);
    if (!player->closing)
        all[player->operations - 1] = mems < UINT32_MAX ? (uint32_t)mems : UINT32_MAX;
}

/* The block that the next call frees or resizes. */
static inline void *subject(const hl_slot *slot)
{
    if (watch)
        watch->subject_size = slot->size;
    return (void *)(uintptr_t)slot->address;
}

static void *call(uint64_t row, int op, void *p, uint64_t size, uint64_t align)
{
    player->operations++;
    if (player->pass == HL_PLAY_EMPTY)
        return op == HL_OP_FREE ? NULL : (void *)(uintptr_t)place_of(row);
    uint64_t mems = begin_watching();
    player->calling = 1;
    void *result = ask(op, p, size, align);
    player->calling = 0;
    end_watching(mems);
    return result;
}

/* An address that suits every type that fits into the block. */
static uint64_t natural_alignment(uint64_t size)
{
    return size >= 16 ? 16 : size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

static void verify_place(const void *p, uint64_t align)
{
    player->bad_address = (uintptr_t)p;
    if (!p && player->bad_size) /* for 0 bytes NULL is an answer too */
        play_fail(HL_PLAY_NO_MEMORY);
    uint64_t natural = natural_alignment(player->bad_size);
    if (natural > player->natural)
        natural = player->natural;
    player->bad_offset = align > natural ? align : natural;
    if (player->pass != HL_PLAY_EMPTY && (uintptr_t)p & (player->bad_offset - 1))
        play_fail(HL_PLAY_MISALIGNED);
}

static void demand(uint64_t good, uint64_t size, int why)
{
    player->bad_offset = good;
    if (good < size && player->pass != HL_PLAY_EMPTY)
        play_fail(why);
}

/* Writes a payload over bytes that must be zero: the first that is not, or n.  Each page is written before it is
 * read, since a page never touched faults twice the other way round. */
static uint64_t write_over_zeros(uint8_t *p, uint64_t n, uint64_t seed)
{
    for (uint64_t i = 0, piece; i < n; i += piece) {
        uint64_t left = PLAY_PAGE - ((uintptr_t)(p + i) & (PLAY_PAGE - 1));
        piece = n - i < left ? n - i : left;
        if (i & 7) { /* the payload's words go on across pages */
            uint64_t to_word = 8 - (i & 7);
            piece = piece < to_word ? piece : to_word;
        } else if (piece > 8) {
            piece &= ~7ull;
        }
        if (__atomic_exchange_n(p + i, 0, __ATOMIC_RELAXED))
            return i;
        uint64_t good = payload_zeros(p + i, piece);
        if (good < piece)
            return i + good;
        uint64_t word = payload_word(seed, i & ~7ull) >> (i & 7) * 8;
        if (i & 7)
            memcpy(p + i, &word, piece);
        else
            payload_fill(p + i, piece, word);
    }
    return n;
}

static void allocate(const self *me, uint64_t row, int op, uint32_t id, uint64_t size)
{
    hl_slot *slot = &slots_of(me->process)[id];
    uint64_t align = events.align[row];
    about(id, 0, size);
    uint8_t *p = call(row, op, NULL, size, align);
    verify_place(p, align);
    uint16_t stamp = payload_stamp(row);
    uint64_t seed = payload_seed(id, stamp);
    if (op == HL_OP_CALLOC && player->pass != HL_PLAY_EMPTY)
        demand(write_over_zeros(p, size, seed), size, HL_PLAY_NOT_ZERO);
    else
        payload_fill(p, size, seed);
    *slot = (hl_slot){.address = (uintptr_t)p & SLOT_MASK,
                      .thread = events.thread[row],
                      .size = size & SLOT_MASK,
                      .stamp = stamp};
    me->process->live += size;
    player->live += size;
}

static void verify(uint32_t id, const hl_slot *slot)
{
    about(id, slot->address, slot->size);
    uint64_t seed = payload_seed(id, slot->stamp);
    demand(payload_agrees((const uint8_t *)(uintptr_t)slot->address, slot->size, seed), slot->size,
           HL_PLAY_WRONG_BYTE);
}

static void reallocate(const self *me, uint64_t row, uint32_t id, uint64_t size)
{
    hl_slot *slot = &slots_of(me->process)[id];
    uint64_t old = slot->size, kept = old < size ? old : size, seed = payload_seed(id, slot->stamp);
    about(id, 0, size);
    uint8_t *p = call(row, HL_OP_REALLOC, subject(slot), size, 0);
    verify_place(p, 0);
    demand(payload_agrees(p, kept, seed), kept, HL_PLAY_WRONG_BYTE);
    payload_fill(p + (kept & ~7ull), size - (kept & ~7ull), payload_word(seed, kept & ~7ull));
    player->remote_frees += slot->thread != events.thread[row];
    slot->address = (uintptr_t)p & SLOT_MASK;
    slot->thread = events.thread[row];
    slot->size = size & SLOT_MASK;
    me->process->live += size - old;
    player->live += size - old;
}

static void release(const self *me, uint64_t row, uint32_t id)
{
    if (id == HL_NULL_ID) {
        call(row, HL_OP_FREE, NULL, 0, 0);
        return;
    }
    hl_slot *slot = &slots_of(me->process)[id];
    verify(id, slot);
    call(row, HL_OP_FREE, subject(slot), 0, 0);
    player->remote_frees += slot->thread != events.thread[row];
    me->process->live -= slot->size;
    player->live -= slot->size;
    slot->address = 0;
}

/* ---- whose turn it is ---- */

static void give_turn(uint32_t number, uint32_t *go)
{
    player->turn = number;
    futex_wake(go);
}

static int is_mine(const self *me, uint64_t row)
{
    if (row == player->events || events.process[row] != me->number)
        return 0;
    return me->is_main ? events.thread[row] == me->process->main_thread : event_actors[row] == me->actor;
}

static uint64_t next_alive(uint64_t number)
{
    while (number < player->born && !processes[number].alive)
        number++;
    return number;
}

static void *play_thread(void *actor);

static void start_thread(uint32_t number, uint32_t actor)
{
    pthread_attr_t attributes;
    pthread_t started;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, ground_stack(actors[actor].number), PLAY_STACK);
    actors[actor].alive = 1;
    actors[actor].go = 0;
    int error = pthread_create(&started, &attributes, play_thread, (void *)(uintptr_t)((uint64_t)number << 32 | actor));
    if (error)
        play_host_fails(error);
    actors[actor].thread = (uint64_t)started;
}

/* Starts the process's other threads, so that what pthread_create takes of the allocator is not in the way of what
 * comes later: it lies at the beginning of the heap. */
static void start_threads(const self *me)
{
    for (uint32_t i = 0; i < me->process->actor_count; i++) {
        uint32_t actor = me->process->first_actor + i;
        if (actors[actor].number != me->process->main_thread)
            start_thread(me->number, actor);
    }
}

/* Lets whose event number `row` is go on.  A thread that is not there any more, since another had its number and has
 * ended, is started by its process. */
static void hand_over(const self *me, uint64_t row)
{
    if (row == player->events) {
        uint64_t first = next_alive(0);
        if (first == player->born)
            play_end(HL_PLAY_DONE);
        give_turn((uint32_t)first, &processes[first].go);
        return;
    }
    uint32_t number = events.process[row], thread = events.thread[row], actor = event_actors[row];
    hl_play_process *p = &processes[number];
    if (thread != p->main_thread && !actors[actor].alive && number == me->number)
        start_thread(number, actor);
    give_turn(number, thread != p->main_thread && actors[actor].alive ? &actors[actor].go : &p->go);
}

/* ---- processes ---- */

static void verify_all(const hl_play_process *p)
{
    const hl_slot *slots = slots_of(p);
    for (uint64_t id = 0; id < p->slot_count; id++)
        if (slots[id].address)
            verify((uint32_t)id, &slots[id]);
}

/* The process has no heap any more. */
static void forget(hl_play_process *p)
{
    verify_all(p);
    memset(slots_of(p), 0, p->slot_count * sizeof(hl_slot));
    player->live -= p->live;
    player->heap -= p->heap;
    p->live = p->heap = 0;
    family_of(p)->members--;
    for (uint32_t i = 0; i < p->actor_count; i++)
        actors[p->first_actor + i].alive = 0;
}

/* The child: makes itself ready. */
static void be_born(self *me, uint32_t number)
{
    hl_play_process *child = &processes[number];
    *me = (self){.number = number, .process = child, .is_main = 1};
    ground_reopen();
    ground_touch();
    if (player->pass == HL_PLAY_EMPTY)
        places_touch();
    child->pid = getpid();
    child->own_faults = ground_faults();
    start_threads(me);
    futex_wake(&child->ready);
}

/* Returns 1 in the child. */
static int fork_process(self *me, uint64_t row)
{
    hl_play_process *parent = me->process, *child = &processes[events.id[row]];
    hl_slot *slots = slots_of(child);
    memset(slots, 0, child->slot_count * sizeof *slots);
    memcpy(slots, slots_of(parent), parent->slot_count * sizeof *slots);
    child->live = parent->live;
    child->heap = parent->heap;
    child->own_data = parent->own_data;
    child->family = parent->family;
    child->main_thread = events.thread[row];
    uint64_t before = anonymous(), faults = ground_faults();
    pid_t pid = fork();
    if (pid < 0)
        play_host_fails(errno);
    if (pid == 0) {
        be_born(me, events.id[row]);
        return 1;
    }
    ground_touch();
    futex_sleep(&child->ready, 0);
    child->alive = 1;
    player->born++;
    player->live += child->live;
    player->heap += child->heap;
    family_of(child)->members++;
    uint64_t after = anonymous();
    family_of(child)->a_child = after > before ? after - before : 0;
    parent->own_faults += ground_faults() - faults;
    return 0;
}

static _Noreturn void execute(self *me)
{
    forget(me->process);
    me->process->main_thread = 0;
    ground_execute(me->number);
}

static _Noreturn void leave(self *me, uint64_t row)
{
    forget(me->process);
    me->process->alive = 0;
    if (next_alive(0) == player->born) { /* so this was the last event */
        end_event();
        play_end(HL_PLAY_DONE);
    }
    player->leaver = me->process->pid;
    player->leaving = HL_LEAVES_PROCESS;
    hand_over(me, row + 1);
    _exit(0);
}

/* This program has just been started: by Python, or by an exec. */
static void begin(self *me)
{
    hl_play_process *p = &processes[started_as];
    *me = (self){.number = (uint32_t)started_as, .process = p, .is_main = 1};
    int executed = p->alive;
    if (player->pass == HL_PLAY_EMPTY) {
        if (executed)
            places_touch();
        else
            places_plan();
        base_faults = ground_faults();
    }
    if (!executed)
        player->born = p->alive = 1;
    p->pid = getpid();
    p->own_data = base_data;
    p->own_faults = base_faults - p->faults;
    p->family = (uint32_t)player->families++;
    *family_of(p) = (hl_play_family){.base = base_anonymous, .members = 1};
    start_threads(me);
    count(p);
    if (executed)
        end_event();
}

/* ---- events ---- */

/* A turn that begins with somebody's end: that event is over when they are gone. */
static void see_off(const self *me)
{
    if (player->leaving == HL_LEAVES_PROCESS) {
        ground_await_end(player->leaver);
    } else if (player->leaving == HL_LEAVES_THREAD) {
        hl_play_actor *gone = &actors[player->leaver];
        pthread_join((pthread_t)gone->thread, NULL);
        gone->alive = 0;
        count(me->process);
    } else {
        return;
    }
    player->leaving = HL_LEAVES_NOBODY;
    end_event();
}

/* Keeps what lives in the process now, and where its heap is. */
static void keep(const self *me)
{
    memcpy(play_at(player->kept_at), slots_of(me->process), me->process->slot_count * sizeof(hl_slot));
    player->kept_process = me->number;
    player->kept_heap_start = watch->heap_start;
    player->kept_heap = watch->heap;
}

/* Carries out an event of this thread's own.  Returns what becomes of the thread: it has the turn still, or has
 * it no more, or is at its end. */
enum { GOES_ON, SLEEPS, ENDED };
static int carry_out(self *me, uint64_t row)
{
    int op = events.op[row];
    uint32_t id = events.id[row];
    uint64_t size = events.size[row];
    switch (op) {
    case HL_OP_FREE:
        release(me, row, id);
        break;
    case HL_OP_REALLOC:
        reallocate(me, row, id, size);
        break;
    case HL_OP_THREAD_EXIT:
        player->operations++;
        if (me->is_main)
            break;
        player->leaver = (int32_t)me->actor;
        player->leaving = HL_LEAVES_THREAD;
        give_turn(me->number, &me->process->go);
        return ENDED;
    case HL_OP_FORK:
        if (fork_process(me, row))
            return SLEEPS;
        break;
    case HL_OP_EXEC:
        execute(me);
    case HL_OP_EXIT:
        leave(me, row);
    default:
        allocate(me, row, op, id, size);
    }
    count(me->process);
    end_event();
    if (watch && player->row == player->keep_after)
        keep(me);
    return GOES_ON;
}

/* Frees every block of the process, and lets the next process do so; the last one ends the pass. */
static void close_down(const self *me)
{
    if (!player->closing) {
        player->closing = 1;
        if (!watch)
            look();
        player->end_heap = player->heap;
        player->end_resident = player->resident;
    }
    hl_play_process *p = me->process;
    hl_slot *slots = slots_of(p);
    verify_all(p);
    for (uint64_t id = 0; id < p->slot_count && player->pass != HL_PLAY_EMPTY; id++)
        if (slots[id].address) {
            uint64_t mems = begin_watching();
            player->calling = 1;
            free(subject(&slots[id]));
            player->calling = 0;
            end_watching(mems);
        }
    count(p);
    uint64_t next = next_alive(me->number + 1);
    if (next < player->born) {
        give_turn((uint32_t)next, &processes[next].go);
        return;
    }
    if (!watch)
        look();
    player->freed_heap = player->heap;
    player->freed_resident = player->resident;
    play_end(HL_PLAY_DONE);
}

/* The life of a thread: it has the turn now if `has_turn`. */
static void take_turns(self *me, int has_turn)
{
    for (;; has_turn = 0) {
        if (!has_turn) {
            uint32_t *go = me->is_main ? &me->process->go : &actors[me->actor].go;
            futex_sleep(go, 0);
            *go = 0;
            see_off(me);
        }
        int state = GOES_ON;
        while (state == GOES_ON && is_mine(me, player->row))
            state = carry_out(me, player->row);
        if (state == ENDED)
            return;
        if (state == SLEEPS)
            continue;
        if (player->row == player->events && me->is_main && (player->closing || next_alive(0) == me->number))
            close_down(me);
        else
            hand_over(me, player->row);
    }
}

static void *play_thread(void *argument)
{
    uint64_t number = (uintptr_t)argument >> 32;
    self me = {.number = (uint32_t)number, .process = &processes[number], .actor = (uint32_t)(uintptr_t)argument};
    take_turns(&me, 0);
    return NULL;
}

void play_space(void)
{
    self me;
    begin(&me);
    take_turns(&me, 1);
    play_end(HL_PLAY_DONE); /* never reached: a main thread does not end before its process */
}

/* A batch has MALLOC, FREE and REALLOC alone, of the only thread: nobody's turn ends. */
void play_duel(void)
{
    self me;
    begin(&me);
    for (ground_await_batch(); player->events; ground_await_batch())
        for (uint64_t row = 0; row < player->events; row++)
            carry_out(&me, row);
    close_down(&me);
    play_end(HL_PLAY_DONE); /* never reached: to close down ends the pass */
}
