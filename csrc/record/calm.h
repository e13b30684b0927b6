/* What malloc and its kin may not disturb, though the recorder's system calls would: errno, that malloc is no
   cancellation point, and that no signal handler finds the recorder half done. */
#ifndef HEAPLAB_CALM_H
#define HEAPLAB_CALM_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>

struct calm {
    int error;
    int cancelling;
    sigset_t signals;
};

static inline void be_calm(struct calm *calm)
{
    sigset_t all;
    calm->error = errno;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &calm->cancelling);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &calm->signals);
}

static inline void calm_ends(const struct calm *calm)
{
    pthread_sigmask(SIG_SETMASK, &calm->signals, NULL);
    pthread_setcancelstate(calm->cancelling, NULL);
    errno = calm->error;
}

#endif
