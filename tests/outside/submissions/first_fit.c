/* Correct: the first block that fits. */
#include "implicit.c"
