/* The world as a heap sees it: all that an allocator may ask of what lies below it.
 *
 * The allocators are written over these functions alone.  On the model (model.h) an address is a number that
 * the MMU translates, and every reference is counted.
 *
 *   memory
 *   env_load / env_store     8 bytes at an address that is a multiple of 8; one memory reference
 *   env_cas                  stores `new` if `old` stands there, as one step: 1, or 0; a load, and a store if it
 *                            stores; a write to the page in any case
 *   env_publish              a store after all that was stored before it: what a thread stored until then is seen by
 *                            the one whose env_cas finds the value
 *   env_copy                 n bytes; the ranges do not overlap
 *   env_zero                 n bytes
 *
 *   the operating system
 *   env_grow                 moves the break by a signed number of bytes: the old break, or ENV_FAILED
 *   env_break                where the break is
 *   env_map                  private anonymous memory, zeroed, at a page: its address, or ENV_FAILED
 *   env_unmap                gives mapped memory back
 *   env_discard              gives the pages back and keeps the addresses: they read as zeros (MADV_DONTNEED)
 *   env_page_size
 *   env_random               64 bits that nobody outside can know
 *
 *   the other threads
 *   env_lock / env_unlock    between the two runs one thread at a time; not to be nested
 *
 *   the caller
 *   env_thread               the number of the thread that called, counted from 0 within its process
 *   env_note / env_set_note  a word that a world may keep for the thread that called; 0 where it keeps none
 *   env_set_errno            what the C library would set
 *   env_escape               leaves the heap at once and for good: its metadata is not to be trusted
 *
 * An access that fails (the process was killed) does not return: it leaves the heap as env_escape does.
 */
#ifndef HL_ENV_H
#define HL_ENV_H

#include <stdint.h>

#define ENV_FAILED UINT64_MAX

/* HEAPLAB_ENV names another world: its header gives the same functions. */
#ifdef HEAPLAB_ENV
#include HEAPLAB_ENV
#else
#include "model.h"
#endif

#endif
