/* The driver's side of a slot: hand the turn over, and wait for it. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int hl_agent_wait(hl_agent_slot *slot, uint32_t milliseconds)
{
    struct timespec patience = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
    while (__atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) != AGENT_DRIVERS_TURN)
        if (syscall(SYS_futex, &slot->turn, FUTEX_WAIT, AGENT_AGENTS_TURN, &patience, NULL, 0) != 0 &&
            errno != EAGAIN)
            return -errno;
    return 0;
}

int hl_agent_run(hl_agent_slot *slot, uint32_t milliseconds)
{
    __atomic_store_n(&slot->turn, AGENT_AGENTS_TURN, __ATOMIC_RELEASE);
    syscall(SYS_futex, &slot->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
    return hl_agent_wait(slot, milliseconds);
}
