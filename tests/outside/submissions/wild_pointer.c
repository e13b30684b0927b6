/* A list of free blocks whose first block has what stood in the payload for a pointer. */
#define EXPLICIT_LIST
#define WILD_POINTER
#include "implicit.c"
