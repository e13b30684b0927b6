/* Goes on with NULL when no block fits. */
#define CRASHES
#include "implicit.c"
