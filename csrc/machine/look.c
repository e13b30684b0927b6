/* Looking into a space: page walks that leave no trace, and questions to the kernel where no entry is.
 *
 * Nothing is remembered from one load to the next, so that nothing can be stale. */
#include "look.h"

#include <stdlib.h>

#include "mmu.h"

hl_context *hl_look_new(hl_space *s, void *handle)
{
    hl_context *c = hl_context_new(s, handle);
    hl_look *look = c ? calloc(1, sizeof *look + s->machine->page_size) : NULL;
    if (!look) {
        free(c);
        return NULL;
    }
    look->context = c;
    look->nowhere.machine = s->machine;
    look->next = s->looks;
    if (s->looks)
        s->looks->previous = look;
    s->looks = look;
    c->look = look;
    hl_choose_tlb(c);
    return c;
}

static void leave(hl_look *look)
{
    hl_space *s = look->context->space;
    if (s == &look->nowhere)
        return;
    if (look->previous)
        look->previous->next = look->next;
    else
        s->looks = look->next;
    if (look->next)
        look->next->previous = look->previous;
    hl_context_switch(look->context, &look->nowhere);
}

void hl_look_away(hl_space *s)
{
    while (s->looks)
        leave(s->looks);
}

void hl_look_end(hl_context *c)
{
    if (c->look) {
        leave(c->look);
        free(c->look);
    }
}

uint8_t *hl_look_at(hl_context *c, uint64_t va, int write)
{
    hl_machine *m = c->machine;
    hl_look *look = c->look;
    uint64_t offset = va & ~c->page_mask, frame = HL_LOOK_UNREADABLE;
    if (write) {
        hl_fail(c, HL_LOOKS_ONLY, va);
        return NULL;
    }
    if (c->space != &look->nowhere && !(va >> m->va_bits)) {
        uint64_t entry = hl_pte(c->space, va);
        if (!(entry & HL_PTE_P))
            frame = m->on_look ? m->on_look(c->handle, va, look->page) : HL_LOOK_UNREADABLE;
        else if (entry & HL_PTE_U)
            frame = (entry & HL_PTE_FRAME_MASK) >> HL_PTE_FRAME_SHIFT;
    }
    if (frame == HL_LOOK_PAGE)
        return look->page + offset;
    if (frame < m->frame_count)
        return m->ram + frame * m->page_size + offset;
    hl_fail(c, frame == HL_LOOK_RAISED ? HL_REFUSED : HL_UNREADABLE, va);
    return NULL;
}
