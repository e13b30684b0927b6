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

/* The class of n * 16 bytes, n up to 64: most requests are that small, and a load is shorter than the sum below. */
static const uint8_t few_units[65] = {
    0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16, 17, 17, 18, 18, 19, 19, 20,
    20, 21, 21, 22, 22, 23, 23, 24, 24, 24, 24, 25, 25, 25, 25, 26, 26, 26, 26, 27, 27, 27, 27, 28, 28, 28,
    28, 29, 29, 29, 29, 30, 30, 30, 30, 31, 31, 31, 31,
};

/* The smallest class with room for `size` bytes. */
static inline unsigned class_of(uint64_t size)
{
    if (size <= 1024)
        return few_units[(size + 15) / 16];
    uint64_t last = size - 1; /* 2^k <= last < 2^(k+1) */
    unsigned k = 63u - (unsigned)__builtin_clzll(last);
    return 8 * (k - 7) + (unsigned)(last >> (k - 3));
}

static inline uint64_t class_size(unsigned c)
{
    unsigned doubling = c / 8, even = !doubling;
    return (9ull - 8 * even + c % 8) << (doubling + even + 3);
}

#endif
