/* Call stacks: which functions asked for a block. */
#ifndef HEAPLAB_STACKS_H
#define HEAPLAB_STACKS_H

#include <stdbool.h>
#include <stdint.h>

#define MAX_FRAMES 24u

struct stack {
    uint64_t hash; /* of the frames, 48 bits, not 0 */
    unsigned count;
    uint64_t frames[MAX_FRAMES]; /* return addresses, the innermost first, without the recorder's own */
};

/* Prepare: called once in a process that has not allocated anything with stacks yet. */
void stacks_begin(void);

/* A forked child's log has none of its parent's stacks. */
void forget_stacks(void);

/* The stack of who called the recorder. */
void take_stack(struct stack *stack);

/* Return true the first time for each hash (more than once if the table is full or threads race). */
bool is_new_stack(uint64_t hash);

/* Call `found` with start and path of the file that `address` is from, if it is the first from there. */
void find_module(uint64_t address, void (*found)(uint64_t start, const char *path));

#endif
