/* Which bytes of a process's memory belong to live blocks: one bit for each 16 bytes.
 *
 * Blocks start at multiples of 16 (the replay refuses all others first).  So two blocks that share a granule of
 * 16 bytes share its first byte that belongs to a block, and a bit a granule finds exactly the overlaps.
 *
 *   address:  63            16 15      4 3    0
 *            | chunk          | granule | byte |
 *
 * The bits of a chunk (64 KiB: 512 bytes of bits) are made when a block first lies there.  A hash table by
 * linear probing finds them; the chunk used last is tried first.
 */
#ifndef HL_REPLAY_SHADOW_H
#define HL_REPLAY_SHADOW_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SHADOW_GRANULE_SHIFT 4
#define SHADOW_CHUNK_SHIFT 12 /* granules in a chunk */
#define SHADOW_CHUNK_BYTES ((1u << SHADOW_CHUNK_SHIFT) / 8)

typedef struct hl_shadow_chunk {
    uint64_t number; /* of the chunk, in the address space */
    uint64_t *bits;  /* NULL: this place of the table is empty */
} hl_shadow_chunk;

typedef struct hl_shadow {
    hl_shadow_chunk *at;
    uint64_t capacity; /* a power of two, or 0; at most half is used */
    uint64_t count;
    hl_shadow_chunk latest;
} hl_shadow;

/* The place of chunk `number`, or the empty place where it belongs.  The table has an empty place. */
static inline hl_shadow_chunk *shadow_place(const hl_shadow *s, uint64_t number)
{
    uint64_t mask = s->capacity - 1, i = (number * 0x9E3779B97F4A7C15ull >> 32) & mask;
    while (s->at[i].bits && s->at[i].number != number)
        i = (i + 1) & mask;
    return &s->at[i];
}

/* Doubles the table: 0, or -1 when the host has no memory. */
static inline int shadow_grow(hl_shadow *s)
{
    hl_shadow grown = {.capacity = s->capacity ? 2 * s->capacity : 16, .count = s->count, .latest = s->latest};
    grown.at = calloc(grown.capacity, sizeof *grown.at);
    if (!grown.at)
        return -1;
    for (uint64_t i = 0; i < s->capacity; i++)
        if (s->at[i].bits)
            *shadow_place(&grown, s->at[i].number) = s->at[i];
    free(s->at);
    *s = grown;
    return 0;
}

/* The bits of chunk `number`, made if need be; NULL when the host has no memory. */
static inline uint64_t *shadow_bits(hl_shadow *s, uint64_t number)
{
    if (s->latest.bits && s->latest.number == number)
        return s->latest.bits;
    if (2 * (s->count + 1) > s->capacity && shadow_grow(s) < 0)
        return NULL;
    hl_shadow_chunk *place = shadow_place(s, number);
    if (!place->bits) {
        uint64_t *bits = calloc(1, SHADOW_CHUNK_BYTES);
        if (!bits)
            return NULL;
        *place = (hl_shadow_chunk){number, bits};
        s->count++;
    }
    s->latest = *place;
    return place->bits;
}

/* Sets (`live`) or clears the bits of the block of n bytes at `address`; a block of 0 bytes counts as 1.
 * 1 when one of the bits was set before, else 0; -1 when the host has no memory.
 * address + n must not wrap around. */
static inline int shadow_mark(hl_shadow *s, uint64_t address, uint64_t n, int live)
{
    uint64_t first = address >> SHADOW_GRANULE_SHIFT, taken = 0;
    uint64_t last = (address + (n ? n : 1) - 1) >> SHADOW_GRANULE_SHIFT, in_chunk = (1u << SHADOW_CHUNK_SHIFT) - 1;
    for (uint64_t end; first <= last; first = end + 1) {
        end = (first | in_chunk) < last ? first | in_chunk : last;
        uint64_t *bits = shadow_bits(s, first >> SHADOW_CHUNK_SHIFT);
        if (!bits)
            return -1;
        uint64_t word = (first & in_chunk) / 64, last_word = (end & in_chunk) / 64;
        uint64_t mask = ~0ull << (first & 63);
        for (; word <= last_word; word++, mask = ~0ull) {
            if (word == last_word)
                mask &= ~0ull >> (63 - (end & 63));
            taken |= bits[word] & mask;
            bits[word] = live ? bits[word] | mask : bits[word] & ~mask;
        }
    }
    return taken != 0;
}

static inline void shadow_clear(hl_shadow *s)
{
    for (uint64_t i = 0; i < s->capacity; i++)
        free(s->at[i].bits);
    free(s->at);
    *s = (hl_shadow){0};
}

/* Makes `to`, which is empty, a copy: 0, or -1 when the host has no memory. */
static inline int shadow_copy(hl_shadow *to, const hl_shadow *from)
{
    for (uint64_t i = 0; i < from->capacity; i++)
        if (from->at[i].bits) {
            uint64_t *bits = shadow_bits(to, from->at[i].number);
            if (!bits) {
                shadow_clear(to);
                return -1;
            }
            memcpy(bits, from->at[i].bits, SHADOW_CHUNK_BYTES);
        }
    return 0;
}

#endif
