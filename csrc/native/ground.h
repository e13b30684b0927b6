/* What the player stands on: its files, its own memory, what the kernel tells of its processes, and its end.
 *
 * Nothing here calls malloc, and after `ground_start` nothing makes a page of the player's own writable memory
 * come or go.
 */
#ifndef HL_NATIVE_GROUND_H
#define HL_NATIVE_GROUND_H

#include <pthread.h>

#include "../outside/watch.h"
#include "player.h"

#define PLAY_PAGE 4096u
#define PLAY_STACK (64u << 10) /* of each thread but the main one: private, since a fork copies it */
/* Where blocks lie that no allocator placed; the file behind them has holes until they are touched. */
#define PLAY_PLACES ((uint8_t *)0x200000000000)
#define PLAY_PLACES_SIZE (1ull << 36) /* 2^32 units of PLACE_UNIT */

extern hl_player *player;
extern hl_watch *watch; /* in HL_PLAY_WATCHED */
extern hl_events events;
extern const uint32_t *event_actors;
extern hl_play_process *processes;
extern hl_play_actor *actors;

/* The number of the process that the arguments name: 0, or the one that executed this program. */
extern uint64_t started_as;
/* Of this program, before the allocator's library ran: KiB of anonymous memory, writable private pages, faults. */
extern uint64_t base_anonymous, base_data, base_faults;

void *play_at(uint64_t offset); /* of the file of the player */
static inline hl_slot *slots_of(const hl_play_process *p) { return play_at(p->slots); }

/* The end of the player, and of the pass: neither comes back. */
_Noreturn void play_fail(int why);
_Noreturn void play_host_fails(int error);
_Noreturn void play_end(int why);
/* Says that the batch at hand is done, and waits for the next one, which Python tells by a byte of standard input. */
void ground_await_batch(void);
/* The block that a failure is about. */
static inline void about(uint32_t id, uint64_t address, uint64_t size)
{
    player->bad_id = id;
    player->bad_address = address;
    player->bad_size = size;
}

/* Touches every page of the player's own that a new process would fault on: those that fork does not map in the
 * child, and those that it lets the two share until one writes. */
void ground_touch(void);
/* The child of a fork has descriptors of its own. */
void ground_reopen(void);
/* Executes this program anew as process `number`. */
_Noreturn void ground_execute(uint64_t number);
/* The stack of the thread with the trace's number `thread`. */
void *ground_stack(uint32_t thread);

uint64_t ground_faults(void); /* minor faults of this process so far */
uint64_t ground_data(void);   /* its pages of private writable memory, stacks included */
/* KiB of anonymous memory of a process; a frame that n processes share counts 1/n in each. */
uint64_t ground_anonymous(int32_t pid);
/* Waits until a process is gone, with its memory. */
void ground_await_end(int32_t pid);

void futex_sleep(uint32_t *word, uint32_t while_it_is);
void futex_wake(uint32_t *word);

#endif
