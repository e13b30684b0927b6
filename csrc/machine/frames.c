/* Frames: who has them, how many, and the free ones. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "look.h"

#define ASIDS 65536
#define JUNK 0xA5 /* what a freed frame holds when the machine poisons */

static int power_of_two(uint64_t n) { return n && !(n & (n - 1)); }

/* Zeroed host memory that costs nothing until it is touched, more of it than the host may have. */
static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* The tables of a machine: of a small one from calloc, where a sanitizer sees their bounds; of a large one as
 * above, for calloc may reuse what was freed, and then touches all of it. */
#define LARGE (1u << 20) /* bytes */

static void *table(uint64_t n, size_t size)
{
    return n * size >= LARGE ? reserve(n * size) : calloc(n, size);
}

static void release(void *table, uint64_t n, size_t size)
{
    if (table && n * size >= LARGE)
        munmap(table, n * size);
    else
        free(table);
}

hl_machine *hl_machine_new(uint64_t frame_count, uint64_t page_size, uint64_t tlb_size, int poison)
{
    if (!power_of_two(page_size) || page_size < 64 || page_size > 4096 || !power_of_two(tlb_size) ||
        frame_count == 0 || frame_count > UINT32_MAX) {
        errno = EINVAL;
        return NULL;
    }
    hl_machine *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->page_size = page_size;
    m->page_shift = (unsigned)__builtin_ctzll(page_size);
    m->index_bits = m->page_shift - 3;
    m->va_bits = m->page_shift + HL_LEVELS * m->index_bits;
    m->frame_count = frame_count;
    m->tlb_size = tlb_size;
    m->poison = poison;
    m->ram = reserve(frame_count * page_size);
    /* fewer faults and TLB misses of the host's; where it has no huge pages, nothing is lost */
    if (m->ram)
        madvise(m->ram, frame_count * page_size, MADV_HUGEPAGE);
    m->refcount = table(frame_count, sizeof *m->refcount);
    m->mapcount = table(frame_count, sizeof *m->mapcount);
    m->kind = table(frame_count, sizeof *m->kind);
    m->flags = table(frame_count, sizeof *m->flags);
    m->origin = table(frame_count, sizeof *m->origin);
    m->held = table(frame_count, sizeof *m->held);
    m->free_stack = table(frame_count, sizeof *m->free_stack);
    m->tlb = aligned_alloc(sizeof *m->tlb, tlb_size * sizeof *m->tlb); /* no entry in two cache lines */
    m->spaces = calloc(ASIDS, sizeof *m->spaces);
    m->used[HL_FREE] = frame_count;
    if (!m->ram || !m->refcount || !m->mapcount || !m->kind || !m->flags || !m->origin || !m->held ||
        !m->free_stack || !m->tlb || !m->spaces) {
        hl_machine_delete(m);
        errno = ENOMEM;
        return NULL;
    }
    memset(m->tlb, 0xFF, tlb_size * sizeof *m->tlb);
    return m;
}

void hl_machine_delete(hl_machine *m)
{
    if (!m)
        return;
    if (m->spaces)
        for (uint64_t asid = 0; asid < ASIDS; asid++)
            if (m->spaces[asid]) {
                hl_look_away(m->spaces[asid]);
                free(m->spaces[asid]);
            }
    if (m->ram)
        munmap(m->ram, m->frame_count * m->page_size);
    release(m->refcount, m->frame_count, sizeof *m->refcount);
    release(m->mapcount, m->frame_count, sizeof *m->mapcount);
    release(m->kind, m->frame_count, sizeof *m->kind);
    release(m->flags, m->frame_count, sizeof *m->flags);
    release(m->origin, m->frame_count, sizeof *m->origin);
    release(m->held, m->frame_count, sizeof *m->held);
    release(m->free_stack, m->frame_count, sizeof *m->free_stack);
    free(m->tlb);
    free(m->spaces);
    free(m);
}

uint64_t hl_frames_free(const hl_machine *m) { return m->used[HL_FREE]; }

uint64_t hl_frame_alloc(hl_machine *m, int kind, int zero)
{
    uint64_t frame;
    int clean = 0;
    if (m->free_stacked) {
        frame = m->free_stack[--m->free_stacked];
    } else if (m->fresh < m->frame_count) {
        frame = m->fresh++;
        clean = 1;
    } else {
        return HL_NO_FRAME;
    }
    if (zero && !clean)
        memset(m->ram + frame * m->page_size, 0, m->page_size);
    m->refcount[frame] = 1;
    m->mapcount[frame] = 0;
    m->kind[frame] = (uint8_t)kind;
    m->flags[frame] = 0;
    m->origin[frame] = ++m->origins;
    m->used[HL_FREE]--;
    m->used[kind]++;
    if (kind == HL_ANON && m->used[HL_ANON] > m->peak_anon)
        m->peak_anon = m->used[HL_ANON];
    return frame;
}

void hl_frame_get(hl_machine *m, uint64_t frame) { m->refcount[frame]++; }

void hl_frame_put(hl_machine *m, uint64_t frame)
{
    if (--m->refcount[frame])
        return;
    if (m->poison)
        memset(m->ram + frame * m->page_size, JUNK, m->page_size);
    m->used[m->kind[frame]]--;
    m->used[HL_FREE]++;
    m->kind[frame] = HL_FREE;
    m->free_stack[m->free_stacked++] = (uint32_t)frame;
}
