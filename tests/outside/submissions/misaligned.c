/* Payloads lie at multiples of 8, not of 16. */
#define MISALIGNED
#include "implicit.c"
