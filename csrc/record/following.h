/* Following a program from image to image: what it does to processes, beside fork.  recorder.c has the log. */
#ifndef HEAPLAB_FOLLOWING_H
#define HEAPLAB_FOLLOWING_H

#include <stdbool.h>
#include <sys/types.h>

/* Find the next library's functions.  Called once, before the program's main. */
void following_begins(void);

/* Log that the process exits now; nothing in a vfork child, which shares its parent's log. */
void record_exit(void);

/* Log that this process has waited for `pid`, which has ended. */
void record_wait(pid_t pid);

/* Return true while this process's calls of malloc are being logged. */
bool is_recorded(void);

#endif
