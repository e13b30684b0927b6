/* The library's side of written.h. */
#include "written.h"

static hl_machine_calls machine;

/* The linker gathers what HEAP_DESIGN has left, and names the ends; without a design there are none. */
#ifdef HL_USUAL
#define FIRST __start_hl_usual_designs
#define BEHIND __stop_hl_usual_designs
#else
#define FIRST __start_hl_designs
#define BEHIND __stop_hl_designs
#endif
extern const hl_design *const FIRST[] __attribute__((weak, visibility("hidden")));
extern const hl_design *const BEHIND[] __attribute__((weak, visibility("hidden")));

__attribute__((visibility("default"))) const hl_design *const *hl_written(const hl_machine_calls *calls, uint64_t *n)
{
    machine = *calls;
    *n = (uint64_t)(BEHIND - FIRST);
    return FIRST;
}

uint64_t hl_load_slow(hl_context *c, uint64_t va, unsigned size) { return machine.load_slow(c, va, size); }

int hl_store_slow(hl_context *c, uint64_t va, uint64_t value, unsigned size)
{
    return machine.store_slow(c, va, value, size);
}

int hl_out_of_fuel(hl_context *c) { return machine.out_of_fuel(c); }

int hl_cas64(hl_context *c, uint64_t va, uint64_t old, uint64_t new_value)
{
    return machine.cas64(c, va, old, new_value);
}

int hl_copy(hl_context *c, uint64_t dst, uint64_t src, uint64_t n) { return machine.copy(c, dst, src, n); }

int hl_fill(hl_context *c, uint64_t dst, uint8_t byte, uint64_t n) { return machine.fill(c, dst, byte, n); }
