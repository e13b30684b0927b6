/* Blocks are too small: the tags are forgotten, and the next block's first tag lies in the payload. */
#define OVERFLOW
#include "implicit.c"
