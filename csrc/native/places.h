/* Where blocks lie when no allocator is asked: worked out before anything is measured. */
#ifndef HL_NATIVE_PLACES_H
#define HL_NATIVE_PLACES_H

#include "ground.h"

#define PLACE_UNIT 16u

/* The address of the block that the allocation or realloc of this row gives. */
static inline uint64_t place_of(uint64_t row)
{
    return (uintptr_t)PLAY_PLACES + (uint64_t)((const uint32_t *)play_at(player->places_at))[row] * PLACE_UNIT;
}

/* Works out the places of all rows, and touches every page of them: sizes are rounded up to classes, and a class's
 * free places are handed out again, the latest first.  Leaves the slots empty. */
void places_plan(void);
/* Touches them again, in a process that is new. */
void places_touch(void);

#endif
