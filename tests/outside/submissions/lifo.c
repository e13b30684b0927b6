/* Correct: a list of the free blocks, the youngest first. */
#define EXPLICIT_LIST
#include "implicit.c"
