/* When free blocks are merged, the tag at the beginning is not written. */
#define MISSING_MERGE
#include "implicit.c"
