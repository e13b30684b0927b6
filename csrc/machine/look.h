/* Contexts that look into a space and change nothing. */
#ifndef HL_LOOK_H
#define HL_LOOK_H

#include "machine.h"

typedef struct hl_look {
    hl_context *context;
    struct hl_look *previous, *next; /* of those that look into the same space */
    hl_space nowhere;                /* what it looks into once that space is gone: nothing */
    uint8_t page[];                  /* the bytes of a page that no frame holds */
} hl_look;

/* The byte at `va` in the host's memory, good for loads up to the page's end and until the next call; NULL when it
 * cannot be seen. */
uint8_t *hl_look_at(hl_context *c, uint64_t va, int write);
/* The space is about to go: whoever looks into it sees nothing from now on. */
void hl_look_away(hl_space *s);
/* The context is about to go. */
void hl_look_end(hl_context *c);

#endif
