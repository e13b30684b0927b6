/* A design from a C file outside of the tree, on the model: what its library and the extension are to each other.
 *
 *   the library      the design, env/model.c, front/ and sources/, compiled anew (heaplab/allocators/written.py)
 *   the extension    the machine, of which there is one
 *
 * The fast path of an access is inlined into the design.  What it calls besides is the extension's, and is handed to the
 * library when that is loaded.  Both read the same structures, so they have to be compiled with the same headers:
 * heaplab/_core/headers.py.
 */
#ifndef HL_ENTRY_WRITTEN_H
#define HL_ENTRY_WRITTEN_H

#include "../heap/heap.h"

/* What the env on the model calls of the machine; mmu.h and machine.h have the contracts. */
typedef struct hl_machine_calls {
    uint64_t (*load_slow)(hl_context *c, uint64_t va, unsigned size);
    int (*store_slow)(hl_context *c, uint64_t va, uint64_t value, unsigned size);
    int (*out_of_fuel)(hl_context *c);
    int (*cas64)(hl_context *c, uint64_t va, uint64_t old, uint64_t new_value);
    int (*copy)(hl_context *c, uint64_t dst, uint64_t src, uint64_t n);
    int (*fill)(hl_context *c, uint64_t dst, uint8_t byte, uint64_t n);
} hl_machine_calls;

/* The library's one function, hl_written: takes the calls, and returns the designs that the file registers, *n of them. */
typedef const hl_design *const *(*hl_written_fn)(const hl_machine_calls *calls, uint64_t *n);

#endif
