/* Next fit that goes round for ever when nothing fits. */
#define NEXT_FIT
#define ENDLESS_LOOP
#include "implicit.c"
