/* Correct, and prints a hundred lines for each malloc. */
#define CHATTERS
#include "implicit.c"
