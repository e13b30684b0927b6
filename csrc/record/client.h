/* The recorder's side of the talk with the monitor.  Nothing here allocates, locks, or keeps a descriptor. */
#ifndef HEAPLAB_CLIENT_H
#define HEAPLAB_CLIENT_H

#include <stdbool.h>
#include "monitor.h"

/* Where the monitor is, from the environment, once.  Returns false when nobody records. */
bool find_monitor(void);

/* The variable that says where the monitor is, as NAME=VALUE; empty before find_monitor. */
extern char monitor_variable[];

/* Send `ask`, its token and `self` filled in here, with `text`, which may be NULL; receive the answer.
   `*file` becomes the descriptor that came along, or -1.  Returns false and errno when the monitor does not
   answer, or refuses. */
bool ask_monitor(struct ask *ask, const char *text, struct answer *answer, int *file);

/* Send `ask` with `text` and do not wait for the monitor to receive it. */
void tell_monitor(struct ask *ask, const char *text);

#endif
