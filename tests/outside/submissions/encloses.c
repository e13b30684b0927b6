/* A freed block takes the next one with it, also an allocated one: a later block encloses that. */
#define ENCLOSES
#include "implicit.c"
