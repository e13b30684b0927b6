/* Correct: the search begins where the last one ended. */
#define NEXT_FIT
#include "implicit.c"
