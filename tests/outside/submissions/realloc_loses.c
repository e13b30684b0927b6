/* When realloc moves a block, its last eight bytes are lost. */
#define REALLOC_LOSES
#include "implicit.c"
