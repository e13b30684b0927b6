/* The rest of a split block is said to be 16 bytes longer than it is. */
#define WRONG_SPLIT
#include "implicit.c"
