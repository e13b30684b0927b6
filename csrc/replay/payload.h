/* What a replay writes into the blocks it is given.
 *
 * Word k (8 bytes) of a block's payload is seed + k * STEP, cut off at the payload's end.  The seed comes from
 * the block's slot and from the event that allocated it, so that two blocks alive at once, or one after the
 * other at the same address, agree nowhere: whoever writes into another's block, loses a part of it, or moves
 * it by some bytes is found out.  A forked child's blocks keep their seeds, as they keep their content.
 *
 * These functions work on bytes that are contiguous in the host: a page, or a native block.
 */
#ifndef HL_REPLAY_PAYLOAD_H
#define HL_REPLAY_PAYLOAD_H

#include <stdint.h>
#include <string.h>

#define PAYLOAD_STEP 0x9E3779B97F4A7C15ull /* 2^64 / golden ratio, odd: all eight bytes change */

/* The stamp of the block that event number `event` allocates. */
static inline uint16_t payload_stamp(uint64_t event) { return (uint16_t)((event * PAYLOAD_STEP) >> 48); }

/* A mixture in which every bit of the slot and the stamp moves every bit (the finaliser of MurmurHash3). */
static inline uint64_t payload_seed(uint64_t id, uint64_t stamp)
{
    uint64_t x = (id << 16 | stamp) + PAYLOAD_STEP;
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDull;
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53ull;
    return x ^ x >> 33;
}

/* The word at `offset`, a multiple of 8. */
static inline uint64_t payload_word(uint64_t seed, uint64_t offset) { return seed + offset / 8 * PAYLOAD_STEP; }

/* Writes n bytes, of which the first word is `word`. */
static inline void payload_fill(uint8_t *p, uint64_t n, uint64_t word)
{
    for (; n >= 8; n -= 8, p += 8, word += PAYLOAD_STEP)
        memcpy(p, &word, 8);
    memcpy(p, &word, n);
}

/* How many of the n bytes are what payload_fill wrote, up to the first that is not. */
static inline uint64_t payload_agrees(const uint8_t *p, uint64_t n, uint64_t word)
{
    uint64_t i = 0, found;
    for (; n - i >= 8; i += 8, word += PAYLOAD_STEP) {
        memcpy(&found, p + i, 8);
        if (found != word)
            return i + (uint64_t)__builtin_ctzll(found ^ word) / 8;
    }
    for (; i < n; i++, word >>= 8)
        if (p[i] != (uint8_t)word)
            return i;
    return n;
}

/* How many of the n bytes are zero, up to the first that is not. */
static inline uint64_t payload_zeros(const uint8_t *p, uint64_t n)
{
    uint64_t i = 0, found;
    for (; n - i >= 8; i += 8) {
        memcpy(&found, p + i, 8);
        if (found)
            return i + (uint64_t)__builtin_ctzll(found) / 8;
    }
    while (i < n && !p[i])
        i++;
    return i;
}

#endif
