/* The seam: all that an allocator may ask of the world below it.
 *
 * The allocators in csrc/heap are written over these functions alone.  On the model (model.h) an address
 * is a number that the MMU translates, and every access is counted.
 *
 *   seam_load / seam_store     8 bytes at an address that is a multiple of 8; one memory reference
 *   seam_copy                  n bytes, the ranges do not overlap
 *   seam_fill_zero             n bytes
 *   seam_sbrk                  moves the break by a signed increment; the old break, or SEAM_FAILED
 *   seam_mmap                  private anonymous memory, zeroed, page-aligned; or SEAM_FAILED
 *   seam_munmap                gives it back
 *   seam_page_size
 *   seam_set_errno             what the C library would set
 *   seam_escape                leaves the heap at once and for good: its metadata is not to be trusted
 *
 * An access that fails (the process was killed) does not return: it leaves the heap like seam_escape.
 */
#ifndef HL_SEAM_H
#define HL_SEAM_H

#include <stdint.h>

#define SEAM_FAILED UINT64_MAX

#include "model.h"

#endif
