/* What a course's mm.c defines; for files that come without a mm.h of their own.  mm_init and mm_checkheap are left
 * out: they return an int in some courses, a bool in others, or nothing. */
#ifndef HEAPLAB_MM_H
#define HEAPLAB_MM_H

#ifndef HEAPLAB_OWN_BOOL /* typedef int bool; */
#include <stdbool.h>
#endif
#include <stddef.h>
#include <stdio.h>

void *mm_malloc(size_t size);
void mm_free(void *p);
void *mm_realloc(void *p, size_t size);
void *mm_calloc(size_t count, size_t size);

typedef struct {
    char *teamname;
    char *name1, *id1;
    char *name2, *id2;
} team_t;
extern team_t team;

#endif
