/* Keeps the contract, and wastes memory: free neighbours stay two blocks.  mm_checkheap says so. */
#define NEVER_MERGES
#include "implicit.c"
