/* Size classes: 16 bytes apart up to 128, then eight to a doubling.
 *
 *   class   0   1  ...  7    8    9  ...  15   16   17  ...
 *   bytes  16  32 ... 128  144  160 ... 256  288  320  ...
 *
 * heaplab/allocators/parts/classes.py, the twin, says what rounding up costs.
 */
#ifndef HL_CLASSES_H
#define HL_CLASSES_H

#include <stdint.h>

/* The smallest class with room for `size` bytes.  Neither of the two branches: sizes cannot be predicted. */
static inline unsigned class_of(uint64_t size)
{
    uint64_t last = size - (size != 0); /* 2^k <= last | 128 < 2^(k+1) */
    unsigned k = 63u - (unsigned)__builtin_clzll(last | 128);
    return 8 * (k - 7) + (unsigned)(last >> (k - 3));
}

static inline uint64_t class_size(unsigned c)
{
    unsigned doubling = c / 8, even = !doubling;
    return (9ull - 8 * even + c % 8) << (doubling + even + 3);
}

#endif
