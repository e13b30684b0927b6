/* Sealed headers: eight bytes that say whether they are what was once written at this address.
 *
 *   63          48 47                                  0
 *   +-------------+------------------------------------+
 *   |    seal     |  tag: whatever the design keeps    |
 *   +-------------+------------------------------------+
 *
 * heaplab/allocators/seal.py is the twin, and says what gets through.
 */
#ifndef HL_SEAL_H
#define HL_SEAL_H

#include <stdint.h>

#define HL_SEAL_FACTOR 0x9E3779B97F4A7C15ull
#define HL_SEAL_TAG ((1ull << 48) - 1)

/* The header that carries `tag` (48 bits) for the block at `address`. */
static inline uint64_t hl_seal(uint64_t address, uint64_t tag)
{
    return tag | (((address ^ tag) * HL_SEAL_FACTOR) & ~HL_SEAL_TAG);
}

static inline int hl_is_sealed(uint64_t address, uint64_t header)
{
    return header == hl_seal(address, header & HL_SEAL_TAG);
}

#endif
